"""Tuning real engines: what is found is remembered and gives the same bits; how long anything takes is not asserted."""

from __future__ import annotations

import json

import numpy as np
import pytest

from subbyte.bench import tune as tuning
from subbyte.bench.kernels import BASE, PAIRS, ROWS, survey
from subbyte.bench.latency import random_codes
from subbyte.bench.products import product
from subbyte.errors import RunError
from subbyte.runtime import tuned
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity
from tests.kernels.test_movement import network


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(tuning, "ROUND_NANOSECONDS", 1)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("SUBBYTE_TUNE", "on")


class Backwards(tuning.EngineBench):
    """Takes the last way of every knob for the fastest."""

    def duel(self, holder, rival):
        return [self.spent(holder)], [self.spent(rival)]

    def spent(self, choices):
        return {n: 1000 - 100 * sum(k.ways.index(k.chosen) for k in of) for n, of in self.knobs(choices).items()}


GRAPHS = {"network": network(1), "product": product(64, 40, 24, "int4", "uint8")}


@pytest.mark.parametrize("isa", parity.ISAS)
@pytest.mark.parametrize("name", GRAPHS)
def test_winners_are_remembered_and_used(name: str, isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "EngineBench", Backwards)
    graph = GRAPHS[name]
    codes = random_codes(graph, 3)
    with parity.isa(isa):
        found = tuning.tune(graph)
        engine = Engine(graph)
        assert found.isa == engine.isa == isa
        keys = {node.name: tuned.layer_key(graph, node) for node in graph}
        taken = {n: {k.name: k.chosen for k in of_node} for n, of_node in engine.knobs.items()}
        if name == "network" and isa == "portable":  # its layers are so small that nothing can be chosen
            assert found.path is None
            return
        assert all(found.winners.values())
        assert found.speedup > 1
        for node, key in keys.items():
            assert found.winners.get(key, {}).items() <= taken[node].items()
        usual = Engine(graph, choices={}).knobs
        assert usual != engine.knobs
        monkeypatch.setenv("SUBBYTE_TUNE", "off")
        assert Engine(graph).knobs == usual
    for value, expected in run_reference(graph, codes).items():
        np.testing.assert_array_equal(engine.run(codes)[value], expected)
    assert list(json.loads(found.path.read_text())["layers"]) == [isa]


def test_a_real_run_ends_and_gives_the_same_bits() -> None:
    graph = network(0)
    trials: list[int] = []
    found = tuning.tune(graph, threads=2, report=lambda done, what: trials.append(done))
    assert trials == list(range(1, len(trials) + 1))
    codes = random_codes(graph, 1)
    for name, expected in run_reference(graph, codes).items():
        np.testing.assert_array_equal(Engine(graph).run(codes)[name], expected)
    assert (found.path is None) or tuned.path() == found.path


def test_what_is_not_faster_as_a_whole_is_not_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tuning, "EngineBench", Backwards)
    monkeypatch.setattr(tuning, "ratio", lambda before, after, nodes: 1.25)
    found = tuning.tune(GRAPHS["product"])
    assert found.winners
    assert found.speedup == 0.8
    assert found.path is None
    assert not tuned.path().exists()


def test_other_bits_would_be_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine whose other choices lead to other weights."""
    right, wrong = GRAPHS["product"], product(64, 40, 24, "int2", "uint8")

    class Wrong(tuning.EngineBench):
        def engine(self, choices):
            return Engine(wrong if choices else right, choices={})

    bench = Wrong(right, random_codes(right, 0), 1)
    tuning.check_bits(bench, {})
    with pytest.raises(RunError, match="same integers"):
        tuning.check_bits(bench, {"product": {"block": "48"}})


def test_survey_compares_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    from subbyte.bench import kernels

    monkeypatch.setattr(kernels, "ROUND_NANOSECONDS", 1)
    monkeypatch.setattr(kernels, "QUICK_SHAPES", ((40, 24),))
    stages: list[tuple[int, int]] = []
    rows = survey(quick=True, report=lambda stage, done, total: stages.append((done, total)))
    assert stages[-1] == (len(ROWS), len(ROWS))
    assert {row.pair for row in rows} == set(PAIRS)
    assert {row.rows for row in rows} == set(ROWS)
    for m in ROWS:
        for pair in PAIRS:
            alike = [row for row in rows if (row.rows, row.pair) == (m, pair)]
            assert sum(row.usual for row in alike) == 1
            assert sum(row.fastest for row in alike) == 1
            assert len({row.way for row in alike}) == len(alike)
        assert next(row for row in rows if row.rows == m and row.pair == BASE and row.usual).over_int8 == 1
