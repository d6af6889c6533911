"""The CPU benchmarks' own arithmetic: pairing, verdicts, the page; nothing here measures speed."""

from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.cpu import page, question_layers, report, roofs
from benchmarks.cpu.layers import Layer
from benchmarks.cpu.rounds import Runner, Times, measure, pair, ratios
from subbyte.graph.verify import verify
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference


def times(kind, fastest, counts=True):
    return Times(kind, counts, list(fastest), list(fastest), [1.0] * len(fastest))


def test_ratios_pair_inside_a_round_and_take_the_fastest_peer_of_each() -> None:
    seen = {
        "a": times("int8", [10.0, 40.0, 30.0]),
        "b": times("fp32", [20.0, 30.0, 60.0]),
        "low": times("int4", [1.0, 1.0, 1.0]),
        "unheld": times("int8", [0.1, 0.1, 0.1], counts=False),
        "w8": times("ours", [10.0, 10.0, 10.0]),
    }
    found = ratios(seen)["w8"]
    assert found["peer"]["median"] == 3.0  # of 1, 3, 3
    assert found["int8"]["median"] == 3.0  # of 1, 4, 3
    assert found["fp32"]["median"] == 3.0  # of 2, 3, 6
    assert found["int4"]["median"] == 0.1
    assert pair(seen, "b", "a") == 2.0  # of 2, 0.75, 2


def test_every_runner_has_its_turn_in_every_round() -> None:
    calls = {"a": 0, "b": 0}

    def runner(name):
        def call():
            calls[name] += 1

        return Runner(name=name, kind="ours", call=call, output=lambda: np.zeros(1))

    found = measure([runner("a"), runner("b")], rounds=3, slice_ms=0.01)
    assert all(len(found[n].fastest) == 3 and len(found[n].calls) + 3 == calls[n] for n in calls)


ROOFS = {
    "vpdpbusd_512": 100.0,
    "rescale_beside_512": 20.0,
    "depthwise_512": 40.0,
    "maddubs_maddwd_256": 50.0,
    "read_16k": 64.0,
    "read_512k": 32.0,
    "read_8m": 16.0,
}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path) -> report.Report:
    monkeypatch.setattr(report, "roofs", lambda: dict(ROOFS))
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    return report.Report("nets", report.Settings(), before=report.roofs(), floor=0.5)


def test_a_target_above_the_roof_and_an_invalid_one_are_not_met(asked: report.Report) -> None:
    case = asked.case("n", "net", 1_000_000, {"ort int8": times("int8", [20.0]), "w8a8": times("ours", [16.0])})
    assert asked.ceiling(case, least=10.0) == 2.0
    asked.target("far", 3.0, 1.25, ceiling=2.0)
    asked.target("more than can be", 3.0, 2.1, ceiling=2.0)
    asked.target("void", 1.0, 1.25, invalid="not comparable")
    asked.target("fair", 1.0, 1.25)
    asked.target("small", 20.0, 16.0, "us", at_most=True)
    assert [t["met"] for t in asked.targets] == [False, False, False, True, True]
    result = json.loads(asked.finish().read_text())
    text = page.page({"nets": result})
    rows = [line for line in text.splitlines() if line.startswith(("| far", "| more", "| void", "| fair"))]
    assert [r.rsplit("|", 2)[1].strip() for r in rows] == [
        "**above the ceiling**",
        "**above the ceiling**, beyond its roof",
        "not counted: not comparable",
        "met",
    ]
    assert "2 of 5 met" in text
    assert "| net | ort 20.0 | 16.0 | 1.25x |" in text


def test_an_answer_of_every_kind_finds_its_place_on_the_page(asked: report.Report) -> None:
    case = asked.case("n", "net", 1_000_000, {"ort int8": times("int8", [20.0]), "w8a8": times("ours", [16.0])})
    case["least_us"] = {"w8a8": 8.0}
    case["profile"] = {"operators_us": 10.0, "call_us": 16.0, "kinds": {"convolutions": {"us": 9.0, "of_roof": 0.5}}}
    nets = json.loads(asked.finish().read_text())
    form = {"form": "Words", "tile": "3 x 16", "instructions": 136, "per_mac": 0.177, "of_int8": 0.71}
    loops = {
        **nets,
        "cases": [{"name": "neon", "title": "NEON", "rows": {}, "ratios": {}, "forms": [form], "disturbed": []}],
        "targets": [],
    }
    product = {
        **nets["cases"][0],
        "over_w8a8": {"w8a8": 1.0, "ort int8": 1.0},
        "over_w8a7": {"w8a8": 1.0, "ort int8": 1.0},
    }
    products = {**nets, "cases": [product], "targets": []}
    text = page.page({"nets": nets, "formats_avx2": products, "neon": loops})
    assert "| net | 10.0 | 16.0 | 8.0 | 9.0 (50%) |" in text
    assert "| Words | 3 x 16 | 136 | 0.177 | 0.71 |" in text
    assert page.forms([{**loops["cases"][0], "forms": []}])[0].startswith("Not counted")


def test_ceilings_of_reading(asked: report.Report) -> None:
    seen = {"plain read": times("roof", [8.0], counts=False), "ort int8": times("int8", [20.0])}
    seen |= {"w8": times("ours", [10.0]), "w4": times("ours", [5.0])}
    case = asked.case("n", "product", 100_000, seen)
    assert question_layers._read_ceiling(asked, case, "w4", peers_only=True) == 5.0  # 20 us / 4 us
    assert question_layers._read_ceiling(asked, case, "w4", peers_only=False) == 2.5
    assert question_layers._read_ceiling(asked, case, "w1", peers_only=False) == 10.0  # 1 us at the int8 peak
    assert question_layers._over_least(asked, case, "w4", ["w8", "ort int8"]) == 2.5


def test_the_least_time_of_a_layer_is_its_work_at_the_roofs_and_the_call(asked: report.Report) -> None:
    seen = {"ort int8": times("int8", [20.0]), "litert fp32": times("fp32", [10.0]), "w8": times("ours", [8.0])}
    case = asked.case("n", "layer", 1, seen)
    plain = Layer(name="plain", rows=20, columns=20, inputs=64, outputs=32, kernel=3)
    products, results = 20 * 20 * 32 * 64 * 9 / 100e3, 20 * 20 * 32 / 20e3  # microseconds at the roofs
    least = asked.bound(case, "w8", Engine(plain.graph()))
    assert least == pytest.approx(0.5 + products + results)
    assert asked.ceiling(case, least) == pytest.approx(10 / least)
    assert asked.ceiling(case, least, ["int8"]) == pytest.approx(20 / least)
    assert case["least_us"] == {"w8": round(least, 3)}
    asked.before["maddubs_addw_256"] = 200.0  # another roof, whose width has no figure for rescales
    assert question_layers._least_w4a4(asked, case, plain) == pytest.approx(0.5 + products / 2)

    deep = Layer(name="deep", rows=20, columns=20, inputs=64, outputs=64, kernel=3, groups=64)
    assert asked.bound(case, "dw", Engine(deep.graph())) == pytest.approx(0.5 + 20 * 20 * 64 * 9 / 40e3)

    thin = Layer(name="thin", rows=1, inputs=2048, outputs=2048)  # reads more than it computes, from the third cache
    engine = Engine(thin.graph())
    least = 0.5 + engine.weight_bytes / 16e3 + 2048 / 64e3
    assert asked.bound(case, "thin", engine) == pytest.approx(least)


def test_a_call_of_a_network_that_computes_nothing_is_one() -> None:
    assert 0 < roofs.call_floor() < 1000


def test_no_answer_that_is_kept_is_better_than_its_roof() -> None:
    """Roofs of arithmetic: what other tenants leave of the memory's bandwidth changes within a case."""
    checked = 0
    for file in (*report.RESULTS.glob("cpu_nets*.json"), *report.RESULTS.glob("cpu_layers*.json")):
        result = json.loads(file.read_text())
        assert not [t["what"] for t in result["targets"] if page.beyond(t)]
        for case in result["cases"]:
            for runner, least in case.get("least_us", {}).items():
                assert least <= page.TOLERANCE * case["rows"][runner]["min_us"], (file.name, case["name"], runner)
            for kind, row in case.get("profile", {"kinds": {}})["kinds"].items():
                assert row["of_roof"] <= page.TOLERANCE, (file.name, case["name"], kind)
                checked += 1
    assert checked


@pytest.mark.parametrize(("calls", "busy"), [([10.0, 10.0], 0.5), ([10.0, 40.0, 40.0], 1.0)])
def test_disturbed_cases_say_so(asked: report.Report, calls, busy) -> None:
    slow = times("ours", calls)
    slow.busy = [busy]
    assert asked.case("n", "net", 0, {"w8a8": slow})["disturbed"] == ["w8a8"]
    asked.target("anything", 1.0, 2.0)
    assert asked.targets[-1]["disturbed"]


@pytest.mark.parametrize(
    "layer",
    [
        Layer(name="conv", rows=5, columns=6, inputs=8, outputs=4, kernel=3),
        Layer(name="depthwise", rows=5, columns=6, inputs=8, outputs=8, kernel=3, groups=8, weights="int4"),
        Layer(name="product", rows=3, inputs=40, outputs=5, weights="binary", activations="uint1"),
        Layer(name="pair", rows=3, inputs=40, outputs=5, weights="levels17", activations="levels31"),
    ],
    ids=lambda layer: layer.name,
)
def test_layers_are_legal_and_their_results_vary(layer: Layer) -> None:
    graph = layer.graph()
    verify(graph, "integer")
    want = run_reference(graph, {"x": layer.x})["y"]
    assert np.array_equal(Engine(graph).run({"x": layer.x})["y"], want)
    assert len(np.unique(want)) > 1
    assert want.shape == layer.result_shape
