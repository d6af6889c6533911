"""``subbyte inspect``: what is in a model file, to the byte."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from subbyte.cli.options import MODEL_FILE, float_model
from subbyte.cli.output import shape_text, show_json, show_lines, show_table, value_text

if TYPE_CHECKING:
    from subbyte.graph.ir import Graph


def inspect(model: Path, /, *, json: bool = False) -> int:
    """Show what is in a model: layers, formats, scales, and the bytes of every tensor.

    Args:
        model: a .subbyte or .onnx file.
        json: print JSON instead of tables.
    """
    if model.suffix != MODEL_FILE:
        return _inspect_float(float_model(model), as_json=json)
    from subbyte.runtime.modelfile import load_model_file

    graph, metadata = load_model_file(model)
    facts = describe(graph, metadata, model.stat().st_size)
    if json:
        show_json(facts)
        return 0
    show_table("Model", ("what", "value"), _overview(facts))
    values = [(v["name"], shape_text(v["shape"]), v["format"], v["scale"], v["zero_point"]) for v in facts["interface"]]
    show_table("Inputs and outputs", ("name", "shape", "format", "scale", "zero point"), values)
    columns = ("node", "operator", "module", "shape", "format", "scale", "MACs")
    show_table("Nodes", columns, [_node_row(n) for n in facts["nodes"]])
    tensors = [(t["tensor"], t["dtype"], shape_text(t["shape"]), t["bytes"]) for t in facts["tensors"]]
    show_table("Bytes in the file", ("tensor", "dtype", "shape", "bytes"), [*tensors, *_totals(facts)])
    return 0


def _node_row(node: dict[str, Any]) -> list[Any]:
    shape = shape_text(node["shape"])
    return [node["name"], node["op"], node["module"], shape, node["format"], node["scale"], node["macs"]]


def describe(graph: Graph, metadata: dict[str, Any], file_bytes: int) -> dict[str, Any]:
    """Everything that ``inspect`` shows of an integer model, as JSON values."""
    from subbyte.runtime.modelfile import breakdown

    stored = breakdown(graph)
    data = sum(s.nbytes for s in stored)
    return {
        "name": graph.name,
        "metadata": metadata,
        "interface": [_value(graph, name, "input") for name in graph.inputs]
        + [_value(graph, name, "output") for name in graph.outputs],
        "nodes": [
            {
                "name": node.name,
                "op": node.op.name,
                "module": node.module,
                "macs": _macs(graph, index),
                **_kind(graph, node.output),
            }
            for index, node in enumerate(graph.nodes)
        ],
        "tensors": [{"tensor": s.key, "dtype": s.dtype, "shape": list(s.shape), "bytes": s.nbytes} for s in stored],
        "header_bytes": file_bytes - data,
        "data_bytes": data,
        "file_bytes": file_bytes,
    }


def _macs(graph: Graph, index: int) -> int:
    node = graph.nodes[index]
    return node.op.macs([graph.operand(i) for i in node.inputs], graph.types[node.output].shape)


def _value(graph: Graph, name: str, role: str) -> dict[str, Any]:
    return {"name": name, "role": role, **_kind(graph, name)}


def _kind(graph: Graph, name: str) -> dict[str, Any]:
    from subbyte.graph.ir import IntType

    kind = graph.types[name]
    shape = ["N" if d is None else d for d in kind.shape]
    if not isinstance(kind, IntType):
        return {"shape": shape}
    return {"shape": shape, "format": kind.format.name, "scale": kind.scale, "zero_point": kind.zero_point}


def _overview(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("name", facts["name"])]
    rows += [(key, value_text(value)) for key, value in facts["metadata"].items()]
    rows.append(("nodes", str(len(facts["nodes"]))))
    rows.append(("multiply-accumulates", f"{sum(n['macs'] for n in facts['nodes']):,}"))
    return rows


def _totals(facts: dict[str, Any]) -> list[tuple[str, str, str, int]]:
    return [
        ("all tensors", "", "", facts["data_bytes"]),
        ("header", "", "", facts["header_bytes"]),
        ("file", "", "", facts["file_bytes"]),
    ]


def _inspect_float(graph: Graph, *, as_json: bool) -> int:
    if not as_json:
        from subbyte.graph.draw import draw

        show_lines(draw(graph))
        return 0
    show_json(
        {
            "name": graph.name,
            "interface": [_value(graph, name, "input") for name in graph.inputs]
            + [_value(graph, name, "output") for name in graph.outputs],
            "nodes": [
                {"name": n.name, "op": n.op.name, "module": n.module, "macs": _macs(graph, i), **_kind(graph, n.output)}
                for i, n in enumerate(graph.nodes)
            ],
            "parameters": sum(_count(c) for c in graph.constants.values()),
        }
    )
    return 0


def _count(constant: Any) -> int:
    import math

    return math.prod(constant.shape)
