"""Which layer gets which formats: a recipe applied to the layers of a prepared float graph."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from subbyte.errors import FormatError, RecipeError
from subbyte.formats import get_format
from subbyte.formats.format import Format
from subbyte.formats.granularity import (
    PER_TOKEN,
    DualGrained,
    Granularity,
    PerChannel,
    PerGroup,
    get_granularity,
    largest_row_code,
)
from subbyte.formats.refusals import require_legal
from subbyte.formats.trims import Trim, get_trim, is_trim
from subbyte.graph.ir import Graph, Node
from subbyte.graph.verify import place_of
from subbyte.quantization.methods import LEARNED_METHODS
from subbyte.quantization.recipe import LAYER_OPERATORS, Recipe, Rule


@dataclass(frozen=True, kw_only=True)
class LayerChoice:
    """What one convolution or linear layer uses.

    Attributes:
        weights: format of the weights.
        operand: format of the activations as the layer multiplies them.
        storage: format of the result between layers; None lets the consumers decide.
        observer: name of the result's observer; None searches.
        granularity: of the weights' scales.
        weight_method: ``min_max`` or ``mse``.
        symmetric: whether the weights' zero point is 0.
        rounding: of weights to codes.
        trim: what is kept of the operand's 8-bit codes; None all.
        largest_row_code: where each row of the operand, read as ``operand`` says, has a scale of its own; else None.
    """

    weights: Format
    operand: Format
    storage: Format | None = None
    observer: str | None = None
    granularity: Granularity = field(default_factory=PerChannel)
    weight_method: str = "min_max"
    symmetric: bool = True
    rounding: str = "half_even"
    trim: Trim | None = None
    largest_row_code: int | None = None


def is_low(format_: Format) -> bool:
    """Whether a format has fewer levels than 8 bits, signed or not."""
    return format_.levels < 128


def is_coarse(choice: LayerChoice) -> bool:
    """Whether weights or operand of a layer have few levels, or a trim leaves few.

    Operands stored as codes count as such: their values lie far apart but near 0. So do rows with scales of their own:
    beside them, corrected means alone left a keyword network 6 dB where all methods leave 23.
    """
    operand = is_low(choice.operand) or choice.operand.coded or choice.largest_row_code is not None
    return is_low(choice.weights) or operand or choice.trim is not None


def is_wide(format_: Format) -> bool:
    """Whether a format of activations has more consecutive values than 8 bits."""
    return format_.uniform and format_.storage == "int16"


def resolve(recipe: Recipe, graph: Graph) -> Mapping[str, LayerChoice]:
    """The choice of every layer by node name.

    Raises:
        RecipeError: a rule or an ignored scope matches no layer, or methods that learn meet group scales or stc trims.
        FormatError: a format is refused in the role or with the granularity that the recipe gives it; the place names
            the layer.
    """
    for end in ("input", "output"):
        require_legal(get_format(getattr(recipe, end)), "storage", place=f"{end} of recipe {recipe.name!r}")
    layers = [n for n in graph if n.op.name in LAYER_OPERATORS]
    _check_rules(recipe, layers)
    first, last = _ends(graph, layers)
    choices = {}
    for node in layers:
        merged = _merge([r for r in recipe.rules if r.matches(node.op.name, node.name, node.module)])
        if recipe.first_last_weights and node.name in first | last:
            merged = _override(merged, recipe, node, weights=recipe.first_last_weights)
        if node.name in first | last:
            operand = recipe.last_input if node.name in last else recipe.first_input
            merged = _override(merged, recipe, node, activations=operand)
        if any(re.search(p, t) for p in recipe.ignored_scope for t in (node.name, node.module)):
            merged = replace(_ungrouped(merged), weights="int8", activations="uint8", symmetric=True)
            merged = replace(merged, activation_granularity=None)
        place = f"{place_of(graph, node)}, recipe {recipe.name!r}"
        _require_rows(merged, node, place)
        choices[node.name] = _choice(merged)
        _require_legal(choices[node.name], node, place)
        _require_learnable(choices[node.name], recipe, place)
    return choices


def _require_legal(choice: LayerChoice, node: Node, place: str) -> None:
    require_legal(choice.weights, "weight" if choice.symmetric else "affine_weight", node.op.name, place)
    if isinstance(choice.granularity, PerGroup):
        try:
            choice.granularity.most(choice.weights, choice.symmetric)
        except FormatError as error:
            raise error.at(place) from error
    require_legal(choice.operand, "activation", node.op.name, place)
    if choice.storage is not None:
        require_legal(choice.storage, "storage", node.op.name, place)


def _require_rows(rule: Rule, node: Node, place: str) -> None:
    """Scales per token are for linear layers, codes of few bits and weights of bytes."""
    if rule.activation_granularity != PER_TOKEN:
        return
    if node.op.name != "linear":
        raise RecipeError(
            f"operands of a {node.op.name} layer are to have scales per token",
            "a token is a row of a linear layer; windows of a convolution overlap, and share what they read",
            'write operator = "linear" into the rule, or activation_granularity = "per_tensor" for this layer',
            place,
        )
    if rule.activations and is_trim(rule.activations):
        raise RecipeError(
            f"{rule.activations} with a scale per token",
            "trims keep windows of 8-bit codes that have one scale",
            "use a format such as uint4 as activations, or activation_granularity = per_tensor",
            place,
        )
    weights = get_format(rule.weights or "int8")
    if not weights.fits_int8:
        raise FormatError(
            f"weights of {weights.name} beside rows with scales of their own",
            "codes of rows multiply weights that fit int8",
            "use int8 or fewer bits, nf4, fp4_e2m1 or fp6_e2m3, or activation_granularity = per_tensor",
            place,
        )
    try:
        largest_row_code(get_format(rule.activations or "uint8"))
    except FormatError as error:
        raise error.at(place) from error


def _require_learnable(choice: LayerChoice, recipe: Recipe, place: str) -> None:
    learned = [m for m in recipe.methods or () if m in LEARNED_METHODS]
    if learned and isinstance(choice.granularity, PerGroup):
        raise RecipeError(
            f"{learned[0]} is to learn weights in {choice.granularity}",
            "methods that learn know scales of channels and tensors, not of groups",
            f"leave {', '.join(learned)} out of the methods, or use per_channel",
            place,
        )
    if learned and choice.trim and choice.trim.pairing == "stc":
        raise RecipeError(
            f"{learned[0]} is to learn the weights beside {choice.trim.name}",
            "learned weights fill what was pruned, and stc trims need weights of which two in four are 0",
            f"leave {', '.join(learned)} out of the methods, or use a trim that ends in _v",
            place,
        )
    if learned and choice.largest_row_code:
        raise RecipeError(
            f"{learned[0]} is to learn beside operands with scales per token",
            "methods that learn know operands with one scale",
            f"leave {', '.join(learned)} out of the methods, or use activation_granularity = per_tensor",
            place,
        )


_CHOICES = tuple(f.name for f in fields(Rule) if f.name not in {"operator", "path"})


def _merge(rules: list[Rule]) -> Rule:
    values = {}
    for rule in rules:
        for key in _CHOICES:
            if getattr(rule, key) is not None:
                values[key] = getattr(rule, key)
    return Rule(**values)


def _override(
    merged: Rule, recipe: Recipe, node: Node, weights: str | None = None, activations: str | None = None
) -> Rule:
    """Network-wide defaults for the ends give way to rules that name the layer by its path.

    Weights that come so have one scale per channel: groups are the rules' choice for the rules' format.
    """
    named = _merge([r for r in recipe.rules if r.path and r.matches(node.op.name, node.name, node.module)])
    if weights and not named.weights:
        merged = _ungrouped(merged)
    return replace(
        merged,
        weights=named.weights or weights or merged.weights,
        activations=named.activations or activations or merged.activations,
    )


def _ungrouped(rule: Rule) -> Rule:
    """The rule with one scale per channel in place of groups."""
    if not rule.granularity or not isinstance(get_granularity(rule.granularity), PerGroup):
        return rule
    return replace(rule, granularity=PerChannel.name, symmetric=None)


def _choice(rule: Rule) -> LayerChoice:
    weights, operand = get_format(rule.weights or "int8"), rule.activations or "uint8"
    trim = get_trim(operand) if is_trim(operand) else None
    rows = rule.activation_granularity == PER_TOKEN
    granularity = get_granularity(rule.granularity or PerChannel.name)
    symmetric = not isinstance(granularity, DualGrained) if rule.symmetric is None else rule.symmetric
    return LayerChoice(
        weights=weights,
        operand=get_format("uint8" if trim else "int16" if rows else operand),
        storage=get_format(rule.storage) if rule.storage else None,
        observer=rule.observer,
        granularity=granularity,
        weight_method=rule.weight_method or ("mse" if is_low(weights) else "min_max"),
        symmetric=symmetric,
        rounding=rule.rounding or "half_even",
        trim=trim,
        largest_row_code=largest_row_code(get_format(operand)) if rows else None,
    )


def _ends(graph: Graph, layers: list[Node]) -> tuple[set[str], set[str]]:
    """Names of layers that no layer precedes, and of layers that no layer follows."""
    layer_names = {n.name for n in layers}
    behind: set[str] = set()
    first: set[str] = set()
    for node in graph:
        after_layer = any(i in behind for i in node.inputs)
        if node.name in layer_names and not after_layer:
            first.add(node.name)
        if after_layer or node.name in layer_names:
            behind.add(node.output)
    ahead: set[str] = set()
    last: set[str] = set()
    for node in reversed(graph.nodes):
        before_layer = node.output in ahead
        if node.name in layer_names and not before_layer:
            last.add(node.name)
        if before_layer or node.name in layer_names:
            ahead.update(node.inputs)
    return first, last


def _check_rules(recipe: Recipe, layers: list[Node]) -> None:
    names = sorted({text for n in layers for text in (n.name, n.module) if text})
    for number, rule in enumerate(recipe.rules):
        if (rule.path or rule.operator) and not any(rule.matches(n.op.name, n.name, n.module) for n in layers):
            raise _no_match(f"rule {number} ({rule.path or rule.operator!r})", rule.path, names, recipe)
    for pattern in recipe.ignored_scope:
        if not any(re.search(pattern, text) for text in names):
            raise _no_match(f"ignored_scope {pattern!r}", pattern, names, recipe)


def _no_match(what: str, pattern: str, names: list[str], recipe: Recipe) -> RecipeError:
    near = difflib.get_close_matches(pattern, names, n=3, cutoff=0.3) or names[:3]
    return RecipeError(
        f"{what} matches no layer",
        "every rule speaks of at least one convolution or linear layer",
        f"layers are named like {', '.join(near)}" if near else "the network has no convolution or linear layer",
        f"recipe {recipe.name!r}",
    )
