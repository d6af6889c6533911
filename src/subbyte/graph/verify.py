"""The invariants of a graph, tested in a fixed order: whatever passes here can be run, drawn, saved and compiled.

1. Names are non-empty strings; values, constants and nodes are each unique, and a value is no constant.
2. There are inputs and outputs, each listed once; ``types`` covers exactly the inputs and the nodes' outputs.
3. Types belong to the dialect; shapes are BATCH followed by positive integers; integer types have a format within 16
   bits, a positive finite float32 scale and a zero point among their stored integers, so that zero is exact.
4. Constants are not empty, of a dtype of the dialect, and finite; quantized tensors keep their own invariants.
5. Nodes are in execution order: each operand is a constant, a graph input or the output of an earlier node, and at
   least one is no constant (the pass fold_constants evaluates nodes of constants).
6. Operators belong to the dialect, accept their operands, and give the declared shape.
7. What operators say about ranges, scales and accumulators holds (in the integer dialect: the proof that no sum
   leaves int32, recomputed from the actual weights).
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from typing import Literal

import numpy as np

from subbyte.arithmetic.bounds import MOST_WEIGHT
from subbyte.errors import GraphError, LoweringError, SubbyteError
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import BATCH, Constant, FloatType, Graph, IntType, Node, TensorType

_REPORT = "report this as a defect of whatever built the graph"
_INTEGERS = ("uint8", "int8", "int16", "int32")


def verify(graph: Graph, dialect: Literal["float", "integer"]) -> None:
    """Test every invariant of a graph, in the order above.

    Args:
        graph: to be tested; never changed.
        dialect: which one it must be in, throughout.

    Raises:
        GraphError: the first invariant that is broken, with the node and the user's module.
        LoweringError: an accumulator of the integer dialect cannot be proved to fit.
    """
    _check_names(graph)
    _check_interface(graph)
    for value, kind in graph.types.items():
        _check_type(graph, value, kind, dialect)
    for name, constant in graph.constants.items():
        _check_constant(graph, name, constant, dialect)
    _check_order(graph)
    for node in graph:
        _check_node(graph, node, dialect)


def place_of(graph: Graph, node: Node) -> str:
    """Where a node is, for errors: its name, operator, the user's module and the graph."""
    module = f" of module {node.module!r}" if node.module and node.module != node.name else ""
    return f"node {node.name!r} ({node.op.name}){module} in graph {graph.name!r}"


def _fail(graph: Graph, seen: str, rule: str, place: str = "") -> GraphError:
    return GraphError(seen, rule, _REPORT, place or f"graph {graph.name!r}")


def _check_names(graph: Graph) -> None:
    made = [*graph.inputs, *(n.output for n in graph), *graph.constants]
    for kind, names in (("value or constant", made), ("node", [n.name for n in graph])):
        for name in names:
            if not _exactly(name, str) or not name:
                raise _fail(graph, f"a {kind} has the name {name!r}", "names are non-empty strings")
        for name, count in Counter(names).items():
            if count > 1:
                raise _fail(graph, f"the name {name!r} is given to {count} {kind}s", f"a {kind} has a name of its own")


def _check_interface(graph: Graph) -> None:
    for kind, names in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        if not names or len(set(names)) != len(names):
            raise _fail(graph, f"the graph's {kind} are {list(names)}", f"a graph has {kind}, each listed once")
    made = {*graph.inputs, *(n.output for n in graph)}
    for name in graph.outputs:
        if name not in made:
            raise _fail(graph, f"the output {name!r} is made by no node", "outputs are values of the graph")
    for name in (*graph.inputs, *graph.outputs):
        value = graph.types.get(name)
        if isinstance(value, IntType) and value.format.coded:
            rule = "what goes in and out has even steps; codes lie between layers"
            raise _fail(graph, f"{name!r} holds codes of {value.format.name}", rule)
    for name in made.symmetric_difference(graph.types):
        seen = f"value {name!r} has no type" if name in made else f"the type of {name!r} belongs to no value"
        raise _fail(graph, seen, "types cover exactly the graph inputs and the nodes' outputs")


def _check_type(graph: Graph, value: str, kind: TensorType, dialect: str) -> None:
    place = f"value {value!r} in graph {graph.name!r}"
    if not isinstance(kind, FloatType if dialect == "float" else IntType):
        raise _fail(graph, f"it is a {type(kind).__name__}", f"values of the {dialect} dialect are of its type", place)
    positive = all(d is not None and _exactly(d, int) and d > 0 for d in kind.shape[1:])
    if not _exactly(kind.shape, tuple) or not positive or kind.shape[:1] != (BATCH,):
        raise _fail(graph, f"its shape is {kind.shape}", "shapes are (BATCH, positive integers...)", place)
    if isinstance(kind, IntType):
        _check_quantization(graph, kind, place)


def _check_quantization(graph: Graph, kind: IntType, place: str) -> None:
    if not (kind.format.max_abs <= MOST_WEIGHT if kind.format.coded else kind.format.fits_int16):
        seen = f"its format {kind.format.name} reaches {kind.format.lo}..{kind.format.hi}"
        raise _fail(graph, seen, "formats of values lie within 16 bits, of codes within 24", place)
    scale = kind.scale
    if not (_exactly(scale, float) and math.isfinite(scale) and scale > 0 and _is_float32(scale)):
        raise _fail(graph, f"its scale is {scale!r}", "scales are positive, finite and exact in float32", place)
    if not _exactly(kind.zero_point, int) or not kind.lo <= kind.zero_point <= kind.hi:
        rule = f"zero points are integers in {kind.lo}..{kind.hi}, the stored integers of {kind.format.name}"
        raise _fail(graph, f"its zero point is {kind.zero_point!r}", rule, place)
    if kind.format.coded and kind.zero_point != kind.format.zero_code:
        rule = f"the zero point of codes is that of 0, {kind.format.zero_code}"
        raise _fail(graph, f"its zero point is {kind.zero_point}", rule, place)


def _exactly(thing: object, kind: type) -> bool:
    """Whether it is of that very type: graphs come from files, where True is no integer and a list no tuple."""
    return type(thing) is kind


def _is_float32(scale: float) -> bool:
    with np.errstate(over="ignore", under="ignore"):
        return float(np.float32(scale)) == scale


def _check_constant(graph: Graph, name: str, constant: Constant, dialect: str) -> None:
    place = f"constant {name!r} in graph {graph.name!r}"
    if isinstance(constant, QTensor):
        if dialect == "float":
            raise _fail(graph, "it is a quantized tensor", "constants of the float dialect are float32 arrays", place)
        try:
            constant.check()
        except SubbyteError as error:
            raise GraphError(error.seen, error.rule, error.remedy, place) from error
        return
    allowed = ("float32",) if dialect == "float" else _INTEGERS
    if not _exactly(constant, np.ndarray) or constant.dtype.name not in allowed or constant.size == 0:
        seen = f"it is {getattr(constant, 'dtype', type(constant).__name__)}{list(getattr(constant, 'shape', ()))}"
        raise _fail(graph, seen, f"constants are arrays of {' or '.join(allowed)} with at least one element", place)
    if dialect == "float" and not np.all(np.isfinite(constant)):
        raise GraphError(
            f"it holds {int(np.sum(~np.isfinite(constant)))} values that are NaN or infinite",
            "weights and other constants are finite",
            "repair the model: training diverged or the file is damaged",
            place,
        )


def _check_order(graph: Graph) -> None:
    known = {*graph.inputs, *graph.constants}
    for node in graph:
        for name in node.inputs:
            if name not in known:
                late = name in graph.types
                seen = f"operand {name!r} is made by a later node" if late else f"operand {name!r} is not defined"
                rule = "every operand is a constant, a graph input or the output of an earlier node"
                raise _fail(graph, seen, rule, place_of(graph, node))
        if all(name in graph.constants for name in node.inputs):
            rule = "every node reads at least one value"
            raise _fail(graph, f"it reads only the constants {list(node.inputs)}", rule, place_of(graph, node))
        known.add(node.output)


def _check_node(graph: Graph, node: Node, dialect: str) -> None:
    place = place_of(graph, node)
    if node.op.dialect not in (dialect, "both"):
        seen = f"operator {node.op.name!r} belongs to the {node.op.dialect} dialect"
        raise _fail(graph, seen, f"all nodes of this graph are of the {dialect} dialect", place)
    operands = [graph.operand(name) for name in node.inputs]
    declared = graph.types[node.output]
    try:
        shape = node.op.infer(operands)
        if shape == declared.shape:
            node.op.check(operands, declared)
    except LoweringError as error:
        raise LoweringError(error.seen, error.rule, error.remedy, place) from error
    except SubbyteError as error:
        raise GraphError(error.seen, error.rule, error.remedy, place) from error
    if shape != declared.shape:
        shapes = ", ".join(_shape_text(o.shape) for o in operands)
        seen = f"the declared shape is {_shape_text(declared.shape)}, from operands {shapes}"
        raise _fail(graph, seen, f"the operator gives {_shape_text(shape)}", place)


def _shape_text(shape: Iterable[int | None]) -> str:
    return "[" + ",".join("N" if d is None else str(d) for d in shape) + "]"
