import json

import pytest

from subbyte.allocation import timing
from subbyte.allocation.candidates import BASE
from subbyte.allocation.problem import Candidate
from subbyte.allocation.samples import split_samples
from subbyte.allocation.search import search
from subbyte.allocation.settings import Settings
from subbyte.allocation.workbench import make_workbench
from tests.allocation.small import LAYERS, classifier, images

LOW = Candidate("int4", "uint4")


def silent(*facts):
    del facts


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


@pytest.fixture(scope="module")
def bench():
    model = classifier()
    return make_workbench(model, split_samples(images(32), model, limit=32, seed=0), activations=("uint8", "uint4"))


def test_every_layer_is_timed_once_per_machine(bench, home, monkeypatch):
    first = timing.measure_latency(bench, [LOW], silent)
    assert set(first.layers) == {(n, c) for n in LAYERS for c in (BASE, LOW)}
    assert all(t > 0 for t in first.layers.values())
    assert first.fixed > 0
    (path,) = (home / "subbyte").iterdir()
    kept = json.loads(path.read_text())["microseconds"]
    asked = []
    original = timing._rounds

    def counted(graphs, report):
        asked.extend(graphs)
        return original(graphs, report)

    monkeypatch.setattr(timing, "_rounds", counted)
    timing.measure_latency(bench, [LOW], silent)
    assert asked == [BASE], "the whole network is timed again, its low-bit layers are remembered"
    again = json.loads(path.read_text())["microseconds"]
    assert set(again) == set(kept)
    assert all(again[k] <= kept[k] for k in kept)


def test_instruction_sets_are_kept_apart(bench, home, monkeypatch):
    timing.measure_latency(bench, [], silent)
    monkeypatch.setenv("SUBBYTE_ISA", "portable")
    slow = timing.measure_latency(bench, [], silent)
    assert len(list((home / "subbyte").iterdir())) == 2
    assert slow.fixed > 0


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"machine": 1, "microseconds": {}}', "\x00"])
def test_a_broken_memory_is_written_anew(bench, home, text):
    timing.measure_latency(bench, [], silent)
    (path,) = (home / "subbyte").iterdir()
    path.write_text(text)
    assert timing.measure_latency(bench, [], silent).fixed > 0
    assert json.loads(path.read_text())["microseconds"]


def test_a_home_that_cannot_be_written(bench, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    assert timing.measure_latency(bench, [], silent).fixed > 0


def test_a_time_is_a_budget(home):
    settings = Settings(candidates=("int4", "int8"), activations=("uint8",), trials=3)
    found = search(classifier(), images(64), latency_us=1e6, settings=settings)
    assert found.trial.costs["latency_us"] > 0
    assert all(r.microseconds > 0 for r in found.rows)
