"""Recipes: short names, TOML files, rules, and what wrong ones say."""

from __future__ import annotations

import pytest

from subbyte.errors import FormatError, RecipeError
from subbyte.formats import format_names
from subbyte.quantization.recipe import Recipe, Rule, load_recipe, named_recipe

NAMES = [
    ("w8a8", "int8", "uint8", None),
    ("w8a7", "int8", "uint7", None),
    ("w4a8", "int4", "uint8", None),
    ("w4a4", "int4", "uint4", None),
    ("w2a8", "int2", "uint8", "int8"),
    ("w1a8", "binary", "uint8", "int8"),
    ("wternary_a8", "ternary", "uint8", "int8"),
    ("w8_afp8_e4m3fn", "int8", "fp8_e4m3fn", None),
    ("wfp8_e4m3fn_afp8_e4m3fn", "fp8_e4m3fn", "fp8_e4m3fn", None),
    ("wmidrise2_a4", "midrise2", "uint4", "int8"),
    ("x31_w17", "levels17", "levels31", None),
    ("x23_w23", "levels23", "levels23", None),
    ("w4a8_first_last_8", "int4", "uint8", "int8"),
    ("w2a8_first_last_same", "int2", "uint8", None),
]


@pytest.mark.parametrize(("name", "weights", "activations", "ends"), NAMES)
def test_short_names(name, weights, activations, ends):
    recipe = named_recipe(name)
    assert (recipe.rules[0].weights, recipe.rules[0].activations, recipe.first_last_weights) == (
        weights,
        activations,
        ends,
    )


def test_codes_of_8_bits_are_fine_enough_for_the_last_layer():
    ends = {name: named_recipe(name) for name in ("w8_afp8_e4m3fn", "w8_afp6_e3m2", "w8a8", "w8a16")}
    assert {name: r.last_input for name, r in ends.items()} == {
        "w8_afp8_e4m3fn": "fp8_e4m3fn",
        "w8_afp6_e3m2": "uint8",
        "w8a8": "uint8",
        "w8a16": "int16",
    }
    assert ends["w8_afp8_e4m3fn"].first_input == ends["w8_afp8_e4m3fn"].input == "uint8"


@pytest.mark.parametrize(
    ("suffix", "granularity"),
    [
        ("_g32", "per_group(32)"),
        ("_g7", "per_group(7)"),
        ("_dg64", "dual_grained(64)"),
        ("_mx", "mx"),
        ("", "per_channel"),
    ],
)
def test_groups_are_a_suffix(suffix, granularity):
    for stem, weights in (("w4a8", "int4"), ("wfp4_e2m1_a8", "fp4_e2m1"), ("x31_w17", "levels17")):
        for ends in ("", "_first_last_8", "_first_last_same"):
            recipe = named_recipe(stem + suffix + ends)
            assert (recipe.rules[0].weights, recipe.rules[0].granularity) == (weights, granularity)
            assert recipe.first_last_weights == named_recipe(stem + ends).first_last_weights


def test_every_pair_of_bits_is_a_name():
    for w in range(1, 9):
        for a in range(1, 9):
            assert named_recipe(f"w{w}a{a}").name == f"w{w}a{a}"


def test_every_format_is_in_a_name():
    for name in format_names():
        both = named_recipe(f"w{name}_a{name}").rules[0]
        assert (both.weights, both.activations) == (name, name)
        assert named_recipe(f"w{name}_a8").rules[0].weights == name
        assert named_recipe(f"w4_a{name}").rules[0].activations == name


@pytest.mark.parametrize("name", ["w9a8", "w4", "int8", "", "x31w17", "w4a8_first", "w4a8_g", "w4a8_g0", "w4a8_dgx"])
def test_unknown_names_say_what_is_known(name):
    with pytest.raises((RecipeError, FormatError)) as error:
        named_recipe(name)
    assert "Rule:" in str(error.value)
    assert "Remedy:" in str(error.value)


def test_a_pair_whose_products_leave_int8_is_refused():
    with pytest.raises(FormatError, match="127"):
        named_recipe("x31_w31")


def test_toml(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(
        'base = "w4a8"\nignored_scope = ["head"]\n[[rule]]\noperator = "conv"\npath = "layer1"\nweights = "ternary"\n'
    )
    recipe = load_recipe(path)
    assert recipe.name == "mine"
    assert recipe.ignored_scope == ("head",)
    assert recipe.rules[1] == Rule(operator=("conv",), path="layer1", weights="ternary")
    assert load_recipe(recipe) is recipe


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("base = ", "mine.toml"),
        ('bse = "w8a8"', "top level"),
        ('[[rule]]\nweight = "int4"', "rule 1"),
        ('[[rule]]\noperator = "relu"\nweights = "int4"', "rule 1"),
        ('[[rule]]\npath = "("', "rule 1"),
        ("[[rule]]\npath = 3", "rule 1"),
        ("[[rule]]\nweights = 4", "rule 1"),
        ('[[rule]]\ngranularity = "per_chanel"', "rule 1"),
        ('[[rule]]\ngranularity = "per_group(0)"', "rule 1"),
        ('[[rule]]\ngranularity = "per_group"', "rule 1"),
        ('[[rule]]\nweight_method = "mae"', "rule 1"),
        ('[[rule]]\nobserver = "minmax"', "rule 1"),
        ('[[rule]]\nsymmetric = "no"', "rule 1"),
        ("[[rule]]\noperator = [1]", "rule 1"),
        ('[[rule]]\nweights = "int4"\n[[rule]]\nstorage = true', "rule 2"),
        ('rule = "w4a4"', "top level"),
        ("rule = [1]", "top level"),
        ('ignored_scope = ["("]', "top level"),
        ("ignored_scope = 3", "top level"),
        ('methods = "no"', "top level"),
        ("methods = [3]", "top level"),
        ("name = 3", "top level"),
    ],
)
def test_a_wrong_file_names_the_place(tmp_path, text, place):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(RecipeError) as error:
        load_recipe(path)
    assert place in error.value.place


def test_one_name_may_stand_for_a_list(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('ignored_scope = "head"\n[[rule]]\noperator = ["conv", "linear"]\nweights = "int4"')
    recipe = load_recipe(path)
    assert recipe.ignored_scope == ("head",)
    assert recipe.rules[1].operator == ("conv", "linear")


@pytest.mark.parametrize(
    "text", ['[[rule]]\nweights = "int44"', 'first_input = "uint77"', 'first_last_weights = "none"']
)
def test_unknown_formats_name_the_place(tmp_path, text):
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(FormatError, match="unknown") as error:
        load_recipe(path)
    assert "mine.toml" in error.value.place


@pytest.mark.parametrize("wrong", [{"granularity": "channel"}, {"operator": "conv"}, {"path": "["}, {"symmetric": 0}])
def test_rules_written_in_python_are_checked_too(wrong):
    with pytest.raises(RecipeError):
        Rule(**wrong)


def test_missing_files(tmp_path):
    with pytest.raises(RecipeError):
        load_recipe(tmp_path / "absent.toml")


def test_recipes_compare_by_value():
    assert named_recipe("w8a8") == named_recipe("w8a8")
    assert isinstance(load_recipe("w8a8"), Recipe)
