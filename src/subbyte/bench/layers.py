"""Where a network's time goes."""

from __future__ import annotations

from dataclasses import dataclass

from subbyte.bench.latency import Spread, random_codes, spread, timed
from subbyte.model import QuantizedModel
from subbyte.runtime.profile import LayerProfile

NANOSECONDS = 500_000_000
"""How long the profile runs where nobody says how often."""

LEAST, MOST = 10, 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Breakdown:
    """One sample, operator by operator.

    Attributes:
        layers: see ``Engine.profile``.
        repeats: how often each ran.
        microseconds: sum of the fastest runs.
        call: from Python, with ready stored integers.
        threads: of a call.
    """

    layers: tuple[LayerProfile, ...]
    repeats: int
    microseconds: float
    call: Spread
    threads: int


def breakdown(model: QuantizedModel, repeats: int | None = None, seed: int = 0) -> Breakdown:
    """Profile a model on a random sample, ``repeats`` times or for about half a second."""
    engine, codes = model.engine, random_codes(model.graph, seed)
    if repeats is None:
        once = sum(row.nanoseconds for row in engine.profile(codes, 3))
        repeats = min(max(NANOSECONDS // max(once, 1), LEAST), MOST)
    layers = engine.profile(codes, repeats)
    return Breakdown(
        layers=layers,
        repeats=repeats,
        microseconds=sum(row.nanoseconds for row in layers) / 1e3,
        call=spread(timed(lambda: engine.run(codes), repeats)),
        threads=engine.threads,
    )
