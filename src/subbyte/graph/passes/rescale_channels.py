"""Move a positive factor per channel from the layers that read a value into the layer that makes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import final

import numpy as np

from subbyte.errors import GraphError
from subbyte.graph.ir import Graph, Node
from subbyte.graph.passes.links import End, Link, Reals, links, rectify_of, rescalable, scaled_inputs, scaled_outputs
from subbyte.graph.passes.protocol import PassResult
from subbyte.graph.passes.rewriter import Rewriter


@final
@dataclass(frozen=True)
class RescaleChannels:
    """Divide the channels of some makers by factors and multiply what their readers make of them by the same.

    ``f(s * x) = s * f(x)`` for ReLU, leaky ReLU and none, pools, means and moves: the function stays the same (Nagel et
    al. 2019, "Data-Free Quantization", section 4.1, positive scaling equivariance). A maker whose activation has other
    bounds keeps them, so its channels may be scaled only as far as the bounds are idle: see ``unbound``.

    Attributes:
        factors: by name of a link's maker, positive, one per channel.
        unbound: makers whose upper bound nothing reaches; it is dropped (ReLU6 becomes ReLU).

    Raises:
        GraphError: a factor is not positive, or names a node that begins no link.
    """

    factors: Mapping[str, Reals] = field(default_factory=dict)
    unbound: frozenset[str] = frozenset()
    name: str = "rescale_channels"
    requires: frozenset[str] = frozenset({"channels_last"})
    ensures: frozenset[str] = frozenset()

    def __call__(self, graph: Graph) -> PassResult:
        rewriter = Rewriter(graph)
        found = {link.maker.name: link for link in links(graph)}
        for name in sorted(self.unbound):
            _drop_bound(rewriter, _known(found, name, graph).maker)
        for name, factors in self.factors.items():
            link = _known(found, name, graph)
            if factors.shape != (link.channels,) or not (np.all(np.isfinite(factors)) and np.all(factors > 0)):
                raise GraphError(
                    f"{name!r} has factors {factors!r}",
                    f"there is one positive factor for each of its {link.channels} channels",
                    "correct the factors",
                    f"graph {graph.name!r}",
                )
            if np.any(factors != 1):
                _rescale(rewriter, link, factors)
        return rewriter.finish()


def _known(found: Mapping[str, Link], name: str, graph: Graph) -> Link:
    if name not in found:
        raise GraphError(
            f"node {name!r} begins no link",
            "channels are rescaled between layers with nothing but pools, moves and rectifiers between them",
            f"name one of {', '.join(sorted(found)) or 'none: the graph has no links'}",
            f"graph {graph.name!r}",
        )
    return found[name]


def _drop_bound(rewriter: Rewriter, maker: Node) -> None:
    node = rewriter.node(maker.name)
    assert isinstance(node.op, End)
    rewriter.replace(node, op=replace(node.op, rectify=replace(rectify_of(node), hi=np.inf)))


def _rescale(rewriter: Rewriter, link: Link, factors: Reals) -> None:
    maker = rewriter.node(link.maker.name)
    rectify = rectify_of(maker)
    if not rescalable(rectify):
        raise GraphError(
            f"node {maker.name!r} has the bounds {rectify.lo}..{rectify.hi}",
            "the channels of a layer are rescaled where its activation is cut at 0 or not at all",
            "leave its factors out",
            f"graph {rewriter.graph.name!r}",
        )
    inverse = 1 / factors
    numbers = [rewriter.revise(n, scaled_outputs(rewriter.known_array(n), inverse)) for n in maker.inputs[1:]]
    rewriter.replace(maker, inputs=[maker.inputs[0], *numbers])
    for reader in link.readers:
        node = rewriter.node(reader.name)
        assert isinstance(node.op, End)
        weight = scaled_inputs(rewriter.known_array(node.inputs[1]), node.op, factors)
        rewriter.replace(node, inputs=[node.inputs[0], rewriter.revise(node.inputs[1], weight), *node.inputs[2:]])
