"""Operands with a scale per token, from the recipe to the integer graph: what they keep, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import subbyte as sb
from subbyte.arithmetic.per_token import coded_rows
from subbyte.errors import FormatError, RecipeError, SubbyteError
from subbyte.formats import formats, get_format
from subbyte.formats.cards import card
from subbyte.formats.granularity import largest_row_code
from subbyte.graph.ir import Graph, IntType
from subbyte.graph.ops import Conv, Linear, Mean, Rectify
from subbyte.graph.ops.linear_per_token import IntLinearPerToken
from subbyte.graph.torch_executor import run_float
from subbyte.quantization.fake_quant import fake_quantize, fake_rows
from subbyte.quantization.recipe import load_recipe, named_recipe
from subbyte.quantization.resolve import resolve
from tests.e2e.executors import check_agreement
from tests.quantization.nets import Net


def tokens(bend: float = 0.0, seed: int = 0) -> Graph:
    """Three linear layers on rows of 7 tokens, an activation between them."""
    net = Net(7, 24, seed=seed)
    net.add("first", Linear(), "x", net.weight(33, 24), net.weight(33))
    net.add("r", Rectify(slope=bend, lo=0.0 if bend == 0 else -np.inf), "first")
    net.add("middle", Linear(), "r", net.weight(17, 33), net.weight(17))
    net.add("last", Linear(), "middle", net.weight(5, 17), net.weight(5))
    return net.graph("last")


def images() -> Graph:
    """A convolution, a mean and two linear layers."""
    net = Net(3, 6, 6)
    net.add("conv", Conv(padding=(1, 1, 1, 1)), "x", net.weight(8, 3, 3, 3), net.weight(8))
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "conv")
    net.add("hidden", Linear(), "mean", net.weight(9, 8), net.weight(9))
    net.add("fc", Linear(), "hidden", net.weight(4, 9), net.weight(4))
    return net.graph("fc")


def samples(count: int = 48) -> np.ndarray:
    """Of seven tokens the first is thirty times as large as the others."""
    x = np.random.default_rng(1).standard_normal((count, 7, 24)).astype(np.float32)
    x[:, 0] *= 30
    return x


def layers(graph: Graph) -> dict[str, IntLinearPerToken]:
    return {n.name: n.op for n in graph if isinstance(n.op, IntLinearPerToken)}


RECIPES = [
    "w8a8_per_token",
    "w8a4_per_token",
    "w4a4_per_token_first_last_same",
    "x31_w17_per_token",
    "wternary_a2_per_token",
    "wbinary_a8_per_token",
    "wnf4_a6_per_token",
    "w4a8_dg8_per_token",
    "w4a5_g16_per_token_first_last_8",
]


@pytest.mark.parametrize("arithmetic", ["m31", "m15", "shift"])
@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("bend", [0.0, 0.1], ids=["relu", "leaky"])
def test_all_executors_agree_and_files_keep_it(recipe, arithmetic, bend, tmp_path):
    graph, x = tokens(bend), samples()
    q = sb.quantize(graph, x, recipe=recipe, arithmetic=arithmetic)
    assert len(layers(q.graph)) == 3
    values = check_agreement(q.graph, q.encode(x))
    q.save(tmp_path / "net.subbyte")
    again = sb.load(tmp_path / "net.subbyte")
    assert layers(again.graph) == layers(q.graph)
    np.testing.assert_array_equal(again.run_codes(q.encode(x))["last"], values["last"])
    q.summary()


def test_largest_codes_follow_from_the_recipe():
    q = sb.quantize(tokens(), samples(), recipe="w8a4_per_token")
    assert {name: op.largest for name, op in layers(q.graph).items()} == {"first": 255, "middle": 15, "last": 255}
    names = {"uint8": 255, "int8": 255, "uint4": 15, "levels31": 30, "levels17": 16, "uint2": 3, "uint1": 1}
    assert {name: largest_row_code(get_format(name)) for name in names} == names


def error(q, graph, x):
    """Relative squared error of tokens with outliers, and of the others."""
    exact = run_float(graph, {"x": x})["last"].numpy()
    off = np.square(q(x) - exact)
    power = np.square(exact)
    return off[:, 0].sum() / power[:, 0].sum(), off[:, 1:].sum() / power[:, 1:].sum()


def test_outliers_of_one_token_cost_the_others_nothing():
    """A static range of 8 bits is as wide as the outliers; scales per token are nearly as good as 16 bits."""
    graph, x = tokens(), samples()
    found = {r: error(sb.quantize(graph, x, recipe=r), graph, x) for r in ("w8a8", "w8a16", "w8a8_per_token")}
    assert found["w8a8_per_token"][1] < 0.02 * found["w8a8"][1]
    assert found["w8a8_per_token"][1] < 1.5 * found["w8a16"][1]
    assert found["w8a8_per_token"][0] < 1e-3


@pytest.mark.parametrize("name", ["conv", "fc"])
def test_a_convolutional_network(name):
    """The short name means linear layers; the others are as they were but for the network's input."""
    graph = images()
    x = np.random.default_rng(0).standard_normal((40, 3, 6, 6)).astype(np.float32)
    q = sb.quantize(graph, x, recipe="w8a8_per_token")
    assert set(layers(q.graph)) == {"hidden", "fc"}
    check_agreement(q.graph, q.encode(x))
    recipe = sb.Recipe(name="t", rules=(sb.Rule(path=f"^{name}$", activation_granularity="per_token"),))
    if name == "conv":
        with pytest.raises(RecipeError, match="conv layer") as caught:
            resolve(recipe, graph)
        assert all((caught.value.seen, caught.value.rule, caught.value.remedy, caught.value.place))
        return
    q = sb.quantize(graph, x, recipe=recipe)
    assert set(layers(q.graph)) == {"fc"}
    check_agreement(q.graph, q.encode(x))


def test_operands_in_bytes():
    """A result kept in uint8 is read row by row as it is."""
    rules = (sb.Rule(activation_granularity="per_token"), sb.Rule(path="first|middle", storage="uint8"))
    q = sb.quantize(tokens(), samples(), recipe=sb.Recipe(name="bytes", rules=rules, input="uint8"))
    assert len(layers(q.graph)) == 3
    reads = [q.graph.types[n.inputs[0]] for n in q.graph if n.name in layers(q.graph)]
    assert [t.storage for t in reads if isinstance(t, IntType)] == ["uint8"] * 3
    check_agreement(q.graph, q.encode(samples()))


def test_a_result_that_is_multiplied_as_codes_of_a_table():
    """Such a layer makes none: its result has 16 bits and is re-coded where it is read."""
    rules = (
        sb.Rule(activation_granularity="per_token"),
        sb.Rule(path="last", activations="fp8_e4m3fn", activation_granularity="per_tensor"),
    )
    recipe = sb.Recipe(name="table", rules=rules, input="int16", last_input="fp8_e4m3fn")
    q = sb.quantize(tokens(), samples(), recipe=recipe)
    assert set(layers(q.graph)) == {"first", "middle"}
    assert q.graph.types["middle"].format.name == "int16"
    check_agreement(q.graph, q.encode(samples()))


def test_floats_are_coded_like_integers():
    """What calibration sees of an operand is what the operator makes of it."""
    kind = IntType(shape=(None, 3, 10), format=get_format("int16"), scale=0.01, zero_point=0)
    q = np.random.default_rng(0).integers(-9000, 9000, (20, 3, 10))
    q[0, 0] = 77
    reals = fake_quantize(torch.tensor((q * np.float32(0.01)).astype(np.float32)), kind)
    for largest in (1, 15, 255):
        got = fake_rows(reals, kind, largest).numpy()
        np.testing.assert_allclose(got, coded_rows(q, largest) * (0.01 / largest), rtol=1e-5)


@pytest.mark.parametrize("method", ["bias_correction", "batch_norm_reestimation"])
def test_corrections_see_codes_of_rows(method):
    """Two-bit codes shift means; with a correction that sees them the means come back."""
    graph, x = tokens(), samples(64)
    exact = run_float(graph, {"x": x})["last"].numpy()
    rule = sb.Rule(weights="int8", activations="uint2", activation_granularity="per_token")
    off = {}
    for methods in ((), (method,)):
        q = sb.quantize(graph, x, recipe=sb.Recipe(name="t", rules=(rule,), methods=methods))
        off[methods] = np.abs(q(x).mean(axis=(0, 1)) - exact.mean(axis=(0, 1))).max()
    assert off[(method,)] < 0.5 * off[()]


def test_names_and_files_of_recipes(tmp_path):
    assert named_recipe("w8a8_per_token").input == "int16"
    assert resolve(named_recipe("w8a8_per_token"), tokens())["middle"].largest_row_code == 255
    path = tmp_path / "r.toml"
    path.write_text('base = "w8a8"\n[[rule]]\noperator = "linear"\nactivation_granularity = "per_token"\n')
    choices = resolve(load_recipe(path), images())
    assert [c.largest_row_code for c in choices.values()] == [None, 255, 255]
    ignored = sb.Recipe(name="i", rules=named_recipe("w4a4_per_token").rules, ignored_scope=("middle",))
    assert resolve(ignored, tokens())["middle"].largest_row_code is None


@pytest.mark.parametrize(
    "rule",
    [
        {"activations": "int16"},
        {"activations": "sparq4_5opt"},
        {"activations": "nf4"},
        {"activations": "fp8_e4m3fn"},
        {"activations": "binary"},
        {"weights": "fp8_e4m3fn"},
        {"weights": "fp6_e3m2"},
    ],
)
def test_what_rows_cannot_be_is_refused(rule):
    recipe = sb.Recipe(name="t", rules=(sb.Rule(path="middle", activation_granularity="per_token", **rule),))
    with pytest.raises(SubbyteError) as caught:
        resolve(recipe, tokens())
    assert all((caught.value.seen, caught.value.rule, caught.value.remedy, caught.value.place))
    assert "middle" in caught.value.place


def test_an_unknown_granularity_and_methods_that_learn_are_refused():
    with pytest.raises(RecipeError, match="per_toke"):
        sb.Rule(activation_granularity="per_toke")
    learned = sb.Recipe(name="t", rules=named_recipe("w8a8_per_token").rules, methods=("adaround",))
    with pytest.raises(RecipeError, match="learn"):
        resolve(learned, tokens())


def test_cards_claim_what_rows_take():
    for f in formats():
        claimed = "per_token" in card(f).operand_granularity
        try:
            assert 1 <= largest_row_code(f) <= 255
        except FormatError:
            assert not claimed
        else:
            assert claimed
