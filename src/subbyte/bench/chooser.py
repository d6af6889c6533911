"""Finds the fastest way of every knob, layer by layer, from nothing but measured times of rivals.

All layers try a way at once: one engine holds a rival for every layer, so a network needs as many trials as its layer
with the most ways, not as many as all layers together, and every layer is timed where it runs. Layers that are alike
(the same key) are one: their times are added and they get the same choice. The knobs of a layer are turned in the
engine's order, since the ways of a later one may depend on an earlier one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Protocol, TypeAlias

from subbyte.runtime.choices import Choice, Knob

Choices: TypeAlias = Mapping[str, Choice]
Times: TypeAlias = Sequence[Mapping[str, int]]
"""Nanoseconds by node, in every round."""

MARGIN = 0.97
"""A rival wins where its time over the holder's is below this in the median round; less is noise."""


class Bench(Protocol):
    """What is chosen for: a network on some engine. Nodes are named as in the graph."""

    def knobs(self, choices: Choices) -> Mapping[str, tuple[Knob, ...]]:
        """The knobs of every node under these choices."""
        ...

    def duel(self, holder: Choices, rival: Choices) -> tuple[Times, Times]:
        """Times of both in the same rounds."""
        ...


def choose(
    bench: Bench, layers: Mapping[str, str], report: Callable[[int, str], None] = lambda done, what: None
) -> dict[str, dict[str, str]]:
    """The choice of every layer that has a knob.

    Args:
        bench: to ask and to time.
        layers: key by node; nodes of one key are alike.
        report: called before every trial with how many there were and what is tried.

    Returns:
        By key the ways that beat the usual ones; empty where the usual ones are best.
    """
    chosen: dict[str, dict[str, str]] = {}
    turned: dict[str, set[str]] = {}
    trials = 0
    while True:
        found = bench.knobs(_by_node(chosen, layers))
        knobs = {
            layers[node]: next((k for k in of_node if k.name not in turned.get(layers[node], ())), None)
            for node, of_node in found.items()
            if of_node
        }
        pending = {key: knob for key, knob in knobs.items() if knob is not None}
        for key in knobs:
            chosen.setdefault(key, {})
        if not pending:
            return _confirmed(bench, chosen, layers)
        rivals = {key: [way for way in knob.ways if way != knob.chosen] for key, knob in pending.items()}
        best = dict.fromkeys(pending, MARGIN)
        winners: dict[str, str] = {}
        for turn in range(max(map(len, rivals.values()))):
            ways = {key: some[turn] for key, some in rivals.items() if turn < len(some)}
            trials += 1
            report(trials, ", ".join(sorted({pending[key].name for key in ways})))
            rival = {key: {**chosen[key], pending[key].name: way} for key, way in ways.items()}
            times = bench.duel(_by_node(chosen, layers), _by_node({**chosen, **rival}, layers))
            for key, way in ways.items():
                quotient = ratio(*times, [node for node, of in layers.items() if of == key])
                if quotient < best[key]:
                    best[key], winners[key] = quotient, way
        for key, knob in pending.items():
            turned.setdefault(key, set()).add(knob.name)
            if key in winners:
                chosen[key][knob.name] = winners[key]


def _confirmed(
    bench: Bench, chosen: Mapping[str, dict[str, str]], layers: Mapping[str, str]
) -> dict[str, dict[str, str]]:
    """Only what wins once more: the best of many rivals may owe it to luck."""
    if not any(chosen.values()):
        return dict(chosen)
    times = bench.duel({}, _by_node(chosen, layers))
    nodes = {key: [node for node, of in layers.items() if of == key] for key in chosen}
    return {key: c if c and ratio(*times, nodes[key]) < MARGIN else {} for key, c in chosen.items()}


def ratio(holder: Times, rival: Times, nodes: Sequence[str]) -> float:
    """Time of the rival over the holder's, summed over some nodes: the median over the rounds."""
    sums = [[sum(of_round[node] for node in nodes) for of_round in times] for times in (holder, rival)]
    return float(median(b / max(a, 1) for a, b in zip(*sums, strict=True)))


def _by_node(chosen: Mapping[str, Choice], layers: Mapping[str, str]) -> dict[str, Choice]:
    return {node: chosen[key] for node, key in layers.items() if chosen.get(key)}
