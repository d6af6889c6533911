"""What a model consists of, layer by layer: formats, bytes in the file, multiply-accumulates, accumulator widths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from subbyte.arithmetic.bounds import worst_case
from subbyte.formats.qtensor import QTensor
from subbyte.graph.draw import operator_text, shape_text, short, table
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops.centred import interval
from subbyte.graph.ops.channel_stack import IntChannelStack
from subbyte.graph.ops.linear_per_token import coded_reach
from subbyte.graph.ops.op import attributes
from subbyte.names import printable
from subbyte.runtime.modelfile import breakdown, budget, to_bytes

_OF_WEIGHTS = ("codes", "scale", "group_scale", "zero")
"""Parts of a file that say what weights are, by role."""


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """One node of an integer network.

    Attributes:
        name: of the node.
        module: the user's module path.
        op: operator name.
        operator: the operator in words, with kernel, stride and groups.
        shape: of the result; None is the batch.
        format: of the result's stored integers.
        scale: of the result.
        zero_point: of the result.
        weights: format of the weights; empty where there are none.
        granularity: how many weights share a scale: ``per_tensor``, ``per_channel``, or the size of groups.
        weight_bits: that each takes in the file, with scales and zero points; 0 where there are none, or where an
            earlier node reads them.
        weight_count: how many there are.
        accumulator_bits: width that the proof shows to be enough for every sum, sign included; 0 where nothing is
            multiplied by weights.
        macs: multiply-accumulates per sample.
        bytes: in the file, of the constants that no earlier node reads.
    """

    name: str
    module: str
    op: str
    operator: str
    shape: tuple[int | None, ...]
    format: str
    scale: float
    zero_point: int
    weights: str
    granularity: str
    weight_bits: float
    weight_count: int
    accumulator_bits: int
    macs: int
    bytes: int


def node_facts(graph: Graph) -> list[NodeFacts]:
    """Facts of every node of a verified integer graph, in execution order."""
    sizes: Counter[str] = Counter()
    weights: Counter[str] = Counter()
    for part in breakdown(graph):
        sizes[part.node] += part.nbytes
        weights[part.node] += part.nbytes if part.role in _OF_WEIGHTS else 0
    shown = [printable(node.name) for node in graph]
    return [_facts(graph, node, sizes[name], weights[name]) for node, name in zip(graph, shown, strict=True)]


def _facts(graph: Graph, node: Node, size: int, weight_size: int) -> NodeFacts:
    out = graph.types[node.output]
    assert isinstance(out, IntType)
    weight = next((c for c in map(graph.constants.get, node.inputs) if isinstance(c, QTensor)), None)
    return NodeFacts(
        name=node.name,
        module=node.module,
        op=node.op.name,
        operator=operator_text(graph, node),
        shape=out.shape,
        format=out.format.name,
        scale=out.scale,
        zero_point=out.zero_point,
        weights=weight.format.name if weight else "",
        granularity=_granularity(weight) if weight else "",
        weight_bits=8 * weight_size / weight.codes.size if weight else 0.0,
        weight_count=weight.codes.size if weight else 0,
        accumulator_bits=_accumulator_bits(graph, node, weight) if weight else 0,
        macs=node.op.macs([graph.operand(i) for i in node.inputs], out.shape),
        bytes=size,
    )


def _granularity(weight: QTensor) -> str:
    if weight.groups is not None:
        return f"groups of {weight.groups.size}"
    return "per_channel" if weight.scale.ndim else "per_tensor"


def _accumulator_bits(graph: Graph, node: Node, weight: QTensor) -> int:
    if isinstance(node.op, IntChannelStack):
        return int(node.op.largest_sums([graph.operand(i) for i in node.inputs]).max()).bit_length() + 1
    x, bias = graph.types[node.inputs[0]], graph.constants[node.inputs[2]] if len(node.inputs) > 2 else None
    assert isinstance(x, IntType)
    assert bias is None or isinstance(bias, np.ndarray)
    pre_shift = attributes(node.op).get("pre_shift")
    largest = attributes(node.op).get("largest")
    reach = (-coded_reach(x, largest), coded_reach(x, largest)) if largest else interval(x)
    worst = worst_case(weight.integers(), *reach, None if pre_shift else bias)
    return int(worst.max()).bit_length() + 1


def summary(graph: Graph, metadata: Mapping[str, Any]) -> str:
    """The network as a table of plain text, one line per node, and what its file consists of."""
    facts = node_facts(graph)
    rows = [_input_row(graph, name) for name in graph.inputs] + [_row(f) for f in facts]
    headings = ("node", "operator", "shape", "result", "weights", "bits", "count", "acc bits", "MACs", "bytes")
    text = table(headings, rows, right=("bits", "count", "acc bits", "MACs", "bytes"))
    size = len(to_bytes(graph, metadata))
    shares = budget(breakdown(graph), size)
    count, macs = (sum(getattr(f, key) for f in facts) for key in ("weight_count", "macs"))
    made = ", ".join(str(metadata[key]) for key in ("recipe", "arithmetic") if key in metadata)
    return "\n".join(
        [
            text,
            f"{short(graph.name)}{f' ({printable(made)})' if made else ''}: {len(facts)} nodes, {count:,} weights, "
            f"{macs:,} multiply-accumulates per sample",
            f"file: {size:,} bytes = {' + '.join(f'{what} {n:,}' for what, n in shares.items())}",
        ]
    )


def _row(facts: NodeFacts) -> tuple[str, ...]:
    numbers = (facts.weight_count, facts.accumulator_bits, facts.macs, facts.bytes)
    result = f"{short(facts.format)} {_reals(facts.scale, facts.zero_point)}"
    grouped = f" {facts.granularity}" if facts.granularity.startswith("groups") else ""
    words = (short(facts.name), facts.operator, shape_text(facts.shape), result, short(facts.weights) + grouped)
    bits = f"{facts.weight_bits:.2f}" if facts.weight_bits else ""
    return (*words, bits, *(f"{n:,}" if n else "" for n in numbers))


def _input_row(graph: Graph, name: str) -> tuple[str, ...]:
    kind = graph.types[name]
    assert isinstance(kind, IntType)
    result = f"{short(kind.format.name)} {_reals(kind.scale, kind.zero_point)}"
    return (short(name), "input", shape_text(kind.shape), result, "", "", "", "", "", "")


def _reals(scale: float, zero: int) -> str:
    return f"{scale:.4g}*{f'(q{-zero:+d})' if zero else 'q'}"
