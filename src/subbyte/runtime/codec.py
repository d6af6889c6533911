"""Integer graphs as the content and payload of a model file, and back; knows graphs, not bytes on disk.

The content leaves out what goes without saying: attributes at their usual value, a node's output, module and zero point
where they are its name, its name and 0, and the shapes of results, which the operators compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from subbyte.errors import SubbyteError
from subbyte.graph.ir import Graph, IntType, Node, Shape, TensorType
from subbyte.runtime.attributes import decode_float, decode_op, encode_float, encode_op
from subbyte.runtime.constants import Part, Reader, Writer
from subbyte.runtime.container import broken, exact_keys, shown, whole_numbers
from subbyte.runtime.described import Formats, checked_name, dims, mapping, sequence, without

USUAL: Final[Mapping[str, Any]] = {
    "stride": (1, 1),
    "dilation": (1, 1),
    "padding": (0, 0, 0, 0),
    "groups": 1,
    "pre_shift": 0,
    "ceil_mode": False,
    "count_include_pad": False,
    "keepdims": False,
    "layout": "channels_last",
}
"""Attributes that a file leaves out where they have these values; ``lo`` and ``hi`` where they are their format's."""

_NODE = {"name", "op", "attributes", "inputs", "output", "module", "format", "scale", "zero_point"}


def encode(graph: Graph) -> tuple[dict[str, Any], bytes, list[Part]]:
    """(content, payload, what each constant takes) of a verified integer graph; constants that no node reads go."""
    formats = Formats()
    writer = Writer(graph, formats)
    described = {
        "name": graph.name,
        "inputs": [{"name": n, "shape": list(graph.types[n].shape), **_type(graph, n, formats)} for n in graph.inputs],
        "outputs": list(graph.outputs),
        "nodes": [_encode_node(graph, node, writer) for node in graph],
    }
    content = {"codes": writer.codes_bytes, "formats": formats.described(), "graph": described}
    return content, writer.payload(), writer.parts


def decode(content: Mapping[str, Any], payload: memoryview) -> Graph:
    """The graph of ``encode``'s result.

    Raises:
        SubbyteError: something is malformed; whether the graph makes sense is ``verify``'s question.
    """
    formats = Formats.read(content["formats"])
    raw = exact_keys(content["graph"], {"name", "inputs", "outputs", "nodes"}, "graph")
    types: dict[str, TensorType] = {}
    for entry in sequence(raw["inputs"], "inputs"):
        name, kind = _decode_input(entry, formats)
        types[name] = kind
    inputs = tuple(types)
    codes = whole_numbers([content["codes"]], "codes", 0, len(payload))[0]
    reader = Reader(payload, codes, formats)
    nodes = [_decode_node(n, i, types, reader, formats) for i, n in enumerate(sequence(raw["nodes"], "nodes"))]
    reader.finish()
    return Graph(
        name=checked_name(raw["name"], "graph", empty=True),
        inputs=inputs,
        outputs=tuple(checked_name(n, "outputs") for n in sequence(raw["outputs"], "outputs")),
        types=types,
        constants=reader.constants,
        nodes=tuple(nodes),
    )


def _type(graph: Graph, name: str, formats: Formats) -> dict[str, Any]:
    kind = graph.types[name]
    assert isinstance(kind, IntType)
    entry = {"format": formats.name(kind.format), "scale": encode_float(kind.scale), "zero_point": kind.zero_point}
    return without(entry, {"zero_point": 0})


def _decode_type(entry: Mapping[str, Any], shape: Shape, formats: Formats, place: str) -> IntType:
    zero = whole_numbers([entry["zero_point"]], place, -(2**31), 2**31 - 1)[0]
    scale = decode_float(entry["scale"], place)
    return IntType(shape=shape, format=formats[entry["format"]], scale=scale, zero_point=zero)


def _decode_input(raw: Any, formats: Formats) -> tuple[str, IntType]:
    entry = exact_keys(
        {"zero_point": 0, **mapping(raw, "inputs")}, {"name", "shape", "format", "scale", "zero_point"}, "inputs"
    )
    name = checked_name(entry["name"], "inputs")
    place = f"input {shown(name)}"
    shape = entry["shape"]
    if not isinstance(shape, list) or shape[:1] != [None]:
        raise broken(f"the shape {shown(shape)}", "shapes of inputs begin with null, the batch", place)
    return name, _decode_type(entry, (None, *dims(shape[1:], place)), formats, place)


def _usual(kind: IntType) -> dict[str, Any]:
    return {**USUAL, "lo": kind.lo, "hi": kind.hi}


def _encode_node(graph: Graph, node: Node, writer: Writer) -> dict[str, Any]:
    kind = graph.types[node.output]
    assert isinstance(kind, IntType)
    entry = {
        "name": node.name,
        "op": node.op.name,
        "attributes": encode_op(node.op, _usual(kind)),
        "inputs": writer.operands(node),
        "output": node.output,
        "module": node.module,
        **_type(graph, node.output, writer.formats),
    }
    return without(entry, {"attributes": {}, "output": node.name, "module": node.name})


def _decode_node(raw: Any, index: int, types: dict[str, TensorType], reader: Reader, formats: Formats) -> Node:
    """The node; the type of its result, whose shape the operator infers, is noted in ``types``."""
    name = checked_name(mapping(raw, f"node {index}").get("name"), f"node {index}")
    place = f"node {shown(name)}"
    entry = exact_keys({"attributes": {}, "output": name, "module": name, "zero_point": 0, **raw}, _NODE, place)
    output = checked_name(entry["output"], place)
    kind = _decode_type(entry, (None,), formats, place)
    op = decode_op(entry["op"], entry["attributes"], place, _usual(kind))
    raw_inputs = sequence(entry["inputs"], place)
    first = types.get(raw_inputs[0]) if raw_inputs and isinstance(raw_inputs[0], str) else None
    scales = (first.scale, kind.scale) if isinstance(first, IntType) and first.scale > 0 else None
    inputs = reader.operands(raw_inputs, name, op.name, scales)
    for used in inputs:
        if used not in types and used not in reader.constants:
            raise broken(
                f"the operand {shown(used)} is no constant, input or result of an earlier node",
                "nodes are in execution order",
                place,
            )
    if output in types or output in reader.constants:
        raise broken(f"the name {shown(output)} is given twice", "values and constants have names of their own", place)
    operands = [types[n] if n in types else reader.constants[n] for n in inputs]
    try:
        shape = op.infer(operands)
    except SubbyteError as error:
        raise type(error)(error.seen, error.rule, error.remedy, error.place or place) from error
    types[output] = IntType(shape=shape, format=kind.format, scale=kind.scale, zero_point=kind.zero_point)
    return Node(name=name, op=op, inputs=inputs, output=output, module=checked_name(entry["module"], place, empty=True))
