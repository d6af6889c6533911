"""``subbyte inspect``: what is in a model file, to the byte."""

from __future__ import annotations

from collections.abc import Sequence
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
    from subbyte.summary import summary

    show_table("Model", ("what", "value"), _overview(facts))
    values = [
        (v["role"], v["name"], shape_text(v["shape"]), v["format"], v["scale"], v["zero_point"])
        for v in facts["interface"]
    ]
    show_table("Inputs and outputs", ("", "name", "shape", "format", "scale", "zero point"), values)
    show_lines(summary(graph, metadata))
    return 0


def describe(graph: Graph, metadata: dict[str, Any], file_bytes: int) -> dict[str, Any]:
    """Everything that ``inspect`` shows of an integer model, as JSON values."""
    from dataclasses import asdict

    from subbyte.runtime.modelfile import breakdown, budget
    from subbyte.summary import node_facts

    parts = breakdown(graph)
    data = sum(p.nbytes for p in parts)
    return {
        "name": graph.name,
        "metadata": metadata,
        "interface": _interface(graph),
        "nodes": [{**asdict(node), "shape": _dims(node.shape)} for node in node_facts(graph)],
        "constants": [{**asdict(part), "shape": list(part.shape)} for part in parts],
        "budget": budget(parts, file_bytes),
        "header_bytes": file_bytes - data,
        "data_bytes": data,
        "file_bytes": file_bytes,
    }


def _interface(graph: Graph) -> list[dict[str, Any]]:
    roles = (("input", graph.inputs), ("output", graph.outputs))
    return [{"name": name, "role": role, **_kind(graph, name)} for role, names in roles for name in names]


def _dims(shape: Sequence[int | None]) -> list[int | str]:
    return ["N" if d is None else d for d in shape]


def _macs(graph: Graph, index: int) -> int:
    node = graph.nodes[index]
    return node.op.macs([graph.operand(i) for i in node.inputs], graph.types[node.output].shape)


def _kind(graph: Graph, name: str) -> dict[str, Any]:
    from subbyte.graph.ir import IntType

    kind = graph.types[name]
    shape = _dims(kind.shape)
    if not isinstance(kind, IntType):
        return {"shape": shape}
    return {"shape": shape, "format": kind.format.name, "scale": kind.scale, "zero_point": kind.zero_point}


def _overview(facts: dict[str, Any]) -> list[tuple[str, str]]:
    rows = [("name", facts["name"])]
    rows += [(key, value_text(value)) for key, value in facts["metadata"].items()]
    return rows


def _inspect_float(graph: Graph, *, as_json: bool) -> int:
    if not as_json:
        from subbyte.graph.draw import draw

        show_lines(draw(graph))
        return 0
    show_json(
        {
            "name": graph.name,
            "interface": _interface(graph),
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
