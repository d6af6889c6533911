"""Which family of kernels is fastest for which formats and how many rows, on this machine."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median

from subbyte.bench.latency import random_codes
from subbyte.bench.products import product
from subbyte.graph.ir import Graph
from subbyte.runtime.engine import Engine

ROWS = (1, 4, 16, 64, 256)
SHAPES = ((1024, 1024), (4096, 4096))
QUICK_SHAPES = ((512, 512),)
BASE = "w8a8"
PAIRS = {
    BASE: ("int8", "uint8"),
    "w8a7": ("int8", "uint7"),
    "w5a8": ("int5", "uint8"),
    "w4a8": ("int4", "uint8"),
    "w4a4": ("int4", "uint4"),
    "x31_w17": ("levels17", "levels31"),
    "w3a8": ("int3", "uint8"),
    "w2a8": ("int2", "uint8"),
    "wternary_a8": ("ternary", "uint8"),
    "w2a2": ("int2", "uint2"),
    "w1a8": ("binary", "uint8"),
    "w1a1": ("binary", "uint1"),
}
"""Formats of weights and activations by the recipe's name."""

SHOWN_KNOBS = ("family", "weights")
"""Knobs whose ways are compared; the others stay with the engine."""

ROUNDS = 5
ROUND_NANOSECONDS = 4_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelRow:
    """One product in one pair of formats, one way.

    Attributes:
        rows: M.
        inputs: K.
        outputs: N.
        pair: of formats, as a recipe names it.
        way: of computing, by knob, such as "family dot, weights packed".
        usual: whether engines compute so by themselves.
        microseconds: of the operator, fastest run.
        gmacs: billions of multiply-accumulates per second.
        over_int8: time of the usual 8-bit product of the same shape / this time, in the median round.
        weight_bytes: as kept in memory.
        fastest: whether no other way of this pair was faster.
    """

    rows: int
    inputs: int
    outputs: int
    pair: str
    way: str
    usual: bool
    microseconds: float
    gmacs: float
    over_int8: float
    weight_bytes: int
    fastest: bool


Report = Callable[[str, int, int], None]


def survey(
    *, quick: bool = False, threads: int = 1, report: Report = lambda stage, done, total: None
) -> list[KernelRow]:
    """Time every pair of formats over all shapes; rivals of one shape take turns.

    Args:
        quick: one small shape.
        threads: of the engine.
        report: called with a stage, how much of it is done, and how much there is.
    """
    cases = [(m, *shape) for shape in (QUICK_SHAPES if quick else SHAPES) for m in ROWS]
    found: list[KernelRow] = []
    for done, (rows, inputs, outputs) in enumerate(cases):
        report("kernels", done, len(cases))
        found += _compare(rows, inputs, outputs, threads)
    report("kernels", len(cases), len(cases))
    return found


@dataclass(frozen=True, slots=True)
class _Rival:
    pair: str
    way: str
    usual: bool
    engine: Engine


def _compare(rows: int, inputs: int, outputs: int, threads: int) -> list[KernelRow]:
    rivals = [
        _Rival(pair, way, usual, engine)
        for pair, formats in PAIRS.items()
        for way, usual, engine in _ways(product(rows, inputs, outputs, *formats), threads)
    ]
    codes = {r.pair: random_codes(r.engine.graph, 0) for r in rivals}

    def once(rival: _Rival, repeats: int) -> int:
        return rival.engine.profile(codes[rival.pair], repeats)[1].nanoseconds

    repeats = [max(ROUND_NANOSECONDS // max(once(r, 2), 1), 2) for r in rivals]
    times = [[once(r, min(n, 2000)) for r, n in zip(rivals, repeats, strict=True)] for _ in range(ROUNDS)]
    base = next(i for i, r in enumerate(rivals) if r.pair == BASE and r.usual)
    macs = rows * inputs * outputs
    made = []
    for i, rival in enumerate(rivals):
        best = min(of_round[i] for of_round in times)
        alike = [j for j, other in enumerate(rivals) if other.pair == rival.pair]
        fastest = min(alike, key=lambda j: min(of_round[j] for of_round in times))
        made.append(
            KernelRow(
                rows=rows,
                inputs=inputs,
                outputs=outputs,
                pair=rival.pair,
                way=rival.way,
                usual=rival.usual,
                microseconds=best / 1e3,
                gmacs=macs / max(best, 1),
                over_int8=median(of_round[base] / max(of_round[i], 1) for of_round in times),
                weight_bytes=rival.engine.weight_bytes,
                fastest=fastest == i,
            )
        )
    return made


def _ways(graph: Graph, threads: int) -> Iterator[tuple[str, bool, Engine]]:
    """An engine for every combination of the shown knobs that means something, and whether it is the usual one."""
    node = graph.nodes[0].name
    usual = Engine(graph, choices={})
    bytewise = Engine(graph, choices={node: {"family": "dot"}}) if "family" in _chosen(usual, node) else usual
    knobs = {k.name: k.ways for k in (*usual.knobs[node], *bytewise.knobs[node]) if k.name in SHOWN_KNOBS}
    seen = set()
    for ways in itertools.product(*knobs.values()):
        choice = dict(zip(knobs, ways, strict=True))
        engine = Engine(graph, threads=threads, choices={node: choice})
        chosen = _chosen(engine, node)
        text = ", ".join(f"{name} {way}" for name, way in chosen.items())
        if text not in seen:  # a knob says nothing beside some ways of another
            seen.add(text)
            yield text, chosen == _chosen(usual, node), engine


def _chosen(engine: Engine, node: str) -> dict[str, str]:
    return {knob.name: knob.chosen for knob in engine.knobs[node] if knob.name in SHOWN_KNOBS}
