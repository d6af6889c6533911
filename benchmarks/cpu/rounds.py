"""Interleaved timing: in every round each runner gets its turn, and only times of one round are compared.

A shared machine changes its clock and its neighbours by the second, so figures of different moments do not compare.
Per round the fastest call of each runner counts; a ratio is taken inside a round, its median over the rounds.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Output = npt.NDArray[Any]

COLD_BYTES = 128 << 20
"""Read between cold calls: several times any cache of one core's neighbourhood."""


@dataclass(frozen=True, kw_only=True)
class Runner:
    """Something to time.

    Attributes:
        name: in tables.
        kind: ``ours``, ``int8``, ``fp32`` or ``int4``.
        call: runs once; inputs are ready.
        output: the result of a call as an array of reals or stored integers.
        counts: whether the ratios count it as a peer (False where it uses more of the CPU than ours may).
    """

    name: str
    kind: str
    call: Callable[[], object]
    output: Callable[[], Output]
    counts: bool = True


@dataclass
class Times:
    """Microseconds of one runner: the fastest call of each round, and all calls.

    Attributes:
        kind: of the runner.
        counts: as the runner's.
        fastest: call of each round.
        calls: all of them.
        busy: per turn, the share of the time in which this process had a core; below 1 something else ran.
    """

    kind: str
    counts: bool
    fastest: list[float] = field(default_factory=list)
    calls: list[float] = field(default_factory=list)
    busy: list[float] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "kind": self.kind,
            "counts": self.counts,
            "min_us": round(min(self.fastest), 2),
            "median_us": round(float(np.median(self.calls)), 2),
            "busy": round(float(np.median(self.busy)), 3),
        }


def measure(runners: Sequence[Runner], rounds: int, slice_ms: float = 12.0, *, cold: bool = False) -> dict[str, Times]:
    """Time runners against each other.

    Args:
        runners: two or more.
        rounds: how often each gets its turn.
        slice_ms: how long a turn lasts at least, beside one call to warm up; at least two calls.
        cold: push everything out of the caches before every call, so that weights come from memory.
    """
    times = {r.name: Times(r.kind, r.counts) for r in runners}
    clock = time.perf_counter_ns
    pushing = np.ones(COLD_BYTES // 8) if cold else None
    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            for runner in runners:
                call = runner.call
                spent: list[float] = []
                call()
                begin, worked = clock(), time.process_time_ns()
                while len(spent) < 2 or clock() - begin < slice_ms * 1e6:
                    if pushing is not None:
                        pushing.sum()
                    before = clock()
                    call()
                    spent.append((clock() - before) / 1e3)
                times[runner.name].busy.append((time.process_time_ns() - worked) / (clock() - begin))
                times[runner.name].fastest.append(min(spent))
                times[runner.name].calls.extend(spent)
    finally:
        gc.enable()
    return times


def _best(times: Iterable[Times]) -> npt.NDArray[np.float64] | None:
    """The fastest of several runners, round by round."""
    rows = [t.fastest for t in times]
    return np.min(np.array(rows), axis=0) if rows else None


def ratios(times: dict[str, Times]) -> dict[str, dict[str, Any]]:
    """For each of ours: fastest peer / ours, paired per round; over all peers, over int8 and over fp32 ones."""
    peers = {name: t for name, t in times.items() if t.kind != "ours" and t.counts}
    result: dict[str, dict[str, Any]] = {}
    for name, own in times.items():
        if own.kind != "ours":
            continue
        row: dict[str, Any] = {}
        for against in ("peer", "int8", "fp32", "int4"):
            best = _best(t for t in peers.values() if against in {"peer", t.kind} and not _low(against, t.kind))
            if best is not None:
                quotient = best / np.array(own.fastest)
                low, middle, high = np.quantile(quotient, (0.1, 0.5, 0.9))
                row[against] = {
                    "median": round(float(middle), 3),
                    "q10": round(float(low), 3),
                    "q90": round(float(high), 3),
                }
        result[name] = row
    return result


def _low(against: str, kind: str) -> bool:
    """Peers below 8 bits do other work: they are compared only by name."""
    return against == "peer" and kind == "int4"


def pair(times: dict[str, Times], above: str, below: str) -> float:
    """Median over the rounds of time(above) / time(below)."""
    return round(float(np.median(np.array(times[above].fastest) / np.array(times[below].fastest))), 3)
