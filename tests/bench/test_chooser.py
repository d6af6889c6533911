"""The chooser on a made-up engine with a made-up clock: which rivals it tries and which it keeps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest

from subbyte.bench.chooser import MARGIN, Choices, Times, choose, ratio
from subbyte.runtime.choices import Knob

USUAL = 1000


@dataclass
class Machine:
    """Nodes whose times are products of their ways' factors; it gets slower with every round.

    Attributes:
        ways: by node and knob, the factor of each way; the first is usual.
        needs: knobs that a node has only while an earlier knob has this way.
        trials: rivals that were timed.
    """

    ways: Mapping[str, Mapping[str, Mapping[str, float]]]
    needs: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    trials: list[Choices] = field(default_factory=list)
    clock: int = 1

    def taken(self, node: str, choices: Choices) -> dict[str, str]:
        found: dict[str, str] = {}
        for knob, ways in self.ways[node].items():
            needed = self.needs.get(knob)
            if needed is None or found.get(needed[0]) == needed[1]:
                found[knob] = choices.get(node, {}).get(knob, next(iter(ways)))
                assert found[knob] in ways
        assert set(choices.get(node, {})) <= set(found), "an engine refuses unknown knobs"
        return found

    def knobs(self, choices: Choices) -> dict[str, tuple[Knob, ...]]:
        return {
            node: tuple(Knob(k, tuple(ways[k]), way) for k, way in self.taken(node, choices).items())
            for node, ways in self.ways.items()
        }

    def times(self, choices: Choices) -> dict[str, int]:
        spent = {}
        for node, ways in self.ways.items():
            factor = float(USUAL * self.clock)
            for knob, way in self.taken(node, choices).items():
                factor *= ways[knob][way]
            spent[node] = round(factor)
        return spent

    def duel(self, holder: Choices, rival: Choices) -> tuple[Times, Times]:
        self.trials.append(rival)
        rounds: tuple[list[dict[str, int]], list[dict[str, int]]] = ([], [])
        for _ in range(3):
            self.clock *= 2  # far more than any way gains: only times of one round compare
            rounds[0].append(self.times(holder))
            rounds[1].append(self.times(rival))
        return rounds


def alone(machine: Machine) -> dict[str, str]:
    return {node: f"layer {node}" for node in machine.ways}


def test_every_layer_gets_its_own_fastest_way() -> None:
    machine = Machine(
        {
            "a": {"block": {"0": 1.0, "48": 0.8, "192": 0.7}},
            "b": {"block": {"0": 1.0, "48": 1.2, "192": 1.1}},
            "c": {"family": {"dot": 1.0, "lookup": 0.5}},
            "d": {},
        }
    )
    assert choose(machine, alone(machine)) == {
        "layer a": {"block": "192"},
        "layer b": {},
        "layer c": {"family": "lookup"},
    }


def test_all_layers_try_their_ways_at_once() -> None:
    ways = {str(way): 1.0 for way in range(5)}
    machine = Machine({str(node): {"block": ways} for node in range(20)})
    reported: list[int] = []
    choose(machine, alone(machine), lambda done, what: reported.append(done))
    assert len(machine.trials) == 4  # nothing won, so nothing is confirmed
    assert reported == [1, 2, 3, 4]


@pytest.mark.parametrize(("factor", "kept"), [(MARGIN - 0.005, True), (MARGIN + 0.005, False)])
def test_noise_is_not_kept(factor: float, kept: bool) -> None:
    machine = Machine({"a": {"sliding": {"1": 1.0, "0": factor}}})
    assert choose(machine, alone(machine)) == {"layer a": {"sliding": "0"} if kept else {}}


def test_alike_layers_are_chosen_for_together() -> None:
    machine = Machine({"a": {"fold": {"1": 1.0, "2": 0.5}}, "b": {"fold": {"1": 1.0, "2": 1.6}}})
    assert choose(machine, dict.fromkeys("ab", "same")) == {"same": {}}
    machine = Machine({"a": {"fold": {"1": 1.0, "2": 0.5}}, "b": {"fold": {"1": 1.0, "2": 1.2}}})
    assert choose(machine, dict.fromkeys("ab", "same")) == {"same": {"fold": "2"}}


def test_later_knobs_build_on_earlier_choices() -> None:
    ways = {"family": {"dot": 1.0, "lookup": 0.9}, "build": {"once": 1.0, "twice": 0.8}}
    machine = Machine({"a": ways}, needs={"build": ("family", "lookup")})
    assert choose(machine, alone(machine)) == {"layer a": {"family": "lookup", "build": "twice"}}
    machine = Machine({"a": {**ways, "family": {"dot": 1.0, "lookup": 1.1}}}, needs={"build": ("family", "lookup")})
    assert choose(machine, alone(machine)) == {"layer a": {}}


def test_a_ratio_is_taken_within_rounds() -> None:
    holder, rival = [{"a": 10}, {"a": 1000}, {"a": 20}], [{"a": 5}, {"a": 500}, {"a": 40}]
    assert ratio(holder, rival, ["a"]) == 0.5
    assert ratio([{"a": 0}], [{"a": 0}], ["a"]) == 0


def test_luck_is_not_kept() -> None:
    class Lucky(Machine):
        def duel(self, holder: Choices, rival: Choices) -> tuple[Times, Times]:
            times = super().duel(holder, rival)
            if len(self.trials) == 1:
                times = times[0], [{"a": spent["a"] // 2} for spent in times[1]]
            return times

    machine = Lucky({"a": {"block": {"0": 1.0, "48": 1.0}}})
    assert choose(machine, alone(machine)) == {"layer a": {}}
    assert len(machine.trials) == 2


def test_nothing_to_choose() -> None:
    machine = Machine({"a": {}, "b": {}})
    assert choose(machine, alone(machine)) == {}
    assert machine.trials == []
