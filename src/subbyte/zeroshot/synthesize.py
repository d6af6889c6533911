"""Samples from nothing but the network: noise, moved by gradients until batch norms see what they saw in training."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError, unknown_name
from subbyte.graph.ir import Graph
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.ingest.data import batches
from subbyte.ingest.preprocess import Preprocess
from subbyte.zeroshot.domain import Domain, Synthetic, Walls, find_walls
from subbyte.zeroshot.losses import LOSSES
from subbyte.zeroshot.noise import even, gusts
from subbyte.zeroshot.targets import Target, find_targets

if TYPE_CHECKING:
    from torch import Tensor

Floats = npt.NDArray[np.float32]
Progress = Callable[[str, int, int], None]

NOISES = ("uniform", "normal")
METHODS = (*LOSSES, *NOISES)

BATCH = 32
"""Samples whose statistics are matched together; fewer where their values would not fit ``MEMORY``."""

MEMORY = 1 << 29
"""Bytes that all values of a batch may take."""

RATE = 0.3
"""First step of Adam in standard deviations of the noise that it starts from; falls to 0 along a cosine."""

WIDTHS = tuple(2.0**-k for k in range(1, 9))
"""Standard deviations of noise to start from, as shares of the domain."""


def synthesize(
    model: Graph,
    *,
    method: str = "kl",
    domain: Domain = None,
    preprocess: Preprocess | None = None,
    samples: int = 256,
    steps: int = 100,
    seed: int = 0,
    progress: Progress | None = None,
) -> Synthetic:
    """Calibration samples made from the network's batch norms; no data is read.

    Args:
        model: float graph from ``load_model`` or ``trace``, with its batch norms.
        method: ``kl`` (Kim et al. 2021, Q-ASR) or ``l2`` (Cai et al. 2020, ZeroQ): distance between the statistics of
            a batch and those that batch norms keep; ``uniform`` or ``normal``: noise inside the domain, a control
            that asks the network nothing.
        domain: smallest and largest number of a sample before preprocessing, ``(0, 255)`` for bytes; a dict of such
            pairs by input name where inputs differ. May be left out where ``preprocess`` scales bytes.
        preprocess: that real samples would need.
        samples: how many.
        steps: of Adam for each batch of up to 32 samples.
        seed: of the noise that the samples start from.
        progress: called with (stage, done, total), in steps.

    Returns:
        float32 samples by input name, batch first, as real ones would come: before preprocessing, in their own
        layout. ``quantize(model, synthesize(model, ...), preprocess=...)`` and ``search`` give inputs their whole
        domain as range.

    Raises:
        DataError: the domain is unknown, a number makes no sense, or the network's values are not finite on noise.
        GraphError: the network keeps no statistics, and the method needs them.
    """
    if method not in METHODS:
        raise DataError(*unknown_name("method of synthetic data", method, METHODS), "synthetic data")
    if samples < 1 or steps < 1 or seed < 0:
        seen = f"{samples} samples, {steps} steps, seed {seed}"
        raise DataError(seen, "samples and steps are 1 or more, a seed is 0 or more", "correct them", "synthetic data")
    walls = find_walls(model, domain, preprocess)
    report = progress or (lambda stage, done, total: None)
    if method in NOISES:
        rng = np.random.default_rng(seed)
        units = {name: even(rng, (samples, *wall.low.shape[1:]), method) for name, wall in walls.items()}
    else:
        units = _matched(model, walls, method, samples, steps, seed, report)
    return Synthetic({n: walls[n].samples(unit) for n, unit in units.items()}, {n: w.ends for n, w in walls.items()})


def mismatch(
    model: Graph, data: Mapping[str, Floats], *, method: str = "kl", preprocess: Preprocess | None = None
) -> dict[str, float]:
    """How far the statistics of samples are from those that batch norms keep, by batch norm.

    Args:
        model: float graph with its batch norms.
        data: samples by input name, before preprocessing, taken as one batch.
        method: ``kl`` (nats) or ``l2`` (squared units of the values); mean over channels that vary.
        preprocess: of the samples.

    Raises:
        SubbyteError: as ``synthesize``; the data does not fit the network.
    """
    import torch

    if method not in LOSSES:
        raise DataError(*unknown_name("distance of statistics", method, LOSSES), "synthetic data")
    graph, targets = find_targets(model)
    count = len(next(iter(data.values())))
    (feed,) = batches(dict(data), graph, batch_size=count, preprocess=preprocess)
    with torch.no_grad():
        env = FloatExecutor(graph).run({name: torch.from_numpy(x) for name, x in feed.items()})
        distances = _Matching(graph, targets, method).distances(env)
    return {t.node: float(d) for t, d in zip(targets, distances, strict=True)}


def _matched(
    model: Graph, walls: Mapping[str, Walls], method: str, samples: int, steps: int, seed: int, report: Progress
) -> dict[str, Floats]:
    """Units by input name, one batch after the other."""
    graph, targets = find_targets(model)
    matching = _Matching(graph, targets, method)
    sizes = list(_sizes(samples, _batch_size(graph)))
    parts: list[dict[str, Floats]] = []
    for index, size in enumerate(sizes):

        def step(done: int, before: int = index * steps) -> None:
            report("synthesize", before + done, steps * len(sizes))

        parts.append(matching.batch(walls, size, steps, np.random.default_rng([seed, index]), step))
    return {name: np.concatenate([part[name] for part in parts]) for name in walls}


def _batch_size(graph: Graph) -> int:
    each = sum(math.prod(d or 1 for d in t.shape) for t in graph.types.values())
    return max(8, min(BATCH, MEMORY // (4 * each)))


def _sizes(samples: int, batch: int) -> Iterator[int]:
    """Batches of nearly one size: a small last one would have poor statistics."""
    count = math.ceil(samples / batch)
    for index in range(count):
        yield samples * (index + 1) // count - samples * index // count


class _Matching:
    """The optimisation of one batch after the other against one network's targets."""

    def __init__(self, graph: Graph, targets: list[Target], method: str) -> None:
        import torch

        self.graph, self.targets, self.loss = graph, targets, LOSSES[method]
        self.executor = FloatExecutor(graph)
        self.kept = [
            (torch.from_numpy(t.channels), torch.from_numpy(t.mean).float(), torch.from_numpy(t.var).float())
            for t in targets
        ]

    def distances(self, env: Mapping[str, Tensor]) -> list[Tensor]:
        """Of each target's statistics, over batch and places."""
        import torch

        found = []
        for target, (channels, mean, var) in zip(self.targets, self.kept, strict=True):
            value = env[target.value]
            others = [axis for axis in range(value.ndim) if axis != target.axis]
            seen_var, seen_mean = torch.var_mean(value, others, correction=0)
            found.append(self.loss(seen_mean[channels], seen_var[channels], mean, var))
        return found

    def total(self, walls: Mapping[str, tuple[Tensor, Tensor]], units: Mapping[str, Tensor]) -> Tensor:
        """Sum of the distances for units between walls."""
        import torch

        feeds = {name: low + (high - low) * units[name] for name, (low, high) in walls.items()}
        return torch.stack(self.distances(self.executor.run(feeds))).sum()

    def batch(
        self,
        walls: Mapping[str, Walls],
        size: int,
        steps: int,
        rng: np.random.Generator,
        step: Callable[[int], None],
    ) -> dict[str, Floats]:
        """Units in 0..1 by input name, after ``steps`` steps of Adam that are clamped to the walls."""
        import torch

        tensors = {name: (torch.from_numpy(w.low), torch.from_numpy(w.high)) for name, w in walls.items()}
        noise = {name: torch.from_numpy(gusts(rng, (size, *w.low.shape[1:]))) for name, w in walls.items()}
        units, width = self._start(tensors, noise)
        variables: list[Any] = [unit.requires_grad_() for unit in units.values()]
        adam = torch.optim.Adam(variables, lr=RATE * width)
        with torch.enable_grad():
            for done in range(steps):
                for group in adam.param_groups:
                    group["lr"] = RATE * width * (1 + math.cos(math.pi * done / steps)) / 2
                slopes = torch.autograd.grad(self.total(tensors, units), variables)
                for unit, slope in zip(variables, slopes, strict=True):
                    unit.grad = slope
                adam.step()
                with torch.no_grad():
                    for unit in variables:
                        unit.clamp_(0, 1)
                step(done + 1)
        return {name: unit.detach().numpy() for name, unit in units.items()}

    def _start(
        self, walls: Mapping[str, tuple[Tensor, Tensor]], noise: Mapping[str, Tensor]
    ) -> tuple[dict[str, Tensor], float]:
        """The noise, placed and scaled as statistics like best: around the middle, or around what is read as 0."""
        import torch

        zero = {n: (-low / (high - low)).clamp(0, 1) for n, (low, high) in walls.items()}
        middle = {n: torch.full_like(z, 0.5) for n, z in zero.items()}
        best: tuple[float, dict[str, Tensor], float] | None = None
        with torch.no_grad():
            for centre in (middle, zero):
                for width in WIDTHS:
                    units = {n: (centre[n] + width * x).clamp(0, 1) for n, x in noise.items()}
                    loss = float(self.total(walls, units))
                    if math.isfinite(loss) and (best is None or loss < best[0]):
                        best = loss, units, width
        if best is None:
            raise DataError(
                "statistics of noise inside the domain are not finite",
                "the network computes finite values on its domain",
                "check the domain and the preprocessing",
                f"graph {self.graph.name!r}",
            )
        return best[1], best[2]
