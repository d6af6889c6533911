"""One engine, many threads, for long: the same integers every time, memory that does not grow, nobody left waiting."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import pytest

from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels.test_engine import feeds
from tests.kernels.test_movement import network
from tests.limits import examples

CALLERS = 8
RUNS = examples(10_000)
"""Of each caller."""

PATIENCE = 60 + RUNS / 20
"""Seconds after which a caller that is not done counts as stuck."""

MOST_GROWTH = 4 << 20
"""Bytes of resident memory: a result that is not freed is more, even in the shortest soak."""

STATM = Path("/proc/self/statm")


def resident() -> int:
    """Bytes that this process has in memory."""
    gc.collect()
    return int(STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGESIZE")


class Caller(threading.Thread):
    """Calls the engine with inputs of its own and compares; a daemon, so that a stuck one ends with the process."""

    def __init__(self, engine: Engine, seed: int, want: dict[str, bytes]) -> None:
        super().__init__(daemon=True)
        self.engine, self.seed, self.want = engine, seed, want
        self.runs = self.wrong = 0

    def run(self) -> None:
        codes, threads = feeds(1 + self.seed % 5, self.seed), 1 + self.seed % 3
        for _ in range(RUNS):
            got = self.engine.run(codes, threads=threads)
            self.runs += 1
            self.wrong += any(got[name].tobytes() != want for name, want in self.want.items())


def soak(engine: Engine, wanted: list[dict[str, bytes]]) -> list[Caller]:
    """Let all callers go at once; fails if one does not come back."""
    callers = [Caller(engine, seed, want) for seed, want in enumerate(wanted)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join(PATIENCE)
    assert not any(caller.is_alive() for caller in callers), [caller.runs for caller in callers]
    return callers


@pytest.mark.skipif(not STATM.exists(), reason="resident memory is read from /proc")
def test_one_engine_for_long_in_many_threads() -> None:
    graph = network(1)
    engine = Engine(graph, threads=2)
    references = [run_reference(graph, feeds(1 + seed % 5, seed)) for seed in range(CALLERS)]
    wanted = [{name: array.tobytes() for name, array in reference.items()} for reference in references]
    sizes = [sum(len(content) for content in want.values()) for want in wanted]
    assert RUNS < 1000 or RUNS * sum(sizes) > 2 * MOST_GROWTH
    soak(engine, wanted)
    before = resident()
    callers = soak(engine, wanted)
    assert [caller.runs for caller in callers] == [RUNS] * CALLERS
    assert [caller.wrong for caller in callers] == [0] * CALLERS
    assert resident() - before < MOST_GROWTH
