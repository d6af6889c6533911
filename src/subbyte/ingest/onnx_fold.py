"""Constants and shape arithmetic: everything that is known before the first sample arrives.

Shapes may hold the batch, which has no number yet. They are computed twice, in two *worlds* that differ in the batch
size alone; an entry that follows the batch in both worlds is the batch, one that differs otherwise is refused. So no
operator needs a symbolic meaning: onnx's own reference implementation computes both worlds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.graph.ir import Dim, Shape

if TYPE_CHECKING:
    import onnx

Array = npt.NDArray[Any]

WORLDS = (61, 127)
"""Batch sizes of the two worlds: primes that no layer is likely to have."""

MOST_ELEMENTS = 2**26
"""Largest constant that a few bytes of shape arithmetic may produce."""

# fmt: off
_ARITHMETIC = frozenset((
    "Abs", "Add", "Ceil", "Clip", "Div", "Exp", "Floor", "Gemm", "Log", "MatMul", "Max", "Min", "Mod", "Mul", "Neg",
    "Pow", "Reciprocal", "Round", "Sign", "Sqrt", "Sub", "Sum",
))
_LOGIC = frozenset((
    "And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Where", "Xor",
))
_REDUCTIONS = frozenset((
    "NonZero", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum",
))
_MAKING = frozenset((
    "Cast", "CastLike", "Constant", "ConstantOfShape", "Identity", "Range", "Shape", "Size",
))
_MOVING = frozenset((
    "Concat", "Expand", "Flatten", "Gather", "GatherND", "Pad", "Reshape", "ScatterElements", "ScatterND", "Slice",
    "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze",
))
# fmt: on
FOLDABLE = _ARITHMETIC | _LOGIC | _REDUCTIONS | _MAKING | _MOVING
"""Operators that are computed here where nothing but constants and shapes goes in."""


@dataclass(frozen=True, slots=True, eq=False)
class Static:
    """A tensor known before any sample, in both worlds.

    Attributes:
        name: in the file.
        worlds: its value under each batch size of WORLDS; the same object twice where it does not depend on it.
    """

    name: str
    worlds: tuple[Array, Array]

    @property
    def fixed(self) -> bool:
        """Whether it does not depend on the batch."""
        first, second = self.worlds
        return first is second or same(first, second)

    @property
    def array(self) -> Array:
        """Its value, if it is fixed."""
        return self.worlds[0]


def same(first: Array, second: Array) -> bool:
    """Whether two arrays hold the same, NaN included (which is refused where it is used, not here)."""
    return np.array_equal(first, second, equal_nan=first.dtype.kind == "f" == second.dtype.kind)


def constant(name: str, array: Array) -> Static:
    """A tensor that does not depend on the batch."""
    return Static(name, (array, array))


def shape_of(shape: Shape, start: int | None = None, end: int | None = None) -> tuple[Array, Array]:
    """What ``Shape`` gives for an activation, in both worlds."""
    first, second = (np.array([batch if d is None else d for d in shape], np.int64)[start:end] for batch in WORLDS)
    return first, second


def batch_entries(static: Static) -> tuple[Dim, ...] | None:
    """A vector of integers with None where it is the batch; None if it depends on the batch in another way."""
    first, second = static.worlds
    if first.shape != second.shape or first.dtype.kind not in "iu":
        return None
    entries: list[Dim] = []
    for a, b in zip(first.reshape(-1).tolist(), second.reshape(-1).tolist(), strict=True):
        if a != b and (a, b) != WORLDS:
            return None
        entries.append(a if a == b else None)
    return tuple(entries)


def evaluate(node: onnx.NodeProto, operands: Sequence[Static | None], opset: int) -> list[tuple[Array, Array]]:
    """All outputs of a standard node on statics, by onnx's reference implementation.

    Raises:
        OverflowError: the result would be larger than MOST_ELEMENTS.
        Exception: whatever the reference implementation raises on operands that do not fit.
    """
    dependent = any(o is not None and not o.fixed for o in operands)
    results = [_run(node, operands, world, opset) for world in ((0, 1) if dependent else (0,))]
    return list(zip(results[0], results[-1], strict=True))


def _run(node: onnx.NodeProto, operands: Sequence[Static | None], world: int, opset: int) -> list[Array]:
    from onnx import helper
    from onnx.reference import ReferenceEvaluator

    arrays = [None if o is None else o.worlds[world] for o in operands]
    if _elements(node.op_type, arrays) > MOST_ELEMENTS:
        raise OverflowError(f"the result has more than {MOST_ELEMENTS} elements")
    feeds = {name: a for name, a in zip(node.input, arrays, strict=True) if a is not None}
    unit = helper.make_graph(  # of a bare node the evaluator would take the newest version
        [node],
        "fold",
        [helper.make_empty_tensor_value_info(name) for name in feeds],
        [helper.make_empty_tensor_value_info(name) for name in node.output],
    )
    unit.node[0].domain = ""
    with np.errstate(all="ignore"):
        results = ReferenceEvaluator(unit, opsets={"": opset}).run(None, feeds)
    return [np.asarray(r) for r in results]


def _elements(kind: str, arrays: Sequence[Array | None]) -> float:
    """Size of the result of operators whose result may be far larger than their operands."""
    operands = [a for a in arrays if a is not None]
    if kind == "ConstantOfShape":
        return math.prod(_floats(operands[0]))
    if kind == "Expand" and len(operands) == 2:
        return operands[0].size * math.prod(_floats(operands[1]))
    if kind == "Tile" and len(operands) == 2:
        return operands[0].size * math.prod(_floats(operands[1]))
    if kind == "Range" and len(operands) == 3:
        start, limit, delta = (float(a.reshape(-1)[0]) for a in operands)
        return abs((limit - start) / delta) if delta else math.inf
    if kind == "Pad" and len(operands) >= 2:
        return math.prod(_floats(np.asarray(operands[0].shape) + np.abs(operands[1]).sum()))
    if kind in _ARITHMETIC | _LOGIC and kind not in ("Gemm", "MatMul"):
        return math.prod(_floats(np.array(np.broadcast_shapes(*(a.shape for a in operands)))))
    return 0


def _floats(sizes: Array) -> list[float]:
    return [float(d) for d in sizes.reshape(-1)]
