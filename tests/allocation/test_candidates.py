"""Weights in groups and trimmed operands as candidates: spelled, costed, measured, and found in the model."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from subbyte.allocation.candidates import (
    BASE,
    bits,
    candidate_of,
    legal,
    operand_bits,
    parse_candidates,
    stored_bytes,
)
from subbyte.allocation.costs import BitOperations, Bits, Bytes, macs, packed_bytes
from subbyte.allocation.plan import recipe_of, to_toml
from subbyte.allocation.problem import Candidate
from subbyte.allocation.samples import split_samples
from subbyte.allocation.search import search
from subbyte.allocation.sensitivity import LayerTask, Measured, losses, measure_layer
from subbyte.allocation.settings import Settings
from subbyte.allocation.workbench import make_workbench
from subbyte.errors import AllocationError, FormatError
from subbyte.formats import get_format
from subbyte.graph.ops.trim import IntTrim
from subbyte.graph.passes import prepare
from subbyte.pipeline import quantize
from subbyte.quantization.recipe import load_recipe
from subbyte.quantization.resolve import resolve
from subbyte.runtime.modelfile import node_bytes
from tests.allocation.small import classifier, images

TRIM = "sparq4_5opt_round_v"
GROUPED = Candidate("int3", "uint8", granularity="per_group(9)")
TRIMMED = Candidate("int8", TRIM)


@pytest.fixture(scope="module")
def bench():
    model = classifier()
    return make_workbench(model, split_samples(images(128), model, limit=1000, seed=0), activations=("uint8", TRIM))


def test_spelling():
    texts = ["int4:per_group(32)", f"int4:mx/{TRIM}", "int3:per_channel", "int4:dual_grained(64)/uint4"]
    found = parse_candidates(texts, ["uint8", TRIM])
    assert [str(c) for c in found] == [
        "int4:per_group(32)/uint8",
        f"int4:per_group(32)/{TRIM}",
        f"int4:mx(32)/{TRIM}",
        "int3/uint8",
        f"int3/{TRIM}",
        "int4:dual_grained(64)/uint4",
        "int8/uint8",
    ]
    assert parse_candidates([str(c) for c in found]) == found
    for wrong in ("int4:per_group", "int4:per_group(0)", "int4:", "int4:x/uint8", "int4/sparq9_5opt"):
        with pytest.raises(FormatError):
            parse_candidates([wrong] if wrong != "int4:" else ["int4:per_tensors"])
    with pytest.raises(AllocationError, match="stc"):
        parse_candidates(["int4/sparq4_5opt_stc"])


def test_what_a_layer_does_not_take_is_left_out(bench):
    """An 8-bit table leaves groups no scale but 1; codebooks have no zero points; the base stays."""
    listed = parse_candidates(["int8:per_group(32)", "nf4:dual_grained(32)", "nf4:per_group(32)", f"int4/{TRIM}"])
    got = legal(listed, bench.layers[0])
    assert BASE in got
    assert Candidate("int4", TRIM) in got
    assert not any(c.granularity and c.weights == "int8" for c in got)
    assert not any(c.granularity.startswith("dual") for c in got)


def test_a_plan_says_groups_and_trims(tmp_path):
    graph = prepare(classifier())
    choice = {
        "stem": Candidate("int4", "uint8", granularity="dual_grained(8)"),
        "left": Candidate("int3", TRIM, granularity="per_group(9)"),
        "right": Candidate("int5", TRIM),
        "head": Candidate("fp4_e2m1", "uint8", granularity="mx(4)"),
    }
    recipe = recipe_of(choice, graph)
    (tmp_path / "plan.toml").write_text(to_toml(recipe), encoding="utf8")
    assert load_recipe(tmp_path / "plan.toml").rules == recipe.rules
    assert {n: candidate_of(c) for n, c in resolve(recipe, graph).items()} == choice


@pytest.mark.parametrize("granularity", ["", "per_group(9)", "per_group(5)", "dual_grained(8)", "mx(4)"])
@pytest.mark.parametrize("weights", ["int2", "int4", "ternary"])
def test_bytes_are_those_of_the_file(bench, weights, granularity):
    """Codes exactly; scales and zero points of groups at most as many as expected, and at least a quarter."""
    candidate = Candidate(weights, "uint8", granularity=granularity)
    for layer in bench.layers:
        if candidate not in legal([candidate], layer):
            pytest.skip("not offered")
        shape = bench.graph.constants[layer.inputs[1]].shape
        fitted = bench.fit_layer(layer, candidate, bench.inputs_of(layer))
        graph = bench.integer({layer.name: candidate}, {layer.name: fitted})
        codes = get_format(weights).packed_size(int(np.prod(shape)))
        added = packed_bytes(graph)[layer.name] - codes
        expected = stored_bytes(candidate, shape) - codes
        assert added <= expected <= 4 * added + 8
        roles = ("codes", "group_scale", "zero") if granularity else ("codes",)
        assert packed_bytes(graph)[layer.name] == node_bytes(graph, layer.name, roles)
        assert (added > 0) == bool(granularity)


def test_costs(bench):
    left = next(n for n in bench.layers if n.name == "left")  # 8 outputs of 72 weights
    trimmed = Candidate("int4", TRIM, granularity="per_group(9)")
    assert BitOperations(bench.graph).of(left, trimmed) == macs(bench.graph, left) * 4 * 4
    assert BitOperations(bench.graph).of(left, BASE) == macs(bench.graph, left) * 8 * 8
    assert operand_bits(Candidate("int8", "sparq3_6opt_shared16")) == 3
    codes, scales = 8 * 72 * 4 // 8, 8 * 8 * (4 + 1) // 8  # scales of 1 to 15, zero points of 0 or -1
    assert Bytes(bench.graph, 10_000).of(left, trimmed) == codes + scales
    total = sum(bench.graph.constants[n.inputs[1]].size for n in bench.layers)
    assert Bits(bench.graph).of(left, trimmed) == 8 * (codes + scales) / total
    measured = {("left", BASE): 700, ("left", Candidate("int4", "uint8", granularity="per_group(9)")): 333}
    assert Bytes(bench.graph, 10_000, measured).of(left, trimmed) == 333


def test_groups_are_no_coarser_form_of_their_format():
    """A finer measurement of groups is not lifted to what channels lose."""
    rows = [
        Measured(layer="a", candidate=c, loss=loss, agreement=1, sqnr_db=1, local_db=1, weight_db=1, error=1)
        for c, loss in ((BASE, 0.0), (Candidate("int3", "uint8"), 0.5), (GROUPED, 0.2), (TRIMMED, 0.1))
    ]
    assert list(losses(rows, 0.0).values()) == [0.0, 0.5, 0.2, 0.1]


def test_measured_as_the_network_runs_it(bench):
    """A trim is an operator of the measured network, groups lose less than channels, and neither is free."""
    left = next(n for n in bench.layers if n.name == "left")
    candidates = (BASE, Candidate("int2", "uint8"), Candidate("int2", "uint8", granularity="per_group(9)"), TRIMMED)
    rows = dict(zip(candidates, measure_layer(bench, LayerTask("left", candidates)), strict=True))
    base, channels, groups, trimmed = (rows[c] for c in candidates)
    assert channels.weight_db < groups.weight_db
    assert channels.error > groups.error > 0
    assert trimmed.local_db < base.local_db
    graph = bench.integer({"left": TRIMMED}, {"left": bench.fit_layer(left, TRIMMED, bench.inputs_of(left))})
    trims = [n for n in graph if isinstance(n.op, IntTrim)]
    assert [n.op.trim for n in trims] == [TRIM]
    assert bench.judge(graph).loss == trimmed.loss


@pytest.mark.parametrize("sensitivity", ["divergence", "weights"])
def test_found_is_what_runs(sensitivity):
    model, data = classifier(), images(128)
    operands = ("uint8", TRIM) if sensitivity == "divergence" else ("uint8",)
    settings = Settings(
        candidates=("int2", "int2:per_group(9)", "int4:dual_grained(8)"),
        activations=operands,
        pinned={"^right$": f"int2:per_group(9)/{operands[-1]}"},
        sensitivity=sensitivity,
        tied="none" if len(operands) > 1 else "operands",
        minimise="bits",
    )
    found = search(model, data, bits=6.0, settings=settings)
    choice = found.trial.choice
    assert choice["right"] == Candidate("int2", operands[-1], granularity="per_group(9)")
    weights = {n.name: found.model.graph.constants[n.inputs[1]] for n in found.model.graph if n.name in choice}
    for name, candidate in choice.items():
        assert weights[name].format.name == candidate.weights
        assert (weights[name].groups is None) == (candidate.granularity == "")
    trims = {n.name for n in found.model.graph if isinstance(n.op, IntTrim)}
    assert len(trims) == sum(c.activations == TRIM for c in choice.values())
    counted = sum(packed_bytes(found.model.graph)[n] for n in choice)
    assert found.trial.costs["bits"] == 8 * counted / sum(w.codes.size for w in weights.values()) <= 6.0
    layers = {n.name: n for n in prepare(model) if n.name in choice}
    bops = [macs(prepare(model), layers[n]) * bits(c) * operand_bits(c) for n, c in choice.items()]
    assert found.trial.costs["bops"] == pytest.approx(sum(bops))
    again = quantize(model, data, recipe=found.recipe)
    formats = {n.name: again.graph.constants[n.inputs[1]].groups is None for n in again.graph if n.name in choice}
    assert formats == {n: c.granularity == "" for n, c in choice.items()}


def test_weights_in_groups_are_not_learned(bench):
    settings = Settings(candidates=["int4:per_group(9)"], finish=["distill"])
    with pytest.raises(AllocationError, match="groups"):
        settings.options(bench.layers)
    plain = Settings(candidates=["int4"], activations=["uint8", TRIM], finish=["distill"])
    assert all(not c.granularity for cs in plain.options(bench.layers).values() for c in cs)
    assert len({str(c) for c in itertools.chain(*plain.options(bench.layers).values())}) == 3
