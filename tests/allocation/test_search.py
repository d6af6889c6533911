import json
import math
from dataclasses import replace

import numpy as np
import pytest

import subbyte as sb
from subbyte.allocation.executors import InProcess, Processes
from subbyte.allocation.goal import Goal
from subbyte.allocation.journal import Journal
from subbyte.allocation.plot import frontier_svg
from subbyte.allocation.search import search
from subbyte.allocation.settings import Settings
from subbyte.errors import AllocationError, DataError, SubbyteError
from subbyte.graph.ops.linear import Linear
from subbyte.graph.passes import prepare
from subbyte.quantization.learning import Learning
from subbyte.quantization.recipe import load_recipe
from subbyte.quantization.resolve import resolve
from tests.allocation.small import LAYERS, classifier, images
from tests.quantization.nets import Net

FEW = ("ternary", "int3", "int4", "int8")


@pytest.fixture(scope="module")
def eight():
    return sb.quantize(classifier(), images(48), recipe="w8a8").nbytes


def run(tmp_path=None, settings=None, data=None, **goal):
    made = Settings(**{"candidates": FEW, "trials": 4, **(settings or {})})
    return search(classifier(), images(96) if data is None else data, settings=made, **goal)


def test_a_budget_is_met_by_the_real_file(eight, tmp_path):
    found = run(bytes=eight - 500)
    assert found.model.nbytes <= eight - 500
    assert found.trial.costs["bytes"] == found.model.nbytes
    assert found.cost == "bytes"
    tight = run(bytes=eight - 800)
    assert tight.model.nbytes <= eight - 800
    assert tight.trial.loss > found.trial.loss


def test_the_plan_is_a_recipe(eight, tmp_path):
    found = run(bytes=eight - 600)
    path = tmp_path / "plan.toml"
    path.write_text(found.to_toml(), encoding="utf8")
    again = sb.quantize(classifier(), images(96), recipe=path)
    got = {n: c.weights.name for n, c in resolve(found.recipe, prepare(classifier())).items()}
    assert {r.layer: r.candidate.weights for r in found.rows} == got
    assert abs(again.nbytes / found.model.nbytes - 1) < 0.03, "other samples, other scales"


def test_bits_per_weight():
    found = run(bits=4.5)
    assert 3.0 < found.trial.costs["bits"] <= 4.5


def test_the_smallest_network_that_keeps_a_promise(eight):
    found = run(min_agreement=90.0)
    assert found.trial.agreement >= 90.0
    assert found.trial.costs["bytes"] < eight - 400
    assert any(t.agreement < 90.0 for t in found.trials), "the promise was what stopped it"


def test_like_a_recipe():
    found = run(like="w4a8", settings={"candidates": ("int3", "int4", "int5", "int8"), "refine": 1})
    like = next(t for t in found.trials if t.name == "w4a8")
    assert found.trial.loss <= like.loss
    assert found.trial.agreement >= like.agreement - 100 * np.sqrt(2 * 0.25 / 48)
    assert found.trial.costs["bytes"] <= like.costs["bytes"]


def test_what_learning_gains_is_spent_on_fewer_bits(tmp_path):
    journal = tmp_path / "search.jsonl"
    plain = {"candidates": ("ternary", "int3", "int4", "int8"), "journal": journal}
    before = run(like="w4a8", settings=plain)
    learning = Learning(steps=40, rate=0.003)
    found = run(like="w4a8", settings={**plain, "finish": ("distill",), "learning": learning})
    like = next(t for t in found.trials if t.name == "w4a8")
    assert found.trial.loss <= like.loss
    assert found.trial.name == "distill", "one that learned was the smaller one"
    assert found.trial.costs["bytes"] < before.trial.costs["bytes"]
    path = tmp_path / "plan.toml"
    path.write_text(found.to_toml(), encoding="utf8")
    assert load_recipe(path) == found.recipe
    assert load_recipe(path).learning == learning


def test_learning_under_a_budget_keeps_the_budget(eight):
    bare = run(bytes=eight - 700)
    found = run(bytes=eight - 700, settings={"finish": ("distill",), "learning": Learning(steps=40, rate=0.003)})
    assert found.model.nbytes <= eight - 700
    assert found.trial.loss < bare.trial.loss


def test_promises_beside_pinned_layers():
    """8 bits everywhere are no answer then, nor is a recipe of other formats."""
    chosen = {"candidates": ("int3", "int4"), "pinned": {"stem": "int4"}}
    found = run(min_agreement=80.0, settings=chosen)
    assert found.trial.agreement >= 80.0
    assert {r.layer: r.candidate.weights for r in found.rows}["stem"] == "int4"
    found = run(like="wlevels5_a8", settings=chosen)
    like = next(t for t in found.trials if t.name == "wlevels5_a8")
    assert found.trial.loss <= like.loss
    larger = found.trial.costs["bytes"] > like.costs["bytes"]
    assert larger == any("wlevels5_a8 itself takes less" in note for note in found.notes)
    with pytest.raises(AllocationError, match="the finest candidates"):
        run(like="w8a8", settings={**chosen, "pinned": {"": "int3"}})


def test_promised_drop_with_labels():
    graph, x = classifier(), images(96)
    labels = np.asarray(sb.quantize(graph, x, recipe="w8a8")(x)).argmax(1)
    found = run(max_drop=5.0, settings={"labels": labels})
    assert not math.isnan(found.trial.drop)
    assert found.trial.drop <= 5.0
    assert found.notes[0].startswith("only 48 samples")


def test_promised_drop_without_labels_counts_every_disagreement():
    found = run(max_drop=10.0)
    assert found.trial.agreement >= 90.0
    assert any("no labels" in note for note in found.notes)


def test_budget_and_promise_that_contradict_each_other(eight):
    with pytest.raises(AllocationError) as caught:
        run(bytes=eight - 820, min_agreement=99.0)
    assert "agreement" in caught.value.seen
    assert caught.value.place == "budgets and promises contradict each other"


def test_a_budget_that_cannot_be_met_costs_no_time(monkeypatch):
    monkeypatch.setattr("subbyte.allocation.search.measure_layer", None)
    with pytest.raises(AllocationError, match="smallest reachable bytes"):
        run(bytes=200)


def test_a_promise_that_8_bits_break():
    faint = images(96) * np.where(np.arange(96) % 3 == 0, 1e-4, 1.0).astype(np.float32)[:, None, None, None]
    with pytest.raises(AllocationError, match="8 bits everywhere: a possible drop of") as caught:
        run(max_drop=1.0, data=faint)
    assert "only 48 samples" in caught.value.remedy


def test_pins_and_ties():
    found = run(bits=4.0, settings={"pinned": {"^head$": "int8", "stem": ""}, "tied": "all"})
    chosen = {r.layer: r.candidate for r in found.rows}
    assert str(chosen["head"]) == str(chosen["stem"]) == "int8/uint8"
    assert chosen["left"] == chosen["right"]


@pytest.mark.parametrize("sensitivity", ["hessian", "fisher", "weights"])
def test_other_sensitivities(sensitivity, eight):
    found = run(bytes=eight - 500, settings={"sensitivity": sensitivity})
    assert found.model.nbytes <= eight - 500
    assert found.measured == ()


def test_operands_are_chosen_too():
    found = run(bits=5.0, settings={"candidates": ("int4", "int8"), "activations": ("uint8", "uint4")})
    assert {r.candidate.activations for r in found.rows} == {"uint8"}, "nothing is gained by fewer bits"


def test_networks_without_classes():
    net = Net(3, 8)
    net.add("a", Linear(), "x", net.weight(8, 8))
    net.add("b", Linear(), "a", net.weight(6, 8))
    data = np.random.default_rng(0).standard_normal((64, 3, 8)).astype(np.float32)
    found = search(net.graph("b"), data, bits=5.0, settings=Settings(candidates=FEW, trials=2))
    assert math.isnan(found.trial.agreement)
    assert found.trial.loss < 0.05
    with pytest.raises(DataError, match="min_agreement speaks of the best class"):
        search(net.graph("b"), data, min_agreement=90, settings=Settings(candidates=FEW))


class Interrupted(InProcess):
    """Ends, as by Ctrl-C, after some tasks."""

    def __init__(self, after):
        self.left = after
        self.done = 0

    def run(self, function, shared, tasks):
        for item in super().run(function, shared, tasks):
            if self.left == 0:
                raise KeyboardInterrupt
            self.left -= 1
            self.done += 1
            yield item


def answer(found):
    return [(r.layer, r.candidate) for r in found.rows], found.trial.loss, found.model.nbytes, found.to_toml()


def test_an_interrupted_search_goes_on(tmp_path, eight):
    whole = run(bytes=eight - 600)
    path, total, calls = tmp_path / "search.jsonl", 0, 0
    for after in (0, 1, 2, 3, 1, 50):
        executor = Interrupted(after)
        try:
            found = run(bytes=eight - 600, settings={"journal": path, "executor": executor})
        except KeyboardInterrupt:
            total += executor.done
            calls += 1
            continue
        total += executor.done
        break
    assert calls >= 3
    assert answer(found) == answer(whole)
    counter = Interrupted(1000)
    run(bytes=eight - 600, settings={"executor": counter})
    assert total == counter.done, "nothing was computed twice"
    idle = Interrupted(1)
    resumed = run(bytes=eight - 600, settings={"journal": path, "executor": idle})
    assert answer(resumed) == answer(whole)
    assert idle.done == 1, "only the answer's file is made again"


def test_a_journal_serves_other_budgets(tmp_path, eight):
    path = tmp_path / "search.jsonl"
    run(bytes=eight - 600, settings={"journal": path})
    before = len(path.read_text().splitlines())
    run(bytes=eight - 700, settings={"journal": path})
    added = [json.loads(line)["key"] for line in path.read_text().splitlines()[before:]]
    assert added
    assert all(key.startswith("trial:") for key in added)
    with pytest.raises(SubbyteError, match="another search: samples, seed differ"):
        run(bytes=eight - 600, settings={"journal": path, "seed": 1})


def test_the_same_plan_from_other_processes(eight):
    assert answer(run(bytes=eight - 600, settings={"executor": Processes(2)})) == answer(run(bytes=eight - 600))


def test_the_same_plan_from_ray(eight):
    pytest.importorskip("ray", reason="ray is not installed: pip install subbyte[ray]")
    assert answer(run(bytes=eight - 600, settings={"executor": "ray:2"})) == answer(run(bytes=eight - 600))


def test_progress_is_told(eight):
    seen = []
    run_settings = Settings(candidates=FEW, trials=2)
    search(classifier(), images(64), bytes=eight - 300, settings=run_settings, progress=lambda *a: seen.append(a))
    assert ("measuring layers", 4, 4) in seen
    assert any(stage == "trying allocations" and done == total for stage, done, total in seen)


def test_the_frontier_is_drawn(eight):
    import xml.etree.ElementTree as ElementTree

    found = run(bytes=eight - 500, settings={"compare": ("w4a8",)})
    text = frontier_svg(found, 'a <script> & "title"')
    root = ElementTree.fromstring(text)
    spots = root.findall(".//{http://www.w3.org/2000/svg}circle")
    assert len(spots) == len(found.trials)
    assert "<script>" not in text
    assert ">w4a8</text>" in text
    steps = [replace(t, name="w4a8, stem in int3") if t.name == "w4a8" else t for t in found.trials]
    assert "in int3</text>" not in frontier_svg(replace(found, trials=tuple(steps)), "steps have no room for words")
    for spot in spots:
        assert 0 < float(spot.get("cx")) < 720
        assert 0 < float(spot.get("cy")) < 440


@pytest.mark.parametrize(
    ("goal", "complaint"),
    [
        ({}, "asked for nothing"),
        ({"bytes": 0}, "bytes is 0"),
        ({"bits": float("nan")}, "bits is nan"),
        ({"min_agreement": 101}, "min_agreement is 101"),
        ({"max_drop": -1}, "max_drop is -1"),
    ],
)
def test_goals_that_mean_nothing(goal, complaint):
    with pytest.raises(AllocationError, match=complaint):
        run(**goal)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"sensitivity": "guess"}, "sensitivity 'guess' is unknown"),
        ({"tied": "some"}, "kind of tie 'some'"),
        ({"trials": 1}, "1 trials"),
        ({"pinned": {"nowhere": "int8"}}, "matches no layer"),
        ({"pinned": {"stem": "uint4"}}, "does not take it"),
        ({"pinned": {"(": "int8"}}, "no regular expression"),
        ({"candidates": ("int77",)}, "format 'int77' is unknown"),
        ({"finish": ("distil",)}, "method that learns 'distil' is unknown"),
        ({"executor": "cloud"}, "executor 'cloud' is unknown"),
    ],
)
def test_settings_that_mean_nothing(settings, complaint):
    with pytest.raises(SubbyteError, match=complaint):
        run(bits=4.0, settings=settings)


def test_promises_in_words():
    goal = Goal(budgets={}, max_drop=1.0)
    trial = run(bits=4.0).trial
    assert goal.holds(trial) == (100 - trial.agreement <= 1.0)
    assert Journal(None, {}).get("x") is None
    assert set(trial.choice) == set(LAYERS)
