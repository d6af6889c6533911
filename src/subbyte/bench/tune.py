"""Finds the fastest choices for the layers of a model on this machine, and remembers them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from subbyte.bench.chooser import Choices, Times, choose, ratio
from subbyte.bench.latency import Array, random_codes
from subbyte.errors import RunError
from subbyte.graph.ir import Graph
from subbyte.runtime import tuned
from subbyte.runtime.choices import Choice, Knob
from subbyte.runtime.engine import Engine

ROUNDS = 7
ROUND_NANOSECONDS = 10_000_000
MOST_REPEATS = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuned:
    """What tuning found.

    Attributes:
        isa: instruction set of the kernels.
        layers: with knobs, alike ones counted once.
        winners: ways that beat the usual ones, by layer.
        speedup: usual time / new time of all operators, in the median round.
        path: of the file in which the winners are remembered; None where nothing is gained and nothing was written.
    """

    isa: str
    layers: int
    winners: Mapping[str, Choice]
    speedup: float
    path: Path | None


class EngineBench:
    """Rivals as engines that take turns on one sample."""

    def __init__(self, graph: Graph, codes: Mapping[str, Array], threads: int, rounds: int = ROUNDS) -> None:
        self.graph, self.codes, self.threads, self.rounds = graph, codes, threads, rounds

    def engine(self, choices: Choices) -> Engine:
        """An engine with these choices and nothing remembered."""
        return Engine(self.graph, threads=self.threads, choices=choices)

    def knobs(self, choices: Choices) -> Mapping[str, tuple[Knob, ...]]:
        """See ``Bench``."""
        return self.engine(choices).knobs

    def duel(self, holder: Choices, rival: Choices) -> tuple[Times, Times]:
        """See ``Bench``: in every round the fastest of some runs of each operator."""
        engines = self.engine(holder), self.engine(rival)
        whole = sum(self._times(engines[0], 3).values())
        repeats = min(max(ROUND_NANOSECONDS // max(whole, 1), 3), MOST_REPEATS)
        times: tuple[list[Mapping[str, int]], list[Mapping[str, int]]] = ([], [])
        for turn in range(self.rounds):
            for index in (0, 1) if turn % 2 == 0 else (1, 0):
                times[index].append(self._times(engines[index], repeats))
        return times

    def _times(self, engine: Engine, repeats: int) -> dict[str, int]:
        return {row.name: row.nanoseconds for row in engine.profile(self.codes, repeats)[1:-1]}


def tune(
    graph: Graph, threads: int = 1, report: Callable[[int, str], None] = lambda done, what: None, seed: int = 0
) -> Tuned:
    """Choose for every layer of an integer graph, and remember it for engines that are built from now on.

    Args:
        graph: of the integer dialect.
        threads: to time with.
        report: called before every trial with how many there were and what is tried.
        seed: of the random sample; integers take the same time whatever they are.

    Raises:
        RunError: an engine with other choices gives other integers; nothing is remembered.
        SubbyteError: the file cannot be written.
    """
    bench = EngineBench(graph, random_codes(graph, seed), threads)
    layers = {node.name: tuned.layer_key(graph, node) for node in graph}
    chosen = choose(bench, layers, report)
    winners = {key: choice for key, choice in chosen.items() if choice}
    by_node = {node: winners[key] for node, key in layers.items() if key in winners}
    isa = bench.engine({}).isa
    if not winners:
        return Tuned(isa=isa, layers=len(chosen), winners={}, speedup=1.0, path=None)
    check_bits(bench, by_node)
    before, after = bench.duel({}, by_node)
    speedup = 1 / ratio(before, after, list(layers))
    path = tuned.remember(isa, winners) if speedup > 1 else None
    return Tuned(isa=isa, layers=len(chosen), winners=winners, speedup=speedup, path=path)


def check_bits(bench: EngineBench, choices: Choices) -> None:
    """Raises RunError unless an engine with these choices gives every value of the graph as the usual one does."""
    usual, other = (bench.engine(c).run_all(bench.codes) for c in ({}, choices))
    for name, integers in usual.items():
        if not np.array_equal(integers, other[name]):
            raise RunError(
                f"value {name!r} differs under the choices {dict(choices)}",
                "every choice gives the same integers",
                "report this as a defect of the engine",
                f"graph {bench.graph.name!r}",
            )
