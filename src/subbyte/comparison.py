"""Where accuracy is lost: every layer of the integer network against the float one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic import boundary
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops.centred import interval, reals
from subbyte.graph.ops.op import IntCall
from subbyte.quantization.fake_quant import nearest_stored

if TYPE_CHECKING:
    from subbyte.model import QuantizedModel

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True)
class LayerComparison:
    """One value, float against integer.

    Attributes:
        name: node that makes it.
        module: the user's module path.
        op: operator name.
        format: of its stored integers.
        sqnr_local: dB, error of this node alone: float inputs, quantized, through the integer node.
        sqnr_cumulative: dB, error of the integer network up to here.
        lo: smallest float value seen.
        hi: largest float value seen.
        clipped: share of float values outside what the format can hold, 0..1.
    """

    name: str
    module: str
    op: str
    format: str
    sqnr_local: float
    sqnr_cumulative: float
    lo: float
    hi: float
    clipped: float


def compare(model: QuantizedModel, float_graph: Graph, data: Mapping[str, Array]) -> list[LayerComparison]:
    """Rows for every value that both networks have, the largest local error first.

    Args:
        model: the integer network.
        float_graph: the float graph that it was made from.
        data: float32 inputs by name.
    """
    import torch

    from subbyte.graph.passes import prepare
    from subbyte.graph.torch_executor import FloatExecutor

    feeds = {name: torch.from_numpy(np.ascontiguousarray(x, dtype=np.float32)) for name, x in data.items()}
    exact = {name: y.detach().numpy() for name, y in FloatExecutor(prepare(float_graph)).run(feeds).items()}
    integers = model.engine.run_all(model.encode(dict(data)))
    rows = [_row(model.graph, node, exact, integers) for node in model.graph if node.output in exact]
    return sorted(rows, key=lambda r: r.sqnr_local)


def sqnr(exact: Array, approximate: Array) -> float:
    """Signal to quantization noise ratio in dB; infinity where nothing differs."""
    noise = float(np.square(approximate.astype(np.float64) - exact).sum())
    signal = float(np.square(exact.astype(np.float64)).sum())
    if noise == 0:
        return math.inf
    return 10 * math.log10(signal / noise) if signal > 0 else -math.inf


def _row(graph: Graph, node: Node, exact: Mapping[str, Array], integers: Mapping[str, Array]) -> LayerComparison:
    out = _int_type(graph, node.output)
    y = exact[node.output]
    ends = [out.scale * x for x in interval(out)]
    half = out.scale / 2
    return LayerComparison(
        name=node.name,
        module=node.module,
        op=node.op.name,
        format=out.format.name,
        sqnr_local=sqnr(y, _alone(graph, node, exact)),
        sqnr_cumulative=sqnr(y, reals(integers[node.output], out)),
        lo=float(y.min()),
        hi=float(y.max()),
        clipped=float(np.mean((y < ends[0] - half) | (y > ends[1] + half))),
    )


def _int_type(graph: Graph, name: str) -> IntType:
    type_ = graph.types[name]
    assert isinstance(type_, IntType)
    return type_


def _alone(graph: Graph, node: Node, exact: Mapping[str, Array]) -> Array:
    """The integer node, with the re-coding nodes that only it needs, on quantized float inputs; reals."""
    out = _int_type(graph, node.output)
    result = _evaluate(graph, node, exact)
    return reals(result, out)


def _evaluate(graph: Graph, node: Node, exact: Mapping[str, Array]) -> Array:
    inputs = []
    for name in node.inputs:
        if name in graph.constants:
            inputs.append(graph.constants[name])
            continue
        type_ = _int_type(graph, name)
        if name in exact:
            inputs.append(_stored(exact[name].astype(np.float32), type_))
        else:  # made by a node that the float network does not have
            made = graph.producer(name)
            assert made is not None
            inputs.append(_evaluate(graph, made, exact))
    types = [graph.types.get(name) for name in node.inputs]
    ints = [t if isinstance(t, IntType) else None for t in types]
    return np.asarray(node.op.numpy(IntCall(inputs, ints, _int_type(graph, node.output))))


def _stored(x: Array, type_: IntType) -> Array:
    """Reals as a type stores them."""
    if type_.format.coded:
        return nearest_stored(x.astype(np.float64) / type_.scale, type_).astype(type_.storage)
    return boundary.quantize(x, type_.scale, type_.zero_point, type_.lo, type_.hi, type_.storage)
