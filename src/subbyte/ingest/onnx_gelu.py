"""GELU written in parts, ``0.5 * x * (1 + Erf(x / sqrt(2)))``, as exporters did before opset 20."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx


def merge_gelu(nodes: Sequence[onnx.NodeProto], numbers: Mapping[str, float]) -> list[onnx.NodeProto]:
    """The nodes with the last node of each such formula replaced by ``Gelu``; the others become dead.

    Args:
        nodes: in order.
        numbers: constants of one element by name.
    """
    from onnx import helper

    formulas = _Formulas(nodes, numbers)
    merged = {}
    for node in nodes:
        if node.op_type == "Erf" and len(node.input) == len(node.output) == 1:
            for x, last in formulas.ends(node):
                merged[last.output[0]] = helper.make_node("Gelu", [x], [last.output[0]], name=last.name)
    return [merged.get(node.output[0], node) if node.output else node for node in nodes]


class _Formulas:
    """Products with numbers, read in both directions."""

    def __init__(self, nodes: Sequence[onnx.NodeProto], numbers: Mapping[str, float]) -> None:
        self.numbers = numbers
        self.makers = {o: n for n in nodes for o in n.output if o}
        self.readers: dict[str, list[onnx.NodeProto]] = defaultdict(list)
        for node in nodes:
            for name in dict.fromkeys(node.input):
                self.readers[name].append(node)

    def ends(self, erf: onnx.NodeProto) -> list[tuple[str, onnx.NodeProto]]:
        """(x, last node) of every GELU that this Erf belongs to."""
        x = self._scaled(self.makers.get(erf.input[0]), math.sqrt(0.5))
        if x is None:
            return []
        found = []
        for plus in self.readers[erf.output[0]]:
            if plus.op_type != "Add" or not plus.output or not self._is(plus, erf.output[0], 1.0):
                continue
            found += [(x, last) for last in self._products(plus.output[0], x)]
        return found

    def _products(self, one_plus: str, x: str) -> list[onnx.NodeProto]:
        """Nodes that give 0.5 * x * one_plus, in any order of the factors."""
        found = []
        for node in self.readers[one_plus]:
            if len(node.input) != 2 or not node.output:
                continue
            if self._scaled(node, 0.5) == one_plus:
                found += [n for n in self.readers[node.output[0]] if _multiplies(n, node.output[0], x)]
            elif _multiplies(node, one_plus, x):
                found += [n for n in self.readers[node.output[0]] if self._scaled(n, 0.5) == node.output[0]]
            elif node.op_type == "Mul":
                other = node.input[0] if node.input[1] == one_plus else node.input[1]
                if self._scaled(self.makers.get(other), 0.5) == x:
                    found.append(node)
        return found

    def _scaled(self, node: onnx.NodeProto | None, factor: float) -> str | None:
        """The operand that the node multiplies by the factor, if that is what it does."""
        if node is None or node.op_type not in ("Mul", "Div") or len(node.input) != 2:
            return None
        a, b = node.input
        if right := self.numbers.get(b):
            number = right if node.op_type == "Mul" else 1 / right
            return a if math.isclose(number, factor, rel_tol=1e-6) else None
        if node.op_type == "Mul" and a in self.numbers:
            return b if math.isclose(self.numbers[a], factor, rel_tol=1e-6) else None
        return None

    def _is(self, node: onnx.NodeProto, operand: str, number: float) -> bool:
        """Whether the node's operands are that one and that number."""
        others = [i for i in node.input if i != operand]
        return len(others) == 1 and self.numbers.get(others[0]) == number


def _multiplies(node: onnx.NodeProto, a: str, b: str) -> bool:
    return node.op_type == "Mul" and sorted(node.input) == sorted((a, b))
