"""What passes from one graph method to the next: the float network before anything in it is quantized."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import Graph
from subbyte.graph.passes.links import Link, Reals
from subbyte.graph.passes.protocol import Pass, run_passes
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.methods.normals import Normal

Feeds = Mapping[str, npt.NDArray[np.float32]]


class Extremes(NamedTuple):
    """Smallest and largest number of each channel, float64."""

    lo: Reals
    hi: Reals


@dataclass(frozen=True, kw_only=True)
class Network:
    """A prepared float graph and what is known about it.

    Attributes:
        graph: in the float dialect.
        normals: of the results before their activation, by node name, where batch norms say so.
        batches: calibration data; iterated once by every method that measures.
        report: called with (stage, done, total) after every batch that is measured.
        synthetic: whether the batches were made from the network's own statistics.
    """

    graph: Graph
    normals: Mapping[str, Normal] = field(default_factory=dict)
    batches: Iterable[Feeds] = ()
    report: Callable[[str, int, int], None] = lambda stage, done, total: None
    synthetic: bool = False

    def rewritten(self, rewrite: Pass, normals: Mapping[str, Normal]) -> Network:
        """The network after a pass."""
        return replace(self, graph=run_passes(self.graph, [rewrite]).graph, normals=normals)

    def measure(self, found: Iterable[Link]) -> dict[str, Extremes]:
        """Extremes of what the makers of some links make, by name, over the calibration data."""
        values = {link.maker.output: link.maker.name for link in found}
        extremes: dict[str, Extremes] = {}
        if not values:
            return extremes
        executor = FloatExecutor(self.graph)
        for done, feeds in enumerate(self.batches, 1):
            for value, tensor in executor.run(feeds).items():
                if value in values:
                    flat = tensor.detach().reshape(-1, tensor.shape[-1]).double()
                    now = Extremes(flat.amin(dim=0).numpy(), flat.amax(dim=0).numpy())
                    old = extremes.get(values[value], now)
                    extremes[values[value]] = Extremes(np.minimum(old.lo, now.lo), np.maximum(old.hi, now.hi))
            self.report("measure channels", done, 0)
        return extremes


GraphMethod: TypeAlias = Callable[[Network], Network]
"""One step before calibration; the function of the network stays the same."""
