"""What each operator of a network costs, and how near it is to what the machine can do at most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from subbyte import _native
from subbyte.errors import RunError
from subbyte.graph.feeds import check_codes
from subbyte.graph.ir import Graph, IntType, Node

Codes = npt.NDArray[Any]
Bound = Literal["MACs", "bytes"]
LEAST_REPEATS, MOST_REPEATS = 1, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """What one core can do at most, measured in this process.

    Attributes:
        macs: multiply-accumulates of bytes per nanosecond, from registers, in the instructions that the kernels use for
            exact int8. Layers of few bits that add in 16 bits may exceed it.
        bytes: read per nanosecond, over and over, from as much memory as the network's weights and activations take.
    """

    macs: float
    bytes: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProfile:
    """One operator, or what is copied before the first and behind the last one.

    Attributes:
        name: of the node.
        op: operator name; "take inputs" and "give outputs" for the copies.
        module: the user's module path.
        nanoseconds: of the fastest run.
        median_nanoseconds: of all runs.
        macs: multiply-accumulates.
        weight_bytes: of the weights, as they are kept in memory.
        bytes_read: of weights and activations; 0 where the result lies in its operand's buffer.
        bytes_written: of the result.
        isa: instruction set of the kernels.
        roof_share: time that the roof allows / time of the fastest run; 0 where there is nothing to do.
        bound: which roof, the one that asks for more time.
    """

    name: str
    op: str
    module: str
    nanoseconds: int
    median_nanoseconds: int
    macs: int
    weight_bytes: int
    bytes_read: int
    bytes_written: int
    isa: str
    roof_share: float
    bound: Bound


@cache
def roof(isa: str, size: int) -> Roof:
    """The roof of an instruction set for networks that touch ``size`` bytes; measured once, in some milliseconds."""
    return Roof(macs=_native.mac_roof(isa), bytes=_native.read_roof(size))


def network_roof(engine: _native.Engine) -> Roof:
    """The roof for a network in this engine."""
    touched = max(engine.weight_bytes + engine.arena_bytes, 1)
    return roof(engine.isa, 1 << touched.bit_length())  # few sizes, so that few are measured


def profile(
    graph: Graph, engine: _native.Engine, codes: Mapping[str, Codes], repeats: int, threads: int
) -> tuple[LayerProfile, ...]:
    """Run the first sample ``repeats`` times; see ``Engine.profile``."""
    if type(repeats) is not int or not LEAST_REPEATS <= repeats <= MOST_REPEATS:
        raise RunError(
            f"repeats is {repeats!r}",
            f"repeats is an integer in {LEAST_REPEATS}..{MOST_REPEATS}",
            "pass how often the sample runs",
        )
    check_codes(graph, codes)
    inputs = [np.require(codes[n][:1], _type(graph, n).storage, ["C", "A"]) for n in graph.inputs]
    times = engine.profile(inputs, threads, repeats)
    limit = network_roof(engine)
    limit = Roof(macs=limit.macs * threads, bytes=limit.bytes * threads)
    copied = [sum(_bytes(graph, n) for n in names) for names in (graph.inputs, graph.outputs)]
    rows = [_row(engine.isa, limit, times[0], op="take inputs", bytes_read=copied[0], bytes_written=copied[0])]
    for node, time, (weights, moved_nothing, _) in zip(graph.nodes, times[1:-1], engine.operators(), strict=True):
        facts: dict[str, Any] = {"name": node.name, "op": node.op.name, "module": node.module}
        if not moved_nothing:
            facts |= _work(graph, node, weights)
        rows.append(_row(engine.isa, limit, time, **facts))
    rows.append(_row(engine.isa, limit, times[-1], op="give outputs", bytes_read=copied[1], bytes_written=copied[1]))
    return tuple(rows)


def _work(graph: Graph, node: Node, weights: int) -> dict[str, int]:
    return {
        "macs": node.op.macs([graph.operand(i) for i in node.inputs], graph.types[node.output].shape),
        "weight_bytes": weights,
        "bytes_read": weights + sum(_bytes(graph, n) for n in graph.activations(node)),
        "bytes_written": _bytes(graph, node.output),
    }


def _row(isa: str, limit: Roof, time: tuple[int, int], **facts: Any) -> LayerProfile:
    counts = ("macs", "weight_bytes", "bytes_read", "bytes_written")
    known: dict[str, Any] = {"name": "", "module": "", **dict.fromkeys(counts, 0), **facts}
    needs = {"MACs": known["macs"] / limit.macs, "bytes": (known["bytes_read"] + known["bytes_written"]) / limit.bytes}
    bound: Bound = "MACs" if needs["MACs"] > needs["bytes"] else "bytes"
    share = needs[bound] / time[0] if time[0] > 0 else 0.0
    return LayerProfile(
        **known, nanoseconds=time[0], median_nanoseconds=time[1], isa=isa, roof_share=share, bound=bound
    )


def _type(graph: Graph, name: str) -> IntType:
    kind = graph.types[name]
    assert isinstance(kind, IntType)
    return kind


def _dims(kind: IntType) -> tuple[int, ...]:
    return tuple(d for d in kind.shape[1:] if d is not None)


def _bytes(graph: Graph, name: str) -> int:
    kind = _type(graph, name)
    return math.prod(_dims(kind)) * np.dtype(kind.storage).itemsize
