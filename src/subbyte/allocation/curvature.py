"""How much the loss bends with each layer's weights: Hessian traces with standard errors, and Fisher diagonals.

The loss compares the network with itself as trained: Kullback-Leibler divergence of the class probabilities, or half
the squared error of the answer. No label is needed. At the trained weights the loss and its gradient are zero, so the
Hessian equals the Gauss-Newton matrix and is positive semidefinite.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError
from subbyte.graph.answer import Answer, Kind, find_answer
from subbyte.graph.ir import Graph
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.recipe import LAYER_OPERATORS

if TYPE_CHECKING:
    import torch

Reals = npt.NDArray[np.float64]
Feeds = Mapping[str, npt.NDArray[np.float32]]
Report = Callable[[str, int, int], None]

CHUNK = 32
"""Samples in memory at once."""

_SIGNIFICANT = 4.0
"""A trace below zero by more standard errors than this is no accident."""


@dataclass(frozen=True, kw_only=True)
class Trace:
    """An estimated trace.

    Attributes:
        mean: over the probes.
        error: its standard error.
        weights: number of weights, the length of the diagonal.
    """

    mean: float
    error: float
    weights: int

    @property
    def per_weight(self) -> float:
        """Mean of the diagonal, HAWQ-V2's sensitivity; never negative."""
        return max(self.mean, 0.0) / self.weights


def hessian_traces(
    graph: Graph,
    feeds: Feeds,
    *,
    probes: int = 32,
    kind: Kind | None = None,
    seed: int = 0,
    progress: Report = lambda stage, done, total: None,
) -> dict[str, Trace]:
    """Trace of each layer's block of the Hessian (Hutchinson 1990; used for widths in HAWQ-V2, Dong et al. 2020).

    The mean of v . Hv over random signs v, by a second backward pass. One probe serves all layers: their signs are
    independent, so other layers' blocks vanish in the mean.

    Args:
        graph: prepared float graph.
        feeds: float32 samples by input name.
        probes: at least 2.
        kind: of the loss: ``classes`` takes the divergence, ``reals`` half the squared error; None looks at the graph.
        seed: of the signs.
        progress: called after every probe.

    Raises:
        DataError: fewer than 2 probes, the answer depends on no layer, or curvature below zero, which no trained
            network has at its own answers.
    """
    if probes < 2:
        raise DataError(f"{probes} probes", "a standard error needs 2 or more", "use 32")
    net = _Net(graph, feeds, kind)
    generator = np.random.default_rng(seed)
    found = np.empty((probes, len(net.names)))
    for k in range(probes):
        signs = [net.like(i, generator.integers(0, 2, net.shape(i)) * 2.0 - 1.0) for i in range(len(net.names))]
        products = net.hessian_times(signs)
        found[k] = [float((v.double() * p.double()).sum()) for v, p in zip(signs, products, strict=True)]
        progress("hessian traces", k + 1, probes)
    means, errors = found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(probes)
    traces = {
        name: Trace(mean=float(m), error=float(e), weights=math.prod(net.shape(i)))
        for i, (name, m, e) in enumerate(zip(net.names, means, errors, strict=True))
    }
    for name, trace in traces.items():
        if not math.isfinite(trace.mean) or trace.mean < -_SIGNIFICANT * trace.error - 1e-9:
            raise _not_positive(name, trace)
    return traces


def fisher_diagonals(
    graph: Graph, feeds: Feeds, *, probes: int = 8, kind: Kind | None = None, seed: int = 0
) -> dict[str, Reals]:
    """Diagonal of the Fisher information of each layer's weights, shaped like them; label-free.

    Answers are drawn from the network's own distribution (classes by their probabilities, reals with unit variance):
    the diagonal's expectation is that of the Hessian above. Random signs per sample let one backward pass serve a
    whole chunk: products of different samples vanish in the mean.

    Raises:
        DataError: the answer depends on no layer.
    """
    net = _Net(graph, feeds, kind)
    generator = np.random.default_rng(seed)
    sums = [np.zeros(net.shape(i)) for i in range(len(net.names))]
    for _ in range(probes):
        for scores in net.chunks():
            noise = _score_noise(scores, net.kind, generator)
            gradients = net.gradients((scores * noise).sum())
            sums = [s + np.square(g.double().numpy()) for s, g in zip(sums, gradients, strict=True)]
    return {name: s / (probes * net.samples) for name, s in zip(net.names, sums, strict=True)}


def _score_noise(scores: torch.Tensor, kind: Kind, generator: np.random.Generator) -> torch.Tensor:
    """Signed derivative of the log-likelihood of a drawn answer, by the scores."""
    import torch

    if kind == "reals":
        return torch.from_numpy(generator.standard_normal(tuple(scores.shape)).astype(np.float32))
    p = torch.softmax(scores.detach().double(), dim=1).numpy()
    drawn = (p.cumsum(axis=1) < generator.random((len(p), 1))).sum(axis=1).clip(max=p.shape[1] - 1)
    signs = generator.integers(0, 2, (len(p), 1)) * 2.0 - 1.0
    return torch.from_numpy((signs * (np.eye(p.shape[1])[drawn] - p)).astype(np.float32))


class _Net:
    """The float network with its layers' weights as variables."""

    def __init__(self, graph: Graph, feeds: Feeds, kind: Kind | None) -> None:
        self.executor = FloatExecutor(graph)
        self.answer: Answer = find_answer(graph)
        self.kind: Kind = kind or self.answer.kind
        self.feeds = feeds
        self.samples = len(next(iter(feeds.values())))
        reached = _ancestors(graph, self.answer.value)
        layers = [n for n in graph if n.op.name in LAYER_OPERATORS and n.name in reached]
        if not layers:
            raise DataError("the answer depends on no layer", "sensitivities belong to layers", "pass another network")
        self.names = [n.name for n in layers]
        self.weights = []
        for node in layers:
            # A weight that two layers share gets a variable for each: they are quantized apart.
            weight = self.executor.constants[node.inputs[1]].clone().requires_grad_(True)
            self.weights.append(weight)
        self.variables = {n.name: (n.inputs[1], w) for n, w in zip(layers, self.weights, strict=True)}

    def shape(self, i: int) -> tuple[int, ...]:
        """Shape of a layer's weights."""
        return tuple(self.weights[i].shape)

    def like(self, i: int, array: npt.NDArray[np.floating[Any]]) -> torch.Tensor:
        """An array as a float32 tensor."""
        import torch

        del i
        return torch.from_numpy(array.astype(np.float32))

    def chunks(self) -> Iterator[torch.Tensor]:
        """Scores [samples, classes or reals] of each chunk, differentiable in the weights."""
        for start in range(0, self.samples, CHUNK):
            yield self._scores({n: x[start : start + CHUNK] for n, x in self.feeds.items()})

    def _scores(self, feeds: Feeds) -> torch.Tensor:
        import torch

        env: dict[str, torch.Tensor] = {n: torch.tensor(x, dtype=torch.float32) for n, x in feeds.items()}
        for node in self.executor.graph:
            if node.name in self.variables:
                constant, weight = self.variables[node.name]
                env[node.output] = self.executor.step(node, {**env, constant: weight})
            else:
                env[node.output] = self.executor.step(node, env)
            if node.output == self.answer.value:
                break
        return env[self.answer.value].reshape(len(next(iter(feeds.values()))), -1)

    def gradients(self, loss: torch.Tensor) -> Sequence[torch.Tensor]:
        """Of a loss by each layer's weights."""
        import torch

        return torch.autograd.grad(loss, self.weights)

    def hessian_times(self, directions: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Hessian of the mean loss times a direction per layer."""
        import torch

        totals = [torch.zeros_like(w) for w in self.weights]
        for scores in self.chunks():
            gradients = torch.autograd.grad(self._loss(scores), self.weights, create_graph=True)
            along = sum(((g * v).sum() for g, v in zip(gradients, directions, strict=True)), torch.zeros(()))
            totals = [t + p for t, p in zip(totals, torch.autograd.grad(along, self.weights), strict=True)]
        return [t / self.samples for t in totals]

    def _loss(self, scores: torch.Tensor) -> torch.Tensor:
        """Summed over the samples, against the same scores taken as fixed."""
        import torch

        if self.kind == "reals":
            return (scores - scores.detach()).square().sum() / 2
        p = torch.softmax(scores.detach(), dim=1)
        return -(p * torch.log_softmax(scores, dim=1)).sum()


def _ancestors(graph: Graph, value: str) -> set[str]:
    """Names of the nodes that a value depends on."""
    wanted, names = {value}, set()
    for node in reversed(graph.nodes):
        if node.output in wanted:
            names.add(node.name)
            wanted.update(node.inputs)
    return names


def _not_positive(name: str, trace: Trace) -> DataError:
    return DataError(
        f"the Hessian's trace is {trace.mean:.3g} with a standard error of {trace.error:.2g}",
        "a network's own answers are a minimum of the loss: its Hessian is positive semidefinite",
        "check the samples' range and preprocessing, or use sensitivity='divergence'",
        f"layer {name!r}",
    )
