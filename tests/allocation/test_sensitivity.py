import pickle

import numpy as np
import pytest

from subbyte.allocation.candidates import BASE, legal, parse_candidates
from subbyte.allocation.costs import (
    BitOperations,
    Bits,
    Bytes,
    live_activation_bytes,
    packed_bytes,
    peak_activation_bytes,
    weight_count,
)
from subbyte.allocation.divergence import distance
from subbyte.allocation.estimates import estimate
from subbyte.allocation.executors import Processes
from subbyte.allocation.problem import Candidate
from subbyte.allocation.samples import split_samples
from subbyte.allocation.sensitivity import LayerTask, Measured, losses, measure_layer
from subbyte.allocation.workbench import integer_answers, make_workbench
from subbyte.errors import AllocationError, FormatError
from subbyte.model import QuantizedModel
from subbyte.quantization.lowering import lower
from subbyte.runtime.modelfile import breakdown
from tests.allocation.small import LAYERS, classifier, images

CANDIDATES = parse_candidates(["ternary", "int3", "int5", "int8/uint4"])


def silent(*facts):
    del facts


@pytest.fixture(scope="module")
def bench():
    model = classifier()
    samples = split_samples(images(128), model, limit=1000, seed=0)
    return make_workbench(model, samples, activations=("uint8", "uint4"))


@pytest.fixture(scope="module")
def rows(bench):
    return {n: measure_layer(bench, LayerTask(n, CANDIDATES)) for n in LAYERS}


def test_fewer_bits_lose_more(bench, rows):
    base = bench.judge(bench.integer({}, {}))
    assert base.loss < 0.01
    for name in LAYERS:
        by = {r.candidate: r for r in rows[name]}
        coarse, fine = by[Candidate("ternary", "uint8")], by[Candidate("int5", "uint8")]
        assert coarse.loss > 2 * fine.loss >= 0
        assert fine.local_db > coarse.local_db + 10
        assert fine.weight_db > coarse.weight_db + 10
        assert coarse.sqnr_db < fine.sqnr_db <= base.sqnr_db + 1
        assert abs(by[BASE].loss - base.loss) < 0.002
    operand = next(r for r in rows["left"] if r.candidate == Candidate("int8", "uint4"))
    assert operand.loss > base.loss


def test_an_exchanged_layer_is_what_the_network_then_has(bench):
    """The measured loss is that of the integer network, executed like any other."""
    left = next(n for n in bench.layers if n.name == "left")
    candidate = Candidate("int3", "uint8")
    fitted = bench.fit_layer(left, candidate, bench.inputs_of(left))
    graph = lower(bench.scheme({"left": candidate}), {**bench.base, "left": fitted})
    reals = QuantizedModel(graph.evolve(outputs=("head",)), {})(bench.samples.judged["image"])
    expected = distance(bench.exact, reals, "classes")
    assert measure_layer(bench, LayerTask("left", (candidate,)))[0].loss == pytest.approx(expected.loss, rel=1e-6)


def test_benches_travel(bench, rows):
    again = pickle.loads(pickle.dumps(bench))
    assert measure_layer(again, LayerTask("head", CANDIDATES)) == rows["head"]


def test_the_same_in_other_processes(bench, rows):
    tasks = [LayerTask(n, CANDIDATES) for n in ("right", "head")]
    found = dict(Processes(2).run(measure_layer, bench, tasks))
    assert found == {0: rows["right"], 1: rows["head"]}


def test_rows_survive_json(rows):
    for row in rows["stem"]:
        assert Measured.from_json(row.to_json()) == row


def test_losses_never_fall_with_coarser_formats():
    def row(weights, loss):
        numbers = dict.fromkeys(("agreement", "sqnr_db", "local_db", "weight_db", "error"), 0.0)
        return Measured(layer="a", candidate=Candidate(weights, "uint8"), loss=loss, **numbers)

    found = losses([row("int8", 0.10), row("int5", 0.09), row("int4", 0.4), row("int3", 0.3)], base=0.1)
    by = {c.weights: v for (_, c), v in found.items()}
    assert by == pytest.approx({"int8": 0.0, "int5": 0.0, "int4": 0.3, "int3": 0.3})


@pytest.mark.parametrize("method", ["hessian", "fisher", "weights"])
def test_estimates_order_formats(bench, method):
    listed = parse_candidates(["ternary", "int3", "int5"])
    found = estimate(bench, method, dict.fromkeys(LAYERS, listed), 0, silent)
    for name in LAYERS:
        values = [found[name, c] for c in listed]
        assert values == sorted(values, reverse=True)
        assert values[-1] < 0.01 * values[0]
    with pytest.raises(AllocationError, match="it knows weights alone"):
        estimate(bench, method, dict.fromkeys(LAYERS, CANDIDATES), 0, silent)


def test_the_hessian_foresees_the_measured_loss(bench, rows):
    """Within an order of magnitude for small errors, and in the right order over layers."""
    fine = Candidate("int5", "uint8")
    found = estimate(bench, "hessian", dict.fromkeys(LAYERS, (fine,)), 0, silent)
    base = bench.judge(bench.integer({}, {})).loss
    for name in LAYERS:
        seen = next(r.loss for r in rows[name] if r.candidate == fine) - base
        assert found[name, fine] > 0.05 * seen


def test_costs_add_up_to_the_real_network(bench):
    graph = bench.integer({n: Candidate("int3", "uint8") for n in LAYERS}, {})
    built = lower(bench.scheme({}), bench.base)
    file = QuantizedModel(built, {}).nbytes
    costs = Bytes(bench.graph, file), Bits(bench.graph), BitOperations(bench.graph)
    assert costs[0].fixed + sum(costs[0].of(n, BASE) for n in bench.layers) == file
    assert sum(costs[1].of(n, BASE) for n in bench.layers) == pytest.approx(8.0)
    macs = 36 * (9 * 2 * 8 + 2 * 9 * 8 * 8) + 8 * 5
    assert sum(costs[2].of(n, BASE) for n in bench.layers) == macs * 64
    assert sum(packed_bytes(built).values()) == sum(weight_count(bench.graph, n) for n in bench.layers)
    assert peak_activation_bytes(graph)[0] == 3 * 8 * 36
    assert max(live_activation_bytes(graph).values()) == 3 * 8 * 36


def test_bytes_are_those_of_the_file(bench, rows):
    """What layers took in files tells the size of any mix up to its header."""
    coarse = Candidate("ternary", "uint8")
    mix = {"stem": Candidate("int3", "uint8"), "left": coarse, "right": coarse, "head": Candidate("int5", "uint8")}
    seen = {(r.layer, r.candidate): r.nbytes for found in rows.values() for r in found}
    base = QuantizedModel(bench.integer({}, {}), {}).nbytes
    layers = {n.name: n for n in bench.layers}
    fitted = {n: bench.fit_layer(layers[n], c, bench.inputs_of(layers[n])) for n, c in mix.items()}
    built = bench.integer(mix, fitted)
    told = Bytes(bench.graph, base, seen)
    sizes = {n: told.of(layers[n], c) for n, c in mix.items()}
    assert sum(sizes.values()) == sum(p.nbytes for p in breakdown(built) if p.node in mix)
    real = QuantizedModel(built, {}).nbytes
    assert abs(told.fixed + sum(sizes.values()) - real) <= 64 < 0.1 * real
    for node in bench.layers:
        packed = Bytes(bench.graph, base).of(node, mix[node.name])
        assert packed < seen[node.name, mix[node.name]] < packed + 8 * 9


def test_candidates():
    assert parse_candidates(["int4", "int3/uint4"], ("uint8", "uint6")) == (
        Candidate("int4", "uint8"),
        Candidate("int4", "uint6"),
        Candidate("int3", "uint4"),
        BASE,
    )
    with pytest.raises(FormatError):
        parse_candidates(["int99"])
    with pytest.raises(AllocationError, match="no candidate"):
        parse_candidates([])


def test_illegal_candidates_are_left_out(bench):
    listed = parse_candidates(["int4", "uint4", "int16", "int4/int16", "int4/fp8_e5m2"])
    assert legal(listed, bench.layers[0]) == (Candidate("int4", "uint8"), Candidate("int4", "int16"), BASE)


def test_answers_of_the_integer_network(bench):
    graph = bench.integer({}, {})
    found = integer_answers(graph, bench.samples.judged, bench.answer)
    assert found.shape == bench.exact.shape
    assert np.median(np.abs(found - bench.exact)) < 0.1
