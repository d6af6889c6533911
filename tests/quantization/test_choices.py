"""Which layer and which value gets which format."""

from __future__ import annotations

import pytest

from subbyte.errors import RecipeError
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.softmax import Softmax
from subbyte.graph.ops.unary import Unary
from subbyte.quantization.clusters import cluster_of, find_clusters
from subbyte.quantization.recipe import Recipe, Rule, named_recipe
from subbyte.quantization.resolve import is_coarse, resolve
from subbyte.quantization.slots import find_slots
from tests.quantization.nets import Net

SAME = {"padding": (1, 1, 1, 1)}


def residual_net():
    """conv a -> relu -> conv b; relu + b -> mean -> linear."""
    net = Net(3, 8, 8)
    net.add("a", Conv(**SAME), "x", net.weight(8, 3, 3, 3))
    net.add("ar", Rectify(lo=0.0), "a")
    net.add("b", Conv(**SAME), "ar", net.weight(8, 8, 3, 3))
    net.add("br", Rectify(lo=0.0), "b")
    net.add("c", Conv(**SAME), "br", net.weight(8, 8, 3, 3))
    net.add("sum", Add(), "ar", "c")
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "sum")
    net.add("fc", Linear(), "mean", net.weight(10, 8))
    return net.graph("fc")


def slots_of(graph, recipe):
    clusters = find_clusters(graph)
    return find_slots(graph, clusters, resolve(recipe, graph), recipe), cluster_of(clusters)


def stored(graph, recipe):
    """Format name of every value between layers."""
    slots, owner = slots_of(graph, recipe)
    return {v: slots.storage[g.root].format.name for v, g in owner.items()}


def test_layers_share_low_bit_codes_but_adds_and_pools_keep_eight_bits():
    graph = residual_net()
    formats = stored(graph, named_recipe("w4a4"))
    assert formats["x"] == "uint8"
    assert formats["br"] == "uint4"  # read by a convolution alone
    assert formats["ar"] == "uint8"  # read by the add too
    assert formats["c"] == formats["sum"] == "uint8"
    assert formats["fc"] == "int16"
    slots, owner = slots_of(graph, named_recipe("w4a4"))
    recoded = {(root, name) for root, name in slots.operands}
    assert recoded == {(owner["ar"].root, "uint4")}  # the network's input is multiplied as it is


def test_codes_lie_between_layers_and_sixteen_bits_elsewhere():
    graph = residual_net()
    recipe = named_recipe("w8_afp8_e4m3fn")
    formats = stored(graph, recipe)
    assert formats["x"] == "uint8"
    assert formats["br"] == "fp8_e4m3fn"  # made by a convolution, read by one alone
    assert formats["ar"] == formats["c"] == formats["sum"] == "int16"  # an add's
    assert formats["mean"] == "int16"  # made by what makes no codes
    slots, owner = slots_of(graph, recipe)
    assert set(slots.operands) == {(owner[value].root, "fp8_e4m3fn") for value in ("ar", "mean")}


def test_operands_stored_as_codes_or_scaled_by_row_are_coarse():
    graph = residual_net()
    names = ("w8a8", "wfp8_e4m3fn_a16", "w8_afp8_e4m3fn", "w8a8_per_token", "w8a7", "w8a6")
    coarse = {name: any(map(is_coarse, resolve(named_recipe(name), graph).values())) for name in names}
    assert [name for name in names if coarse[name]] == ["w8_afp8_e4m3fn", "w8a8_per_token", "w8a6"]


def test_a_rule_may_store_less_than_eight_bits():
    recipe = named_recipe("w4a4")
    rules = (*recipe.rules, Rule(path="^a$", storage="uint4"))
    graph = residual_net()
    assert stored(graph, Recipe(name="mine", rules=rules))["ar"] == "uint4"


def test_the_ends_keep_eight_bits():
    graph = residual_net()
    choices = resolve(named_recipe("w2a4"), graph)
    assert [choices[n].weights.name for n in "abc"] == ["int8", "int2", "int2"]
    assert choices["fc"].weights.name == "int8"
    assert choices["fc"].operand.name == "uint8"
    same = resolve(named_recipe("w2a4_first_last_same"), graph)
    assert same["a"].weights.name == "int2"


def test_a_rule_that_names_a_layer_beats_the_ends():
    recipe = named_recipe("w2a4")
    graph = residual_net()
    rules = (*recipe.rules, Rule(path="^fc$", weights="int4", activations="uint4"))
    choice = resolve(Recipe(name="mine", rules=rules, first_last_weights="int8"), graph)["fc"]
    assert (choice.weights.name, choice.operand.name) == ("int4", "uint4")


def test_the_first_layers_multiply_the_input_in_eight_bits_unless_the_recipe_says_otherwise():
    graph = residual_net()
    recipe = named_recipe("w4a4")
    operands = {n: c.operand.name for n, c in resolve(recipe, graph).items()}
    assert operands == {"a": "uint8", "b": "uint4", "c": "uint4", "fc": "uint8"}
    low = Recipe(name="low", rules=recipe.rules, first_input="uint4", last_input="uint5")
    operands = {n: c.operand.name for n, c in resolve(low, graph).items()}
    assert (operands["a"], operands["fc"]) == ("uint4", "uint5")


def test_ignored_layers_stay_at_eight_bits():
    recipe = named_recipe("wternary_a4")
    graph = residual_net()
    choice = resolve(Recipe(name="mine", rules=recipe.rules, ignored_scope=("^b$",)), graph)["b"]
    assert (choice.weights.name, choice.operand.name) == ("int8", "uint8")


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(name="r", rules=(Rule(weights="int8"), Rule(path="layer9", weights="int4"))),
        Recipe(name="r", rules=(Rule(weights="int8"),), ignored_scope=("nothing",)),
    ],
)
def test_a_rule_that_matches_nothing_is_an_error(recipe):
    with pytest.raises(RecipeError, match="matches no layer") as error:
        resolve(recipe, residual_net())
    assert "named like" in error.value.remedy


def test_movement_shares_a_quantization_and_concat_joins_only_its_own_branches():
    net = Net(4, 8, 8)
    net.add("a", Conv(**SAME), "x", net.weight(4, 4, 3, 3))
    net.add("b", Conv(**SAME), "x", net.weight(4, 4, 3, 3))
    net.add("pool", MaxPool(kernel=(2, 2), stride=(2, 2), dilation=(1, 1), padding=(0,) * 4), "a")
    net.add("avg", AvgPool(kernel=(2, 2), stride=(2, 2), padding=(0,) * 4, ceil_mode=False), "b")
    net.add("avg2", Unary(function="sigmoid"), "avg")
    net.add("cat", Concat(axis=1), "pool", "avg")
    net.add("d", Conv(), "cat", net.weight(4, 8, 1, 1))
    net.add("e", Conv(), "avg2", net.weight(4, 4, 1, 1))
    graph = net.graph("d", "e")
    owner = cluster_of(find_clusters(graph))
    assert owner["a"].root == owner["pool"].root == owner["cat"].root
    assert owner["avg"].root != owner["cat"].root  # the sigmoid reads it too
    assert set(owner["cat"].observed) == {"a", "cat"}


def test_a_concat_leaves_probabilities_outputs_and_inputs_alone():
    net = Net(4)
    net.add("a", Linear(), "x", net.weight(4, 4))
    net.add("p", Softmax(axis=1), "a")
    net.add("b", Linear(), "x", net.weight(4, 4))
    net.add("c", Linear(), "x", net.weight(4, 4))
    net.add("cat", Concat(axis=1), "p", "b", "x", "c")
    net.add("d", Linear(), "cat", net.weight(4, 16))
    graph = net.graph("d", "b")
    owner = cluster_of(find_clusters(graph))
    joined = {v for v in ("p", "b", "x", "c") if owner[v].root == owner["cat"].root}
    assert joined == {"c"}
    assert stored(graph, named_recipe("w8a8"))["p"] == "int16"
