"""What a call from Python takes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.boundary import dequantize
from subbyte.graph.ir import Graph, IntType
from subbyte.model import QuantizedModel

Array = npt.NDArray[Any]
Clock = Callable[[], int]

SECONDS = 1.0
"""How long calls are repeated where nobody says how often."""

LEAST, MOST = 10, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Microseconds of many calls.

    Attributes:
        least: of the fastest.
        median: of all.
        p90: that nine in ten stay below.
        count: how many there were.
    """

    least: float
    median: float
    p90: float
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    """One sample at a time through the native engine.

    Attributes:
        codes: calls with ready stored integers.
        floats: calls with float32, which are encoded and decoded.
        per_second: samples with ready stored integers, at the median.
        isa: instruction set of the kernels.
        threads: of a call.
        arena_bytes: memory of all activations.
        weight_bytes: memory of the weights, as the kernels read them.
    """

    codes: Spread
    floats: Spread
    per_second: float
    isa: str
    threads: int
    arena_bytes: int
    weight_bytes: int


def latency(model: QuantizedModel, repeats: int | None = None, seed: int = 0) -> Latency:
    """Time a model on random inputs; ``repeats`` calls, or about a second of them."""
    codes = random_codes(model.graph, seed)
    floats = {name: _reals(model.graph, name, q) for name, q in codes.items()}
    engine = model.engine
    of_codes = spread(timed(lambda: engine.run(codes), repeats))
    return Latency(
        codes=of_codes,
        floats=spread(timed(lambda: model(floats), repeats)),
        per_second=1e6 / of_codes.median,
        isa=engine.isa,
        threads=engine.threads,
        arena_bytes=engine.arena_bytes,
        weight_bytes=engine.weight_bytes,
    )


def random_codes(graph: Graph, seed: int) -> dict[str, Array]:
    """One sample of stored integers for every input."""
    rng = np.random.default_rng(seed)
    codes = {}
    for name in graph.inputs:
        kind = graph.types[name]
        assert isinstance(kind, IntType)
        shape = (1, *(d for d in kind.shape[1:] if d is not None))
        codes[name] = rng.integers(kind.lo, kind.hi + 1, shape).astype(kind.storage)
    return codes


def _reals(graph: Graph, name: str, codes: Array) -> Array:
    kind = graph.types[name]
    assert isinstance(kind, IntType)
    return dequantize(codes, kind.scale, kind.zero_point)


def timed(call: Callable[[], object], repeats: int | None, clock: Clock = time.perf_counter_ns) -> list[int]:
    """Nanoseconds of each of ``repeats`` calls, or of as many as fit into a second; two are made before."""
    call()
    call()
    times: list[int] = []
    begin = clock()
    while len(times) < (LEAST if repeats is None else repeats) or (
        repeats is None and len(times) < MOST and clock() - begin < SECONDS * 1e9
    ):
        before = clock()
        call()
        times.append(clock() - before)
    return times


def spread(times: Sequence[int]) -> Spread:
    """Of nanoseconds, in microseconds."""
    ordered = sorted(times)
    middle = float(np.median(ordered))
    p90 = ordered[min(math.ceil(0.9 * len(ordered)), len(ordered)) - 1]
    return Spread(least=ordered[0] / 1e3, median=middle / 1e3, p90=p90 / 1e3, count=len(ordered))
