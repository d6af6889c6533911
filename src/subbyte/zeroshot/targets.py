"""What a network remembers of its training data: mean and variance in front of every batch norm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from subbyte.errors import GraphError
from subbyte.graph.ir import Graph, Node
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.passes.dead_code import DeadCode
from subbyte.graph.passes.fold_constants import FoldConstants
from subbyte.graph.verify import place_of, verify

Floats = npt.NDArray[np.float64]

CONSTANT = 1e-6
"""A channel whose variance is at most this share of its layer's largest is constant: it says nothing about inputs."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """The statistics that one batch norm keeps of its operand.

    Attributes:
        node: name of the batch norm.
        value: name of its operand.
        axis: of the channels.
        channels: numbers of the channels that vary; constant and dead ones are left out.
        mean: of these channels, float64.
        var: of these channels, positive.
    """

    node: str
    value: str
    axis: int
    channels: npt.NDArray[np.int64]
    mean: Floats
    var: Floats


def find_targets(model: Graph) -> tuple[Graph, list[Target]]:
    """The part of a float graph that leads to batch norms, and what each of them remembers.

    Args:
        model: as a front end built it: ``prepare`` would fold the batch norms away.

    Returns:
        a graph whose outputs are the targets' values, and the targets in execution order.

    Raises:
        GraphError: no batch norm, none with a channel that varies, or one with statistics that cannot be.
    """
    graph = FoldConstants()(model).graph
    verify(graph, "float")
    nodes = [n for n in graph if isinstance(n.op, BatchNorm)]
    if not nodes:
        raise _nothing_kept(graph)
    targets = [t for t in (_target(graph, n) for n in nodes) if t.channels.size]
    if not targets:
        raise GraphError(
            f"all {len(nodes)} batch norms keep a variance of 0",
            "synthetic data needs channels that varied in training",
            "give unlabelled samples, or synthesize noise (method uniform or normal)",
            f"graph {graph.name!r}",
        )
    values = tuple(dict.fromkeys(t.value for t in targets))
    return DeadCode()(graph.evolve(outputs=values)).graph, targets


def _target(graph: Graph, node: Node) -> Target:
    mean, var = (np.asarray(graph.constants[name], np.float64) for name in node.inputs[3:5])
    if not (np.isfinite(mean).all() and np.isfinite(var).all() and (var >= 0).all()):
        raise GraphError(
            f"the statistics of {node.name!r} hold NaN, infinities or variances below 0",
            "means are finite and variances are 0 or more",
            "train or export the network again",
            place_of(graph, node),
        )
    channels = np.flatnonzero(var > CONSTANT * var.max(initial=0.0))
    assert isinstance(node.op, BatchNorm)
    return Target(
        node=node.name,
        value=node.inputs[0],
        axis=node.op.axis,
        channels=channels,
        mean=mean[channels],
        var=var[channels],
    )


def _nothing_kept(graph: Graph) -> GraphError:
    layers = [n for n in graph if isinstance(n.op, Conv | Linear)]
    biased = sum(len(n.inputs) > 2 for n in layers)
    seen = f"the network holds no batch norm ({biased} of its {len(layers)} layers have a bias"
    if any(isinstance(n.op, Conv) for n in layers) and biased:
        seen += ", which is where an ONNX export folds batch norms"
    return GraphError(
        seen + ")",
        "synthetic data comes from the means and variances that batch norms keep",
        "export the network with its batch norms (training=torch.onnx.TrainingMode.PRESERVE, "
        "do_constant_folding=False), trace the torch module, give unlabelled samples, or synthesize noise "
        "(method uniform or normal)",
        f"graph {graph.name!r}",
    )
