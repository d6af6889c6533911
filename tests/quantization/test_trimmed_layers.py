"""Trims from the recipe to the integer graph: where they stand, what calibration sees, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import subbyte as sb
from subbyte.errors import FormatError, GraphError, RecipeError, SubbyteError
from subbyte.formats import get_format
from subbyte.formats.trims import get_trim, trimmed
from subbyte.formats.two_of_four import prune, spread, versions
from subbyte.graph.ir import IntType
from subbyte.graph.ops import Conv, Linear, Mean, Rectify
from subbyte.graph.torch_executor import run_float
from subbyte.quantization.fake_quant import fake_quantize, fake_trim
from subbyte.quantization.recipe import load_recipe, named_recipe
from subbyte.quantization.resolve import resolve
from tests.e2e.executors import check_agreement
from tests.quantization.nets import Net

SAME = {"padding": (1, 1, 1, 1)}


def network(bend: float | None = 0.0, pruned: bool = False, seed: int = 0):
    """Three convolutions, the second depthwise, the third in two groups of five; then a linear layer."""
    net = Net(3, 9, 9, seed=seed)
    shapes = {"first": (10, 3, 3, 3), "depth": (10, 1, 3, 3), "pairs": (12, 5, 3, 3), "mix": (7, 12, 1, 1)}
    x = "x"
    for name, shape in shapes.items():
        op = Conv(groups={"depth": 10, "pairs": 2}.get(name, 1), **(SAME if shape[2] == 3 else {}))
        x = net.add(name, op, x, net.weight(*shape, name=f"{name}.w"), net.weight(shape[0]))
        if pruned and name != "first":
            w = np.moveaxis(net.constants[f"{name}.w"], 1, -1)
            net.constants[f"{name}.w"] = np.ascontiguousarray(np.moveaxis(prune(w), -1, 1))
        if bend is not None:
            x = net.add(f"{name}.r", Rectify(slope=bend, lo=0.0 if bend == 0 else -np.inf), x)
    x = net.add("mean", Mean(axes=(2, 3), keepdims=False), x)
    net.add("fc", Linear(), x, net.weight(6, 7), net.weight(6))
    return net.graph("fc")


def samples(count=40, seed=1):
    return np.random.default_rng(seed).standard_normal((count, 3, 9, 9)).astype(np.float32)


def trim_nodes(graph):
    return {n.inputs[0]: n.op for n in graph if n.op.name == "int_trim"}


RECIPES = ["w8_asparq4_5opt", "w4_asparq3_6opt_round_v", "wternary_asparq2_7opt_v", "w8_asparq6_3opt_round_shared16"]


@pytest.mark.parametrize("arithmetic", ["m31", "m15", "shift"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("bend", [0.0, 0.1, None], ids=["relu", "leaky", "signed"])
def test_all_executors_agree_and_files_keep_it(recipe, arithmetic, bend, tmp_path):
    graph, x = network(bend), samples()
    q = sb.quantize(graph, x, recipe=recipe, arithmetic=arithmetic)
    assert len(trim_nodes(q.graph)) == 3  # neither the first layer's operand nor the last one's
    if bend is None:
        assert all(q.graph.types[value].zero_point > 0 for value in trim_nodes(q.graph))
    values = check_agreement(q.graph, q.encode(x))
    q.save(tmp_path / "net.subbyte")
    again = sb.load(tmp_path / "net.subbyte")
    assert trim_nodes(again.graph) == trim_nodes(q.graph)
    np.testing.assert_array_equal(again.run_codes(q.encode(x))["fc"], values["fc"])


def test_the_graph_holds_the_trims_of_its_layers():
    """Groups are what a layer multiplies together; the trimmed codes are what the definition says."""
    graph, x = network(), samples()
    q = sb.quantize(graph, x, recipe="w8_asparq4_5opt_round_v")
    found = trim_nodes(q.graph)
    assert [op.group for op in found.values()] == [1, 5, 12]
    values = q.reference(q.encode(x), keep=True)
    for value, op in found.items():
        name = f"{value}::{op.trim}"
        expected = trimmed(values[value], get_trim(op.trim), q.graph.types[value].zero_point, op.group)
        np.testing.assert_array_equal(values[name], expected)
        assert (values[name] != values[value]).any() == (op.group > 1)


@pytest.mark.parametrize("method", ["bias_correction", "batch_norm_reestimation"])
def test_corrections_see_trimmed_operands(method):
    """Truncation only ever loses, so without a correction that sees it every mean behind it is off."""
    graph, x = network(), samples(64)
    exact = run_float(graph, {"x": x})["fc"].numpy()
    rule = sb.Rule(weights="int8", activations="sparq2_7opt")
    off = {}
    for methods in ((), (method,)):
        q = sb.quantize(graph, x, recipe=sb.Recipe(name="t", rules=(rule,), methods=methods))
        off[methods] = np.abs(q(x).mean(axis=0) - exact.mean(axis=0)).max()
    assert off[(method,)] < 0.1 * off[()]
    default = sb.quantize(graph, x, recipe="w8_asparq2_7opt")
    assert np.abs(default(x).mean(axis=0) - exact.mean(axis=0)).max() < 0.1 * off[()]


def test_floats_are_trimmed_like_codes():
    rng = np.random.default_rng(0)
    for zero in (0, 100, 255):
        kind = IntType(shape=(None, 3, 10), format=get_format("uint8"), scale=0.3, zero_point=zero)
        codes = rng.integers(0, 256, (50, 3, 10)).astype(np.uint8)
        reals = fake_quantize(torch.tensor((codes.astype(np.float32) - zero) * np.float32(0.3)), kind)
        for name in ("sparq4_5opt_round_v", "sparq2_7opt_shared32", "sparq3_6opt_stc"):
            expected = trimmed(codes, get_trim(name), zero, 5).astype(np.float32) - zero
            got = fake_trim(reals, kind, get_trim(name), 5)
            np.testing.assert_allclose(got.numpy(), expected * np.float32(0.3), rtol=1e-6)


def test_ranges_are_judged_behind_the_trim():
    """Outliers: plain 8-bit codes clip them, windows that move with the number need not."""
    net = Net(16)
    net.add("a", Linear(), "x", net.weight(16, 16))
    net.add("r", Rectify(lo=0.0), "a")
    net.add("b", Linear(), "r", net.weight(32, 16))
    net.add("c", Linear(), "b", net.weight(4, 32))
    graph = net.graph("c")
    x = np.random.default_rng(0).standard_normal((256, 16)).astype(np.float32)
    x[::64] *= 20
    scales = {r: sb.quantize(graph, x, recipe=r).graph.types["r"].scale for r in ("w8a8", "w8_asparq2_7opt_shared16")}
    assert scales["w8a8"] != scales["w8_asparq2_7opt_shared16"]


@pytest.mark.parametrize("recipe", ["w8_asparq4_5opt_stc", "w4_asparq2_7opt_round_stc"])
def test_weights_pruned_two_of_four(recipe):
    """Each result sees the pairs of its own weights: computed here output by output."""
    graph, x = network(pruned=True), samples()
    q = sb.quantize(graph, x, recipe=recipe)
    values = check_agreement(q.graph, q.encode(x))
    node = next(n for n in q.graph if n.name == "mix")
    weight, bias, m, n = (q.graph.constants[i] for i in node.inputs[1:5])
    (value, op) = next((v, o) for v, o in trim_nodes(q.graph).items() if f"{v}::{o.trim}" == node.inputs[0])
    codes, zero = values[value].reshape(-1, 12).astype(int), q.graph.types[value].zero_point
    alone, wide = get_trim(op.trim).tables(zero).astype(int)
    spread_weights = weight.integers().reshape(7, 12, 4)
    for o in range(7):
        acc = np.full(len(codes), int(bias[o]))
        for four in range(0, 12, 4):
            kept = [i for i in range(four, four + 4) if spread_weights[o, i].any()]
            assert len(kept) <= 2
            for i in kept:
                others = [j for j in kept if j != i]
                free = (codes[:, others[0]] == zero) if others else np.ones(len(codes), bool)
                seen = np.where(free, wide[codes[:, i]], alone[codes[:, i]])
                acc += int(spread_weights[o, i].sum()) * (seen - zero)
        scaled = (acc * int(m[o]) + (1 << (int(n[o]) - 1))) >> int(n[o])
        result = np.clip(q.graph.types[node.output].zero_point + scaled, node.op.lo, node.op.hi)
        np.testing.assert_array_equal(result, values[node.output].reshape(-1, 7)[:, o])


def test_versions_of_weights():
    integers = np.array([[1, 0, 2, 0, 0, 0, 0, 3, 4, 5]])
    assert versions(integers)[0, [0, 2, 7, 8, 9]].tolist() == [1, 1, 3, 0, 2]
    back = spread(integers, versions(integers), np.array(0)).reshape(1, 10, 4)
    np.testing.assert_array_equal(back.sum(axis=-1), integers)
    assert np.count_nonzero(back) == 5
    np.testing.assert_array_equal(prune(np.array([[1, -4, 3, 2, -6, 5, 7]], np.float32)), [[0, -4, 3, 0, -6, 0, 7]])


def four_parts(error: SubbyteError) -> bool:
    return all((error.seen, error.rule, error.remedy, error.place))


def test_dense_weights_are_refused_under_stc():
    with pytest.raises(FormatError, match="pruned 2:4") as caught:
        sb.quantize(network(), samples(), recipe="w8_asparq4_5opt_stc")
    assert four_parts(caught.value)
    assert "depth" not in caught.value.place  # one input for each result is sparse enough


def test_weights_in_groups():
    """Behind trims in pairs they run; under stc their inputs would be spread."""
    rule = sb.Rule(weights="int4", activations="sparq4_5opt_round_v", granularity="per_group(4)")
    q = sb.quantize(network(), samples(), recipe=sb.Recipe(name="t", rules=(rule,)))
    check_agreement(q.graph, q.encode(samples()))
    pruned = sb.Rule(weights="int4", activations="sparq4_5opt_stc", granularity="per_group(4)")
    with pytest.raises(FormatError, match="groups of inputs") as caught:
        sb.quantize(network(pruned=True), samples(), recipe=sb.Recipe(name="t", rules=(pruned,)))
    assert four_parts(caught.value)


def test_methods_that_learn_refuse_stc():
    rule = sb.Rule(activations="sparq4_5opt_stc")
    recipe = sb.Recipe(name="t", rules=(rule,), methods=("adaround",))
    with pytest.raises(RecipeError, match="stc") as caught:
        sb.quantize(network(pruned=True), samples(64), recipe=recipe)
    assert four_parts(caught.value)


def test_a_trim_of_few_levels_is_refused():
    rules = (sb.Rule(activations="sparq4_5opt_v"), sb.Rule(path="first", storage="uint4"))
    with pytest.raises(FormatError, match="window of 8-bit codes") as caught:
        sb.quantize(network(), samples(), recipe=sb.Recipe(name="t", rules=rules))
    assert four_parts(caught.value)
    assert "depth" in caught.value.place


@pytest.mark.parametrize("name", ["w8_asparq4_4opt", "w8_asparq4_5opt_r", "w8_asparq5", "w8_asparq4_5opt_v_round"])
def test_unknown_trims_name_their_neighbours(name):
    with pytest.raises(FormatError, match="sparq") as caught:
        named_recipe(name)
    assert all((caught.value.seen, caught.value.rule, caught.value.remedy))


@pytest.mark.parametrize("key", ["weights", "storage"])
def test_trims_are_no_formats(key):
    with pytest.raises(RecipeError, match="used as a format") as caught:
        sb.Rule(**{key: "sparq4_5opt"})
    assert all((caught.value.seen, caught.value.rule, caught.value.remedy))
    with pytest.raises(RecipeError, match="used as a format"):
        sb.Recipe(name="t", rules=(), input="sparq4_5opt")


def test_names_and_the_ends():
    assert named_recipe("w4_asparq4_5opt_round_v").rules[0].activations == "sparq4_5opt_round_v"
    assert named_recipe("w8_asparq4_5opt_first_last_same").rules[0].activations == "sparq4_5opt"
    graph = network()
    choices = resolve(load_recipe("w4_asparq4_5opt_round_v"), graph)
    assert [c.trim.name if c.trim else c.operand.name for c in choices.values()] == [
        "uint8", *["sparq4_5opt_round_v"] * 3, "uint8",
    ]  # fmt: skip


def test_a_file_may_trim_the_ends_and_leave_a_layer(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text(
        'base = "w8_asparq4_3opt"\nfirst_input = "sparq4_5opt_round"\nlast_input = "sparq4_2opt_v"\n'
        '[[rule]]\npath = "depth"\nactivations = "uint8"\n'
    )
    choices = resolve(load_recipe(path), network())
    assert {n: c.trim.name if c.trim else "" for n, c in choices.items()} == {
        "first": "sparq4_5opt_round",
        "depth": "",
        "pairs": "sparq4_3opt",
        "mix": "sparq4_3opt",
        "fc": "sparq4_2opt_v",
    }


def test_wrong_operands_of_the_operator():
    from subbyte.graph.ops import IntTrim

    x = IntType(shape=(None, 4), format=get_format("uint4"), scale=1.0, zero_point=0)
    with pytest.raises(GraphError, match="codes of 8 bits"):
        IntTrim(trim="sparq4_5opt", group=4).infer([x])
    with pytest.raises(GraphError, match="divides"):
        IntTrim(trim="sparq4_5opt", group=3).infer(
            [IntType(shape=(None, 4), format=get_format("uint8"), scale=1.0, zero_point=0)]
        )
