"""Recipes: the user's choice of formats, as ordered rules, short names or TOML files."""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

from subbyte.errors import FormatError, RecipeError, SubbyteError, unknown_name
from subbyte.formats import get_format, get_granularity
from subbyte.formats.encode import ENCODE_ROUNDINGS
from subbyte.formats.granularity import GRANULARITIES, OPERAND_GRANULARITIES, PER_TOKEN
from subbyte.formats.levels import check_pair, pairs
from subbyte.formats.quantize import METHODS as SCALE_METHODS
from subbyte.formats.trims import get_trim, is_trim
from subbyte.quantization.learning import Learning
from subbyte.quantization.methods import (
    BIAS_CORRECTION,
    CLIPPING,
    CORRECTIONS,
    DEFAULT_WEIGHT_METHODS,
    GRAPH_METHODS,
    LEARNED_METHODS,
    SPLITTING,
    WEIGHT_METHODS,
)
from subbyte.ranges import get_observer

LAYER_OPERATORS = ("conv", "linear")
METHODS = (*DEFAULT_WEIGHT_METHODS, BIAS_CORRECTION)
"""How weights and biases are found, in the order in which they make sense: the default below 8 bits."""
ALL_METHODS = (*GRAPH_METHODS, CLIPPING, SPLITTING, *WEIGHT_METHODS, *CORRECTIONS, *LEARNED_METHODS)
"""What a recipe may name; those that learn come last."""

_Made = TypeVar("_Made")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """What matching layers use; None leaves an earlier rule's choice. Later rules win.

    Attributes:
        operator: operator names (``conv``, ``linear``) that match; empty matches both.
        path: regular expression searched in the node's name and module path; empty matches all.
        weights: format of the weights.
        activations: format of the operand, the activations as the layer multiplies them; or a trim (``sparq4_5opt``).
        activation_granularity: of the operand's scale: ``per_tensor``, or of linear layers ``per_token``: each row has
            its own, found while the network runs, and is read from 16 bits.
        storage: format in which the layer's result is kept between layers.
        observer: of the result's range; None searches by layer output error.
        granularity: of the weights' scales: ``per_channel``, ``per_tensor``, ``per_group(32)``, ``dual_grained(64)``,
            ``mx``.
        weight_method: ``min_max`` or ``mse``; None takes min_max at 8 bits and mse below.
        symmetric: False gives weights a zero point; None does so for dual_grained alone.
        rounding: of weights to codes, a name of ``formats.encode.ENCODE_ROUNDINGS``; None is half_even. Another one is
            the last word: methods that choose codes themselves (``CODE_METHODS``) leave the layer alone.

    Raises:
        RecipeError: an operator, granularity, rounding, method, observer or path that means nothing, or a value of a
            wrong type.
        FormatError: an unknown format.
    """

    operator: tuple[str, ...] = ()
    path: str = ""
    weights: str | None = None
    activations: str | None = None
    activation_granularity: str | None = None
    storage: str | None = None
    observer: str | None = None
    granularity: str | None = None
    weight_method: str | None = None
    symmetric: bool | None = None
    rounding: str | None = None

    def __post_init__(self) -> None:
        _check_types(self)
        _check_names("operator with weights", self.operator, LAYER_OPERATORS)
        _check_granularity(self.granularity)
        _check_names("granularity of operands", [self.activation_granularity], OPERAND_GRANULARITIES)
        _check_names("weight method", [self.weight_method], SCALE_METHODS)
        _check_names("rounding", [self.rounding], ENCODE_ROUNDINGS)
        _check_path(self.path)
        _check_formats(self.weights, self.storage)
        _check_operands(self.activations)
        if self.observer is not None:
            get_observer(self.observer)

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
        first_input: operand format of layers that no other layer precedes.
        last_input: operand format of layers that no other layer follows.
        first_last_weights: weight format of the first and last layers; None takes the rules'.
        methods: how the network is prepared and its weights and biases are found, names of ``ALL_METHODS``, each kind
            in the order given; None takes ``bias_correction`` where all layers have 128 levels or more, no trim and
            no operands stored as codes or with a scale per token, else everything of ``METHODS``. Methods that learn
            come last.
        learning: their settings.

    Raises:
        RecipeError: an ignored scope is no regular expression, a method is unknown, or a value has a wrong type.
        FormatError: an unknown format.
    """

    name: str
    rules: tuple[Rule, ...]
    ignored_scope: tuple[str, ...] = ()
    input: str = "uint8"
    output: str = "int16"
    first_input: str = "uint8"
    last_input: str = "uint8"
    first_last_weights: str | None = None
    methods: tuple[str, ...] | None = None
    learning: Learning = field(default_factory=Learning)

    def __post_init__(self) -> None:
        _check_types(self)
        _check_names("method", self.methods or (), ALL_METHODS)
        _check_order(self.methods or ())
        for pattern in self.ignored_scope:
            _check_path(pattern)
        _check_formats(self.input, self.output, self.first_last_weights)
        _check_operands(self.first_input, self.last_input)


_GROUPS = re.compile(r"(?P<stem>.+)_(?:(?P<kind>dg|g)(?P<size>\d{1,8})|mx)")
_GROUP_KINDS = {"g": "per_group", "dg": "dual_grained"}
_PAIR = re.compile(r"x(\d+)_w(\d+)")
_LOW_LEVELS = 16
"""Below this many weight levels the first and last layers keep 8-bit weights unless a modifier says otherwise."""


def _weight_format(text: str) -> str:
    if text.isdigit():
        return "binary" if text == "1" else f"int{text}"
    return text


def _activation_format(text: str) -> str:
    if text == "16":
        return "int16"
    return f"uint{text}" if text.isdigit() else text


def _short(name: str) -> tuple[str, str] | None:
    """Weight and activation format names of a short recipe name without modifiers."""
    if pair := _PAIR.fullmatch(name):
        check_pair(int(pair[1]), int(pair[2]))
        return f"levels{pair[2]}", f"levels{pair[1]}"
    if plain := re.fullmatch(r"w(\d)_?a(\d|16)", name):
        return _weight_format(plain[1]), _activation_format(plain[2])
    if named := re.fullmatch(r"w(\w+?)_a(\w+)", name):
        return _weight_format(named[1]), _activation_format(named[2])
    return None


def _unknown(name: str) -> RecipeError:
    """The error of a name that has none of the forms, with the nearest names that have."""
    names = [f"w{w}a{a}" for w in range(1, 9) for a in range(1, 9)] + ["wternary_a8", "wternary_a4"]
    near = difflib.get_close_matches(name.lower(), [*names, *(pair.recipe for pair in pairs())], n=3)
    return RecipeError(
        f"recipe {name!r} is unknown",
        "a recipe is w<bits>a<bits>, w<format>_a<format>, x<levels>_w<levels>, a Recipe, or the path of a .toml file",
        f"did you mean {' or '.join(near)}?" if near else "use w8a8, w4a8, w4a4, w2a8, w8a16, wternary_a8 or x31_w17",
    )


def named_recipe(name: str) -> Recipe:
    """The recipe of a short name.

    ``w<bits>a<bits>`` (``w4a8``; ``w8a16`` keeps the network's inputs and every activation in 16 bits),
    ``w<format>_a<format>`` with any registered format or bits (``wternary_a8``; ``w8_afp8_e4m3fn`` multiplies the last
    layer's operand so too), for operands also any trim
    (``w4_asparq4_5opt_round_v``), ``x<levels>_w<levels>`` (``x31_w17``); then optionally ``_g<size>`` (weights with
    integer scales per group), ``_dg<size>`` (dual-grained) or ``_mx`` (MX blocks of 32), ``_per_token`` (operands of
    linear layers have a scale for each row, the network's inputs 16 bits), and ``_first_last_8`` (8-bit weights in the
    first and last layer, the default below 16 weight levels) or ``_first_last_same``.

    Raises:
        RecipeError: the name does not have this form.
        FormatError: it names an unknown format, or a pair of level counts whose products leave int8.
    """
    stem, modifier = name, ""
    for suffix in ("_first_last_8", "_first_last_same"):
        if name.endswith(suffix):
            stem, modifier = name.removesuffix(suffix), suffix
    per_token = stem.endswith(f"_{PER_TOKEN}")
    stem = stem.removesuffix(f"_{PER_TOKEN}")
    grouped = _GROUPS.fullmatch(stem)
    granularity = "per_channel"
    if grouped:
        stem, kind, size = grouped.group("stem", "kind", "size")
        granularity = "mx" if kind is None else f"{_GROUP_KINDS[kind]}({size})"
    formats = _short(stem)
    if formats is None:
        raise _unknown(name)
    _check_formats(formats[0])
    _check_operands(formats[1])
    weights = get_format(formats[0])
    operand = formats[1] if is_trim(formats[1]) else get_format(formats[1]).name
    ends = "int16" if operand == "int16" else "uint8"
    fine = not is_trim(operand) and get_format(operand).coded and get_format(operand).levels >= 128
    rules = [Rule(weights=weights.name, activations=operand, granularity=granularity)]
    if per_token:
        rules.append(Rule(operator=("linear",), activation_granularity=PER_TOKEN))
    keep_ends = modifier == "_first_last_8" or (not modifier and weights.levels < _LOW_LEVELS)
    return Recipe(
        name=name,
        rules=tuple(rules),
        first_last_weights="int8" if keep_ends else None,
        input="int16" if per_token else ends,
        first_input=ends,
        last_input=operand if fine else ends,
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
    place = f"{path}, top level"
    base = named_recipe(str(table.pop("base", "w8a8")))
    listed, learning = table.pop("rule", []), table.pop("learning", {})
    if not isinstance(listed, list) or not all(isinstance(rule, dict) for rule in listed):
        raise RecipeError(f"rule is {listed!r}", "rules are tables", "write [[rule]] above each of them", place)
    if not isinstance(learning, dict):
        raise RecipeError(f"learning is {learning!r}", "learning is a table", "write [learning] above its keys", place)
    _refuse_unknown(learning, {f.name for f in fields(Learning)}, f"{path}, learning")
    table["learning"] = _placed(lambda: Learning(**learning), f"{path}, learning")
    rules = base.rules + tuple(_rule(r, f"{path}, rule {i}") for i, r in enumerate(listed, 1))
    _refuse_unknown(table, {f.name for f in fields(Recipe)} - {"rules"} | {"base", "rule"}, place)
    table.setdefault("name", path.stem)
    return _placed(lambda: replace(base, rules=rules, **_tuples(table, "ignored_scope", "methods")), place)


def _rule(table: Mapping[str, Any], place: str) -> Rule:
    _refuse_unknown(table, {f.name for f in fields(Rule)}, place)
    return _placed(lambda: Rule(**_tuples(table, "operator")), place)


def _tuples(table: Mapping[str, Any], *keys: str) -> dict[str, Any]:
    """The table with some keys' lists, or single names, as tuples."""
    values = dict(table)
    for key in keys:
        if isinstance(values.get(key), str | list):
            values[key] = (values[key],) if isinstance(values[key], str) else tuple(values[key])
    return values


def _placed(make: Callable[[], _Made], place: str) -> _Made:
    """What ``make`` returns; its errors get a place."""
    try:
        return make()
    except SubbyteError as error:
        raise error.at(place) from error


def _check_types(made: Rule | Recipe) -> None:
    """Texts are texts, flags are flags and lists are tuples of texts, as annotated."""
    for f in fields(made):
        value, kind = getattr(made, f.name), str(f.type)
        if kind.startswith("tuple[str, ...]"):
            good = isinstance(value, tuple) and all(isinstance(v, str) for v in value)
        elif kind.startswith("tuple"):
            good = isinstance(value, tuple) and all(isinstance(v, Rule) for v in value)
        elif kind == "Learning":
            good = isinstance(value, Learning)
        else:
            good = isinstance(value, bool if kind.startswith("bool") else str)
        if not good and not (value is None and kind.endswith("None")):
            raise RecipeError(f"{f.name} is {value!r}", f"{f.name} is {kind}", f"correct {f.name}")


def _check_names(kind: str, names: Iterable[str | None], known: Sequence[str]) -> None:
    for name in names:
        if name is not None and name not in known:
            raise RecipeError(*unknown_name(kind, name, known))


def _check_granularity(name: str | None) -> None:
    try:
        get_granularity(name or GRANULARITIES[0])
    except FormatError as error:
        raise RecipeError(error.seen, error.rule, error.remedy) from error


def _check_order(methods: Sequence[str]) -> None:
    """Learned methods begin where the others end."""
    learned = [m in LEARNED_METHODS for m in methods]
    if learned != sorted(learned):
        raise RecipeError(
            f"methods are {', '.join(methods)}",
            f"{', '.join(LEARNED_METHODS)} start from a quantized network, behind all other methods",
            f"write {', '.join(sorted(methods, key=lambda m: m in LEARNED_METHODS))}",
        )


def _check_path(path: str) -> None:
    try:
        re.compile(path)
    except re.error as error:
        raise RecipeError(
            f"{path!r} is no regular expression: {error}", "paths are searched as regular expressions", "escape it"
        ) from error


def _check_formats(*names: str | None) -> None:
    for name in names:
        if name is not None and is_trim(name):
            raise RecipeError(
                f"{name!r} is used as a format",
                "trims are for what layers multiply, codes of 8 bits with neighbours; weights and results have formats",
                "write it as activations (w8_asparq4_5opt)",
            )
        if name is not None:
            get_format(name)


def _check_operands(*names: str | None) -> None:
    for name in names:
        if name is not None and is_trim(name):
            get_trim(name)
        else:
            _check_formats(name)


def _refuse_unknown(table: Mapping[str, Any], known: set[str], place: str) -> None:
    for key in table:
        if key not in known:
            raise RecipeError(f"key {key!r} is unknown", f"keys are {sorted(known)}", "remove or rename it", place)
