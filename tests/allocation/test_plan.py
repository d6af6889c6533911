import tomllib

import pytest

from subbyte.allocation.plan import recipe_of, to_toml
from subbyte.allocation.problem import Candidate
from subbyte.errors import AllocationError
from subbyte.graph.ir import Node
from subbyte.graph.passes import prepare
from subbyte.quantization.recipe import Rule, load_recipe, named_recipe
from subbyte.quantization.resolve import resolve
from tests.allocation.small import classifier

CHOICE = {
    "stem": Candidate("int5", "uint8"),
    "left": Candidate("ternary", "uint4"),
    "right": Candidate("levels11", "uint8"),
    "head": Candidate("int8", "uint8"),
}


def got(recipe, graph):
    return {n: Candidate(c.weights.name, c.operand.name) for n, c in resolve(recipe, graph).items()}


def test_every_layer_gets_its_candidate():
    graph = prepare(classifier())
    assert got(recipe_of(CHOICE, graph), graph) == CHOICE


def test_layers_that_are_not_named_get_8_bits():
    graph = prepare(classifier())
    assert set(got(recipe_of({}, graph), graph).values()) == {Candidate("int8", "uint8")}


def test_through_a_file(tmp_path):
    graph = prepare(classifier())
    recipe = recipe_of(CHOICE, graph, name='a "plan"')
    path = tmp_path / "plan.toml"
    path.write_text(to_toml(recipe, ("one line\nin two",)), encoding="utf8")
    assert load_recipe(path) == recipe


@pytest.mark.parametrize(
    "name", ['a"b\\c', "tab\there", "nul\x00", "\u202eright", "\U0001f600", "(a|b)*[c]$", "\x7f", "a\nb"]
)
def test_hostile_names(name, tmp_path):
    graph = prepare(classifier())
    renamed = {"left": name}
    nodes = [
        Node(name=renamed.get(n.name, n.name), op=n.op, inputs=n.inputs, output=n.output, module=n.module)
        for n in graph.nodes
    ]
    graph = graph.evolve(nodes=tuple(nodes))
    choice = {renamed.get(n, n): c for n, c in CHOICE.items()}
    text = to_toml(recipe_of(choice, graph))
    assert tomllib.loads(text)["base"] == "w8a8"
    path = tmp_path / "plan.toml"
    path.write_text(text, encoding="utf8")
    assert got(load_recipe(path), graph) == choice


def test_a_name_that_is_the_module_of_others():
    """The rule for 'right' also matches 'left', whose module path it is; the rule for 'left' wins there."""
    graph = prepare(classifier())
    nodes = [
        Node(name=n.name, op=n.op, inputs=n.inputs, output=n.output, module="right" if n.name == "left" else n.module)
        for n in graph.nodes
    ]
    assert got(recipe_of(CHOICE, g := graph.evolve(nodes=tuple(nodes))), g) == CHOICE


def test_names_that_cannot_be_told_apart():
    graph = prepare(classifier())
    swap = {"left": "right", "right": "left"}
    nodes = [
        Node(name=n.name, op=n.op, inputs=n.inputs, output=n.output, module=swap.get(n.name, n.module))
        for n in graph.nodes
    ]
    with pytest.raises(AllocationError, match="rules give layer"):
        recipe_of(CHOICE, graph.evolve(nodes=tuple(nodes)))


def test_only_plans_are_written():
    with pytest.raises(AllocationError, match="other defaults"):
        to_toml(named_recipe("w4a8"))
    recipe = named_recipe("w8a8")
    assert Rule(weights="int8") not in recipe.rules
    assert "rule" not in tomllib.loads(to_toml(recipe))
