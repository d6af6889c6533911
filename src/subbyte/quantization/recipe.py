"""Recipes: the user's choice of formats, as ordered rules, short names or TOML files."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from subbyte.errors import RecipeError
from subbyte.formats import get_format
from subbyte.formats.levels import check_pair

LAYER_OPERATORS = ("conv", "linear")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What matching layers use; None leaves an earlier rule's choice. Later rules win.

    Attributes:
        operator: operator names (``conv``, ``linear``) that match; empty matches both.
        path: regular expression searched in the node's name and module path; empty matches all.
        weights: format of the weights.
        activations: format of the operand, the activations as the layer multiplies them.
        storage: format in which the layer's result is kept between layers.
        observer: of the result's range; None searches by layer output error.
        granularity: ``per_channel`` or ``per_tensor`` scales of the weights.
        weight_method: ``min_max`` or ``mse``; None takes min_max at 8 bits and mse below.
        symmetric: False gives weights a zero point.
    """

    operator: tuple[str, ...] = ()
    path: str = ""
    weights: str | None = None
    activations: str | None = None
    storage: str | None = None
    observer: str | None = None
    granularity: str | None = None
    weight_method: str | None = None
    symmetric: bool | None = None

    def matches(self, operator: str, name: str, module: str) -> bool:
        """Whether the rule speaks of a layer."""
        if self.operator and operator not in self.operator:
            return False
        return not self.path or any(re.search(self.path, text) for text in (name, module))


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Ordered rules and the network-wide choices.

    Attributes:
        name: shown in tables and stored in the model file.
        rules: the first one holds the defaults of every layer.
        ignored_scope: regular expressions; matching layers stay at 8 bits (nothing is ever left in float).
        input: format of the network's inputs.
        output: format of the network's outputs.
        last_input: operand format of layers that no other layer follows.
        first_last_weights: weight format of the first and last layers; None takes the rules'.
        bias_correction: sequential correction of every layer's mean.
    """

    name: str
    rules: tuple[Rule, ...]
    ignored_scope: tuple[str, ...] = ()
    input: str = "uint8"
    output: str = "int16"
    last_input: str = "uint8"
    first_last_weights: str | None = None
    bias_correction: bool = True


_PAIR = re.compile(r"x(\d+)_w(\d+)")
_LOW_LEVELS = 16
"""Below this many weight levels the first and last layers keep 8-bit weights unless a modifier says otherwise."""


def _weight_format(text: str) -> str:
    if text.isdigit():
        return "binary" if text == "1" else f"int{text}"
    return text


def _activation_format(text: str) -> str:
    return f"uint{text}" if text.isdigit() else text


def _short(name: str) -> tuple[str, str] | None:
    """Weight and activation format names of a short recipe name without modifiers."""
    if pair := _PAIR.fullmatch(name):
        check_pair(int(pair[1]), int(pair[2]))
        return f"levels{pair[2]}", f"levels{pair[1]}"
    if plain := re.fullmatch(r"w(\d)_?a(\d)", name):
        return _weight_format(plain[1]), _activation_format(plain[2])
    if named := re.fullmatch(r"w(\w+?)_a(\w+)", name):
        return _weight_format(named[1]), _activation_format(named[2])
    return None


def named_recipe(name: str) -> Recipe:
    """The recipe of a short name.

    ``w<bits>a<bits>`` (``w4a8``), ``w<format>_a<format>`` with any registered format or bits (``wternary_a8``),
    ``x<levels>_w<levels>`` (``x31_w17``); then optionally ``_first_last_8`` (8-bit weights in the first and last
    layer, the default below 16 weight levels) or ``_first_last_same``.

    Raises:
        RecipeError: the name does not have this form.
        FormatError: it names an unknown format, or a pair of level counts whose products leave int8.
    """
    stem, modifier = name, ""
    for suffix in ("_first_last_8", "_first_last_same"):
        if name.endswith(suffix):
            stem, modifier = name.removesuffix(suffix), suffix
    formats = _short(stem)
    if formats is None:
        raise RecipeError(
            f"recipe {name!r} is unknown",
            "a recipe is a short name, a Recipe, or the path of a .toml file",
            "use w8a8, w4a8, w4a4, w2a8, wternary_a8, x31_w17 or another w<bits>a<bits> / x<levels>_w<levels>",
        )
    weights, activations = (get_format(f) for f in formats)
    keep_ends = modifier == "_first_last_8" or (not modifier and weights.levels < _LOW_LEVELS)
    return Recipe(
        name=name,
        rules=(Rule(weights=weights.name, activations=activations.name, granularity="per_channel", symmetric=True),),
        first_last_weights="int8" if keep_ends else None,
    )


def load_recipe(recipe: str | Path | Recipe) -> Recipe:
    """A Recipe from itself, a short name, or a path ending in .toml."""
    if isinstance(recipe, Recipe):
        return recipe
    if Path(recipe).suffix == ".toml":
        return _from_toml(Path(recipe))
    return named_recipe(str(recipe))


def _from_toml(path: Path) -> Recipe:
    try:
        table = tomllib.loads(path.read_text(encoding="utf8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise RecipeError(
            f"{path.name} cannot be read: {error}",
            "a recipe file is TOML",
            "check the path and the syntax",
            str(path),
        ) from error
    base = named_recipe(str(table.pop("base", "w8a8")))
    rules = base.rules + tuple(_rule(r, path, i) for i, r in enumerate(table.pop("rule", []), 1))
    known = {f.name for f in fields(Recipe)} - {"rules"}
    _refuse_unknown(table, known | {"base", "rule"}, f"{path}, top level")
    table.setdefault("name", path.stem)
    for key in ("input", "output", "last_input", "first_last_weights"):
        if key in table:
            get_format(table[key])
    if "ignored_scope" in table:
        table["ignored_scope"] = tuple(table["ignored_scope"])
    return replace(base, rules=rules, **table)


def _rule(table: Mapping[str, Any], path: Path, number: int) -> Rule:
    place = f"{path}, rule {number}"
    _refuse_unknown(table, {f.name for f in fields(Rule)}, place)
    values = dict(table)
    operator = values.get("operator", ())
    values["operator"] = (operator,) if isinstance(operator, str) else tuple(operator)
    for name in values["operator"]:
        if name not in LAYER_OPERATORS:
            raise RecipeError(
                f"operator {name!r} has no weights", f"rules speak of {LAYER_OPERATORS}", "drop it", place
            )
    try:
        re.compile(values.get("path", ""))
    except re.error as error:
        raise RecipeError(f"path is no regular expression: {error}", "path is searched", "escape it", place) from error
    for key in ("weights", "activations", "storage"):
        if key in values:
            get_format(values[key])
    return Rule(**values)


def _refuse_unknown(table: Mapping[str, Any], known: set[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise RecipeError(f"key {key!r} is unknown", f"keys are {sorted(known)}", "remove or rename it", place)
