"""What each operator of a network costs, and how near it is to what the machine can do at most."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from itertools import compress
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from subbyte import _native
from subbyte.errors import RunError
from subbyte.graph.feeds import check_codes
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops.conv import IntConv

Codes = npt.NDArray[Any]
Bound = Literal["MACs", "bytes"]
LEAST_REPEATS, MOST_REPEATS = 1, 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What an operator has to do, whoever does it.

    Attributes:
        macs: multiply-accumulates.
        wide_macs: those of them whose sums of two (of a channel, where depthwise) are not proved to fit the int16 that
            the engine's kernels add in; 0 where kernels add in int32.
        depthwise: whether they are those of a 3x3 depthwise convolution.
        left_over: those of them that are of the last up to 16 channels, behind whole vectors of 64.
        rescaled: sums of products that become stored integers.
        weight_bytes: as they are kept in memory.
        read: bytes of activations.
        written: bytes of the result.
    """

    macs: int = 0
    wide_macs: int = 0
    depthwise: bool = False
    left_over: int = 0
    rescaled: int = 0
    weight_bytes: int = 0
    read: int = 0
    written: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Roof:
    """What one core can do at most, per nanosecond; 0 where a rate is not known, and then not asked for.

    Attributes:
        macs: multiply-accumulates of bytes, from registers, in the instructions that the kernels use for exact int8.
            Layers of few bits that add in 16 bits may exceed it.
        rescaled: sums that become stored integers beside such products; their time adds to that of the products.
        depthwise: multiply-accumulates of a 3x3 depthwise convolution, its rescales included.
        pieces: the same for channels that whole vectors leave over, gathered from several pixels.
        wide_macs: multiply-accumulates of any bytes where kernels add in int16, which need not hold two of them: with
            both halves of the weights, which is why such layers do not reach ``macs``.
        wide_depthwise: the same of a 3x3 depthwise convolution, its rescales included.
        weights: bytes read, over and over, from as much memory as the network's weights and activations take.
        activations: bytes read from the first cache, where what was just written may lie.
    """

    macs: float
    rescaled: float
    depthwise: float
    weights: float
    activations: float
    pieces: float = 0.0
    wide_macs: float = 0.0
    wide_depthwise: float = 0.0

    def nanoseconds(self, work: Work) -> tuple[float, Bound]:
        """The least time for some work, and what asks for it."""
        rows = work.depthwise and self.depthwise > 0
        near, wide = (self.depthwise, self.wide_depthwise) if rows else (self.macs, self.wide_macs)
        left_over = work.left_over if rows and self.pieces else 0
        arithmetic = (work.macs - work.wide_macs - left_over) / near + work.wide_macs / (wide or near)
        if left_over:
            arithmetic += left_over / self.pieces
        if not rows and self.rescaled:
            arithmetic += work.rescaled / self.rescaled
        moved = work.weight_bytes / self.weights + max(work.read, work.written) / self.activations
        return (arithmetic, "MACs") if arithmetic > moved else (moved, "bytes")

    def of(self, threads: int) -> Roof:
        """What so many cores can do at most."""
        return Roof(**{f.name: getattr(self, f.name) * threads for f in fields(self)})


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProfile:
    """One operator, or what is copied before the first and behind the last one.

    Attributes:
        name: of the node.
        op: operator name; "take inputs" and "give outputs" for the copies. Results that no operator reads are not
            copied, nor are inputs that only depthwise convolutions read which make their border themselves.
        module: the user's module path.
        nanoseconds: of the fastest run.
        median_nanoseconds: of all runs.
        macs: multiply-accumulates.
        weight_bytes: of the weights, as they are kept in memory.
        bytes_read: of weights and activations; 0 where the result lies in its operand's buffer.
        bytes_written: of the result.
        isa: instruction set of the kernels.
        roof_nanoseconds: that the machine needs at least; 0 where there is nothing to do.
        roof_share: of the time of the fastest run.
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
    roof_nanoseconds: float
    roof_share: float
    bound: Bound


FIRST_CACHE = 16 * 1024
"""Bytes that every first-level cache holds."""
VECTOR, MOST_LEFT_OVER = 64, 16
"""Channels of a vector, and those left over that are done pixel by pixel; more count as if they filled vectors."""


@cache
def roof(isa: str, size: int) -> Roof:
    """The roof of an instruction set for networks that touch ``size`` bytes; measured once, in some milliseconds."""
    return Roof(
        macs=_native.mac_roof(isa),
        rescaled=_native.rescale_roof(isa),
        depthwise=_native.depthwise_roof(isa),
        pieces=_native.depthwise_pieces_roof(isa),
        wide_macs=_native.wide_mac_roof(isa),
        wide_depthwise=_native.wide_depthwise_roof(isa),
        weights=_native.read_roof(size),
        activations=_native.read_roof(FIRST_CACHE),
    )


def touched(engine: _native.Engine) -> int:
    """Bytes of weights and activations, rounded up to a power of two, so that few sizes are measured."""
    return 1 << max(engine.weight_bytes + engine.arena_bytes, 1).bit_length()


def network_roof(engine: _native.Engine) -> Roof:
    """The roof for a network in this engine."""
    return roof(engine.isa, touched(engine))


def network_work(graph: Graph, engine: _native.Engine) -> list[Work]:
    """Of every operator, in execution order; nothing for one whose result lies in its operand's buffer."""
    operators = zip(graph.nodes, engine.operators(), engine.wide_macs, strict=True)
    return [
        Work() if moved_nothing else _work(graph, node, weights, wide)
        for node, (weights, moved_nothing, _), wide in operators
    ]


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
    limit = network_roof(engine).of(threads)
    ends = ((graph.inputs, engine.copied_inputs), (graph.outputs, engine.copied_outputs))
    copied = [sum(_bytes(graph, n) for n in compress(names, which)) for names, which in ends]
    first, last = (Work(read=size, written=size) for size in copied)
    rows = [_row(engine.isa, limit, times[0], first, op="take inputs")]
    for node, time, work in zip(graph.nodes, times[1:-1], network_work(graph, engine), strict=True):
        rows.append(_row(engine.isa, limit, time, work, name=node.name, op=node.op.name, module=node.module))
    rows.append(_row(engine.isa, limit, times[-1], last, op="give outputs"))
    return tuple(rows)


def _work(graph: Graph, node: Node, weights: int, wide: int) -> Work:
    macs = node.op.macs([graph.operand(i) for i in node.inputs], graph.types[node.output].shape)
    is_small_depthwise = _is_small_depthwise(graph, node)
    return Work(
        macs=macs,
        wide_macs=min(wide, macs),
        depthwise=is_small_depthwise,
        left_over=_left_over(macs, graph.operand(node.inputs[1]).shape[0] or 0) if is_small_depthwise else 0,
        rescaled=math.prod(_dims(_type(graph, node.output))) if macs else 0,
        weight_bytes=weights,
        read=sum(_bytes(graph, n) for n in graph.activations(node)),
        written=_bytes(graph, node.output),
    )


def _is_small_depthwise(graph: Graph, node: Node) -> bool:
    """Whether it is a depthwise convolution of 3x3."""
    if not isinstance(node.op, IntConv):
        return False
    outputs, *window = graph.operand(node.inputs[1]).shape
    return node.op.groups == outputs and window == [3, 3, 1]


def _left_over(macs: int, channels: int) -> int:
    """The part of a depthwise convolution's that is done in pieces of a vector."""
    rest = channels % VECTOR
    return macs // channels * rest if channels > VECTOR and rest <= MOST_LEFT_OVER else 0


def _row(
    isa: str, limit: Roof, time: tuple[int, int], work: Work, *, op: str, name: str = "", module: str = ""
) -> LayerProfile:
    least, bound = limit.nanoseconds(work)
    return LayerProfile(
        name=name,
        op=op,
        module=module,
        nanoseconds=time[0],
        median_nanoseconds=time[1],
        macs=work.macs,
        weight_bytes=work.weight_bytes,
        bytes_read=work.weight_bytes + work.read,
        bytes_written=work.written,
        isa=isa,
        roof_nanoseconds=least,
        roof_share=least / time[0] if time[0] > 0 else 0.0,
        bound=bound,
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
