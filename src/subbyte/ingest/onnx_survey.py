"""What a file holds, seen before anything is converted: names, liveness, and every operator without a counterpart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from subbyte.errors import IngestError
from subbyte.ingest.onnx_fold import FOLDABLE

if TYPE_CHECKING:
    import onnx

_QUANTIZED = ("QLinear", "QuantizeLinear", "DequantizeLinear", "DynamicQuantize", "QAttention", "QGemm", "QMoE")
_INTEGER = ("ConvInteger", "MatMulInteger", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM", "MatMulNBits")
_LISTED = 12


def place_of(node: onnx.NodeProto, path: Path) -> str:
    """Where a node is, for errors."""
    domain = f"{node.domain}." if node.domain not in ("", "ai.onnx") else ""
    return f"node {name_of(node)!r} ({domain}{node.op_type}) in {path}"


def name_of(node: onnx.NodeProto) -> str:
    """The node's name, or its first output's where it has none."""
    return node.name or next((o for o in node.output if o), node.op_type)


def refuse_quantized(graph: onnx.GraphProto, path: Path) -> None:
    """IngestError if the model is quantized already."""
    found = [n for n in graph.node if n.op_type in _INTEGER or n.op_type.startswith(_QUANTIZED)]
    if found or graph.quantization_annotation:
        kinds = Counter(n.op_type for n in found)
        what = ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items())) or "quantization annotations"
        raise IngestError(
            f"the model is quantized already: it holds {what}",
            "a network comes in with float weights and activations",
            "load the float model that it was made from",
            place_of(found[0], path) if found else str(path),
        )


def check_names(graph: onnx.GraphProto, path: Path) -> None:
    """IngestError if two values have one name."""
    given = {i.name for i in graph.initializer}
    names = [*(i.name for i in graph.initializer), *(i.name for i in graph.input if i.name not in given)]
    names += [output for node in graph.node for output in node.output if output]
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise IngestError(
            f"the name {twice[0]!r} is given {names.count(twice[0])} times",
            "every value and constant has a name of its own",
            "rename the values; the file breaks the ONNX specification",
            str(path),
        )


def live_nodes(nodes: Sequence[onnx.NodeProto], outputs: Collection[str]) -> list[onnx.NodeProto]:
    """Nodes whose results reach an output, in order."""
    needed, live = set(outputs), []
    for node in reversed(nodes):
        if needed.intersection(node.output):
            needed.update(i for i in node.input if i)
            live.append(node)
    return live[::-1]


def refuse_unsupported(
    nodes: Iterable[onnx.NodeProto], statics: Collection[str], converters: Collection[str], path: Path
) -> None:
    """IngestError that lists all nodes for which there is neither a converter nor a way to fold them.

    Args:
        nodes: the live ones, in order.
        statics: names of initializers.
        converters: names of operators that read activations.
        path: of the file.
    """
    known, refused = set(statics), []
    for node in nodes:
        static = all(i in known for i in node.input if i) or node.op_type in ("Shape", "Size")
        standard = node.domain in ("", "ai.onnx")
        if not standard or node.op_type not in (FOLDABLE if static else converters):
            refused.append(node)
        if static:
            known.update(node.output)
    if not refused:
        return
    lines = [f"\n  {_kind(n)} at node {name_of(n)!r}" for n in refused[:_LISTED]]
    more = f"\n  and {len(refused) - _LISTED} more" if len(refused) > _LISTED else ""
    kinds = ", ".join(sorted({_kind(n) for n in refused}))
    raise IngestError(
        f"{len(refused)} node{'s' if len(refused) > 1 else ''} cannot be converted ({kinds}):{''.join(lines)}{more}",
        f"supported operators are {', '.join(sorted(converters))}",
        "replace these layers, or cut the model before them and run the rest elsewhere",
        place_of(refused[0], path),
    )


def _kind(node: onnx.NodeProto) -> str:
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
