"""A graph as a plain text table, one line per node in execution order."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from subbyte.graph.ir import Constant, Graph, IntType, Node, Shape, TensorType
from subbyte.graph.ops.op import Op, attributes
from subbyte.graph.ops.rectify import Rectify

_HEADINGS = ("node", "operator", "reads", "shape", "params", "format")
_RIGHT = frozenset({"params"})
_MAX_CELL = 40
_MAX_READS = 3
_CONVOLUTIONS = frozenset({"conv", "int_conv"})


def draw(graph: Graph) -> str:
    """The network as text: node, operator with fused activation and key attributes, operands, shape, params, format.

    ``params`` counts the numbers in a node's constants (one used twice counts twice); the last line counts each once.
    Names come from a model file, so whatever is not printable in them is escaped, and long ones lose their middle.

    Returns:
        Lines without a final newline; ``N`` stands for the batch axis.
    """
    rows: list[tuple[str, ...]] = [
        (short(name), "input", "", shape_text(kind.shape), "", _format(kind)) for name, kind in _inputs(graph)
    ]
    rows += [_row(graph, node) for node in graph]
    total = sum(_size(c) for c in graph.constants.values())
    outputs = ", ".join(short(name) for name in graph.outputs)
    last = f"{short(graph.name)}: {len(graph.nodes)} nodes, {total} params, returns {outputs}"
    return "\n".join([table(_HEADINGS, rows, _RIGHT), last])


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: Collection[str]) -> str:
    """Rows of plain text under their headings, in columns as wide as their widest cell.

    Args:
        headings: one per column.
        rows: cells on one line each, as ``short`` gives them.
        right: headings of the columns that are set flush right.
    """
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    flush = [name in right for name in headings]
    lines = [_line(row, widths, flush) for row in (headings, *rows)]
    lines.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(lines)


def _inputs(graph: Graph) -> Iterable[tuple[str, TensorType]]:
    return ((name, graph.types[name]) for name in graph.inputs)


def _row(graph: Graph, node: Node) -> tuple[str, ...]:
    kind = graph.types[node.output]
    params = sum(_size(graph.constants[i]) for i in node.inputs if i in graph.constants)
    values = graph.activations(node)
    reads = ", ".join(short(name) for name in values[:_MAX_READS])
    if len(values) > _MAX_READS:
        reads += f", +{len(values) - _MAX_READS}"
    return short(node.name), operator_text(graph, node), reads, shape_text(kind.shape), str(params or ""), _format(kind)


def operator_text(graph: Graph, node: Node) -> str:
    """The operator in words, with its fused activation, kernel, stride and groups: ``conv+relu 3x3 /2x2``."""
    return _operator(node.op, _window(graph, node))


def _window(graph: Graph, node: Node) -> Sequence[int]:
    """Kernel of a convolution, which its weight knows."""
    weight = graph.constants[node.inputs[1]] if node.op.name in _CONVOLUTIONS else None
    if weight is None:
        return ()
    first = attributes(node.op).get("layout") == "channels_first"
    return weight.shape[2:] if first else weight.shape[1:-1]


def _operator(op: Op, window: Sequence[int]) -> str:
    """Name with the fused activation, and the attributes that change what one pictures: kernel, stride, groups."""
    values = attributes(op)
    fused = values.get("rectify")
    words = [op.name + (f"+{_activation(fused)}" if isinstance(fused, Rectify) else "")]
    if isinstance(op, Rectify):
        words = [_activation(op)]
    kernel, stride = values.get("kernel", window), values.get("stride")
    if kernel:
        words.append("x".join(map(str, kernel)))
    if stride and any(s != 1 for s in stride):
        words.append("/" + "x".join(map(str, stride)))
    if values.get("groups", 1) != 1:
        words.append(f"g{values['groups']}")
    if "function" in values:
        words.append(str(values["function"]))
    return " ".join(words)


def _activation(rectify: Rectify) -> str:
    clip = "" if rectify.slope == 1 else f"leaky {rectify.slope:g} "
    bounds = (rectify.lo, rectify.hi)
    names = {(0.0, float("inf")): "relu", (0.0, 6.0): "relu6", (float("-inf"), float("inf")): ""}
    return (clip + names.get(bounds, f"clip {rectify.lo:g}..{rectify.hi:g}")).strip() or "rectify"


def shape_text(shape: Shape) -> str:
    """A shape as ``Nx3x32x32``; N is the batch."""
    return "x".join("N" if d is None else str(d) for d in shape)


def _format(kind: TensorType) -> str:
    if isinstance(kind, IntType):
        return f"{short(kind.format.name)} {kind.scale:.4g}*{f'(q{-kind.zero_point:+d})' if kind.zero_point else 'q'}"
    return "float32"


def _size(constant: Constant) -> int:
    size = 1
    for length in constant.shape:
        size *= length
    return size


def short(text: str) -> str:
    """Printable, on one line, and not too long."""
    safe = "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in text)
    if len(safe) <= _MAX_CELL:
        return safe
    half = (_MAX_CELL - 1) // 2
    return f"{safe[: _MAX_CELL - 1 - half]}…{safe[-half:]}"


def _line(row: Sequence[str], widths: Sequence[int], flush: Sequence[bool]) -> str:
    columns = zip(row, widths, flush, strict=True)
    return "  ".join(cell.rjust(width) if right else cell.ljust(width) for cell, width, right in columns).rstrip()
