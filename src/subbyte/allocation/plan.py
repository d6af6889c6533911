"""An allocation as a recipe, and a recipe as a TOML file: what ``quantize`` takes."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from subbyte.allocation.candidates import candidate_of
from subbyte.allocation.problem import Candidate
from subbyte.errors import AllocationError
from subbyte.graph.ir import Graph
from subbyte.quantization.layers import default_methods
from subbyte.quantization.learning import Learning
from subbyte.quantization.recipe import LAYER_OPERATORS, Recipe, Rule, named_recipe
from subbyte.quantization.resolve import resolve

_BASE = "w8a8"


def recipe_of(choice: Mapping[str, Candidate], graph: Graph, name: str = "search") -> Recipe:
    """A recipe that gives every layer its candidate.

    Args:
        choice: candidate by layer name; layers that are not named get 8 bits.
        graph: prepared float graph.
        name: of the recipe.

    Raises:
        AllocationError: two layers cannot be told apart by name and module path.
    """
    layers = [n for n in graph if n.op.name in LAYER_OPERATORS and n.name in choice]
    rules = []
    for node in layers:
        path = f"^{re.escape(node.name)}$"
        wanted = choice[node.name]
        groups = wanted.granularity or None
        rule = Rule(path=path, weights=wanted.weights, activations=wanted.activations, granularity=groups)
        rules.append((sum(rule.matches(n.op.name, n.name, n.module) for n in layers), rule))
    # A layer's name may be the module path of others: the rule that speaks of fewer layers wins, so it comes later.
    ordered = [rule for _, rule in sorted(rules, key=lambda r: -r[0])]
    base = named_recipe(_BASE)
    recipe = Recipe(name=name, rules=(*base.rules, *ordered))
    resolved = resolve(recipe, graph)
    for node in layers:
        got = candidate_of(resolved[node.name])
        if got != replace(choice[node.name], kernel=""):
            raise AllocationError(
                f"rules give layer {node.name!r} {got} instead of {choice[node.name]}",
                "layers are told apart by their names",
                "give the modules of the network different names",
            )
    return recipe


def finished(recipe: Recipe, graph: Graph, methods: Sequence[str], learning: Learning, synthetic: bool) -> Recipe:
    """The recipe with methods that learn behind its usual ones; the same one where there are none."""
    if not methods:
        return recipe
    usual = default_methods(resolve(recipe, graph), synthetic)
    return replace(recipe, methods=(*usual, *methods), learning=learning)


def to_toml(recipe: Recipe, comments: tuple[str, ...] = ()) -> str:
    """The text of a recipe file that ``load_recipe`` reads back as this recipe.

    Raises:
        AllocationError: the recipe's first rule is not that of ``w8a8``.
    """
    base = named_recipe(_BASE)
    if recipe.rules[:1] != base.rules[:1]:
        raise AllocationError(
            f"recipe {recipe.name!r} begins with other defaults than {_BASE}",
            "a plan is w8a8 with exceptions",
            "add rules",
        )
    lines = [*(f"# {' '.join(c.split())}" for c in comments), f"base = {_text(_BASE)}"]
    for f in fields(Recipe):
        value = getattr(recipe, f.name)
        if f.name not in {"rules", "learning"} and (value != getattr(base, f.name) or f.name == "name"):
            lines.append(f"{f.name} = {_value(value)}")
    usual = Learning()
    changed = [f.name for f in fields(Learning) if getattr(recipe.learning, f.name) != getattr(usual, f.name)]
    if changed:
        lines.extend(["", "[learning]", *(f"{n} = {_value(getattr(recipe.learning, n))}" for n in changed)])
    for rule in recipe.rules[1:]:
        lines.extend(["", "[[rule]]"])
        for f in fields(Rule):
            value = getattr(rule, f.name)
            if value not in (None, "", ()):
                lines.append(f"{f.name} = {_value(value)}")
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, tuple):
        return f"[{', '.join(_text(v) for v in value)}]"
    return _text(str(value))


def _text(text: str) -> str:
    """A TOML basic string: like JSON's, but that characters outside the basic plane are not written as surrogates."""
    shown = json.dumps(text, ensure_ascii=False)
    return "".join(c if c.isprintable() else _escape(c) for c in shown)


def _escape(character: str) -> str:
    code = ord(character)
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
