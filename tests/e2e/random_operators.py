"""One maker per operator: it finds operands that suit, draws attributes and appends a node, or leaves it."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from subbyte.arithmetic.requant import multiplier
from subbyte.formats import get_format
from subbyte.formats.trims import trims
from subbyte.graph.ir import IntType
from subbyte.graph.ops.add import IntAdd
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.avg_pool import AvgPool, IntAvgPool, divisors
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.linear import IntLinear
from subbyte.graph.ops.log_softmax import IntLogSoftmax
from subbyte.graph.ops.lut import IntLut
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import IntMean
from subbyte.graph.ops.mul import IntMul
from subbyte.graph.ops.pad import IntPad
from subbyte.graph.ops.rescale import IntRescale
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.slice import Slice
from subbyte.graph.ops.softmax import IntSoftmax
from subbyte.graph.ops.transpose import Transpose
from subbyte.graph.ops.trim import IntTrim
from tests.e2e import random_scaleless as scaleless
from tests.e2e.graph_maker import GAPS, WIDE, GraphMaker, byte, byte_image, image, legal, small, span
from tests.e2e.random_rows import linear_per_token

TRIMS = [trim.name for trim in trims()]


def _padding(g: GraphMaker, kernel, most: int = 3) -> tuple[int, int, int, int]:
    return tuple(g.integer(0, min(most, k - 1)) for k in (*kernel, *kernel))


def _conv(g: GraphMaker, x: str | None = None) -> None:
    x = x or g.value(lambda t: byte_image(t) and small(t))
    if x is None:
        return
    channels = g.types[x].shape[3]
    groups = g.pick([d for d in (1, 1, 1, 2, 3) if channels % d == 0])
    _put_conv(g, x, groups, outputs=groups * g.integer(1, 19 // groups + 1))


def _depthwise(g: GraphMaker, x: str | None = None) -> None:
    """A group per channel, with one or two results each."""
    x = x or g.value(lambda t: byte_image(t) and small(t) and t.shape[3] > 1)
    if x is not None:
        channels = g.types[x].shape[3]
        _put_conv(g, x, channels, outputs=channels * g.pick((1, 1, 2)))


def _put_conv(g: GraphMaker, x: str, groups: int, outputs: int) -> None:
    kernel = (g.integer(1, 4), g.integer(1, 4))
    weight = g.weight((outputs, *kernel, g.types[x].shape[3] // groups))
    out = g.type(())
    lo, hi = g.bounds(out)
    dilation, stride = (g.integer(1, 2), g.integer(1, 2)), (g.integer(1, 3), g.integer(1, 3))
    op = IntConv(stride=stride, dilation=dilation, padding=_padding(g, kernel), groups=groups, lo=lo, hi=hi)
    reach = [1 + d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
    size = g.types[x].shape[1:3]
    if any(s + op.padding[i] + op.padding[i + 2] < r for i, (s, r) in enumerate(zip(size, reach, strict=True))):
        return
    inputs = (x, g.constant(weight), *g.epilogue(outputs, _magnitude(weight.integers(), g.types[x])))
    g.put(op, inputs, g.shaped(op, inputs, out))


def _linear(g: GraphMaker, x: str | None = None) -> None:
    x = x or g.value(lambda t: byte(t) and small(t))
    if x is None:
        return
    outputs = g.integer(1, 40)
    weight = g.weight((outputs, g.types[x].shape[-1]))
    out = g.type(())
    lo, hi = g.bounds(out)
    op = IntLinear(lo=lo, hi=hi)
    inputs = (x, g.constant(weight), *g.epilogue(outputs, _magnitude(weight.integers(), g.types[x])))
    g.put(op, inputs, g.shaped(op, inputs, out))


def _magnitude(weights: np.ndarray, operand: IntType) -> float:
    """A quarter of what an accumulator can reach."""
    return float(np.abs(weights).reshape(len(weights), -1).sum(axis=1).max()) * span(operand) / 4


def recoded_layer(g: GraphMaker) -> None:
    """A layer whose operand a table has brought to values with gaps between them."""
    x = g.value(lambda t: byte(t) and small(t))
    if x is None:
        return
    out = g.type(g.types[x].shape, g.pick(GAPS))
    table = g.rng.choice(legal(out.format), 256).astype(np.uint8)
    coded = g.put(IntLut(), (x, g.constant(table)), out)
    layer = g.pick((_conv, _depthwise)) if image(out) and out.shape[3] > 1 else _linear
    layer(g, coded)


def _multipliers(g: GraphMaker, spans: list[int]) -> tuple[np.ndarray, int]:
    """Two signed multipliers over one shift, the larger in the arithmetic's range."""
    m, n = g.ratio(max(spans) / 100)
    other = m >> g.integer(0, 3) if g.arithmetic != "shift" else m
    pair = [m, other] if g.coin() else [other, m]
    return np.array([p if g.coin(0.7) else -p for p in pair], dtype=np.int32), n


def _add(g: GraphMaker, a: str | None = None) -> None:
    a = a or g.value(small)
    if a is None:
        return
    shape = g.types[a].shape
    b = g.value(lambda t: t.shape == shape) or a
    spans = [span(g.types[a])]
    if g.coin(0.2):
        b = g.constant(g.rng.integers(-500, 501, (shape[-1],)).astype(np.int32))
        spans.append(500)
    elif image(g.types[a]) and g.coin(0.2):
        b = g.value(lambda t: image(t) and t.shape == (None, 1, 1, shape[3])) or b
    if b in g.types:
        spans.append(span(g.types[b]))
    m, n = _multipliers(g, spans)
    out = g.type(())
    lo, hi = g.bounds(out)
    op = IntAdd(n=n, lo=lo, hi=hi)
    inputs = (a, b, g.constant(m))
    g.put(op, inputs, g.shaped(op, inputs, out))


def residual(g: GraphMaker) -> None:
    """x + f(x): an add whose operands have one ancestor."""
    x = g.value(lambda t: byte(t) and small(t))
    if x is None:
        return
    t = g.types[x]
    m, n = g.ratio(span(t) / 100)
    out = g.type(t.shape, get_format("uint8"))
    branch = g.put(IntRescale(m=m, n=n, lo=out.lo, hi=out.hi), (x,), out)
    pair, n = _multipliers(g, [span(t), span(out)])
    result = g.type(t.shape, get_format("uint8"))
    g.put(IntAdd(n=n, lo=result.lo, hi=result.hi), (x, branch, g.constant(pair)), result)


def _mul(g: GraphMaker) -> None:
    a = g.value(small)
    if a is None:
        return
    shape = g.types[a].shape
    b = g.value(lambda t: t.shape == shape or (len(shape) == 4 and t.shape == (None, 1, 1, shape[-1]))) or a
    if span(g.types[a]) * span(g.types[b]) >= 2**31:  # two 16-bit operands: refused, the product may leave int32
        return
    m, n = g.ratio(span(g.types[a]) * span(g.types[b]) / 100)
    out = g.type(())
    lo, hi = g.bounds(out)
    op = IntMul(m=m, n=n, lo=lo, hi=hi)
    inputs = (a, b)
    if g.coin(0.3):
        inputs = (a, g.constant(g.rng.integers(-99, 100, (shape[-1],)).astype(np.int32)))
    g.put(op, inputs, g.shaped(op, inputs, out))


def _rescale(g: GraphMaker) -> None:
    x = g.value(small)
    if x is None:
        return
    m, n = g.ratio(span(g.types[x]) / 100)
    out = g.type(g.types[x].shape)
    lo, hi = g.bounds(out)
    g.put(IntRescale(m=m, n=n, lo=lo, hi=hi), (x,), out)


def _lut(g: GraphMaker) -> None:
    x = g.value(lambda t: byte(t) and small(t))
    if x is None:
        return
    out = g.type(g.types[x].shape)
    table = g.rng.integers(out.lo, out.hi + 1, 256).astype(out.storage)
    g.put(IntLut(), (x, g.constant(table)), out)


def _window(g: GraphMaker, x: str) -> dict | None:
    size = g.types[x].shape[1:3]
    kernel = tuple(min(g.integer(1, 4), s) for s in size)
    padding = tuple(g.integer(0, k // 2) for k in (*kernel, *kernel))
    stride = (g.integer(1, 3), g.integer(1, 3))
    return {"kernel": kernel, "stride": stride, "padding": padding, "ceil_mode": g.coin(0.3)}


def _max_pool(g: GraphMaker) -> None:
    x = g.value(image)
    if x is None:
        return
    op = MaxPool(dilation=(1, 1), layout="channels_last", **_window(g, x))
    g.put(op, (x,), g.shaped(op, (x,), g.types[x]))


def _avg_pool(g: GraphMaker) -> None:
    x = g.value(image)
    if x is None:
        return
    window = {**_window(g, x), "count_include_pad": g.coin()}
    found = divisors(AvgPool(layout="channels_last", **window), g.types[x].shape)
    pairs = np.array([g.ratio(span(g.types[x]) * d / 100) for d in found], dtype=np.int32)
    out = g.type(())
    lo, hi = g.bounds(out)
    op = IntAvgPool(lo=lo, hi=hi, **window)
    columns = [g.constant(np.ascontiguousarray(c)) for c in (np.array(found, np.int32), pairs[:, 0], pairs[:, 1])]
    inputs = (x, *columns)
    g.put(op, inputs, g.shaped(op, inputs, out))


def _mean(g: GraphMaker) -> None:
    x = g.value(small)
    if x is None:
        return
    rank = len(g.types[x].shape)
    axes = (1, 2) if rank == 4 and g.coin() else (g.integer(1, rank - 1),)
    keepdims = g.coin() or len(axes) >= rank - 1
    window = math.prod(g.types[x].shape[a] for a in axes)
    m, n = g.ratio(span(g.types[x]) * window / 100)
    out = g.type(())
    lo, hi = g.bounds(out)
    op = IntMean(axes=axes, keepdims=keepdims, m=m, n=n, lo=lo, hi=hi)
    g.put(op, (x,), g.shaped(op, (x,), out))


def _pad(g: GraphMaker) -> None:
    x = g.value(small)
    if x is None:
        return
    t = g.types[x]
    before = (0, *(g.integer(0, 2) for _ in t.shape[1:]))
    after = (0, *(g.integer(0, 2) for _ in t.shape[1:]))
    op = IntPad(before=before, after=after, fill=int(g.pick(legal(t.format))))
    g.put(op, (x,), g.shaped(op, (x,), t))


def _slice(g: GraphMaker) -> None:
    x = g.value(lambda t: True)
    t = g.types[x]
    starts = (0, *(g.integer(0, s - 1) for s in t.shape[1:]))
    ends = (None, *(g.integer(a + 1, s) for a, s in zip(starts[1:], t.shape[1:], strict=True)))
    steps = (1, *(g.integer(1, 2) for _ in t.shape[1:]))
    op = Slice(starts=starts, ends=ends, steps=steps)
    g.put(op, (x,), g.shaped(op, (x,), t))


def concat(g: GraphMaker) -> None:
    x = g.value(small)
    if x is None:
        return
    t = g.types[x]
    axis = g.integer(1, len(t.shape) - 1)
    parts = [x]
    for _ in range(g.integer(1, 2)):
        other = g.value(lambda o: _joins(o, t, axis)) or x
        parts.append(other)
    op = Concat(axis=axis)
    g.put(op, tuple(parts), g.shaped(op, tuple(parts), t))


def _joins(a: IntType, b: IntType, axis: int) -> bool:
    same = (a.format.name, a.scale, a.zero_point) == (b.format.name, b.scale, b.zero_point)
    rest = [s for i, s in enumerate(a.shape) if i != axis] == [s for i, s in enumerate(b.shape) if i != axis]
    return same and len(a.shape) == len(b.shape) and rest


def _reshape(g: GraphMaker) -> None:
    x = g.value(lambda t: True)
    t = g.types[x]
    count = math.prod(t.shape[1:])
    first = g.pick([d for d in range(1, count + 1) if count % d == 0])
    shape = g.pick([(None, count), (None, first, count // first), (None, 1, first, count // first)])
    op = Reshape(shape=shape)
    g.put(op, (x,), g.shaped(op, (x,), t))


def _transpose(g: GraphMaker) -> None:
    x = g.value(lambda t: len(t.shape) >= 3)
    if x is None:
        return
    t = g.types[x]
    perm = (0, *(int(a) for a in 1 + g.rng.permutation(len(t.shape) - 1)))
    op = Transpose(perm=perm)
    g.put(op, (x,), g.shaped(op, (x,), t))


def _resize(g: GraphMaker) -> None:
    x = g.value(lambda t: image(t) and math.prod(t.shape[1:]) <= 1500)
    if x is None:
        return
    size = tuple(g.integer(1, 2 * s + 1) for s in g.types[x].shape[1:3])
    op = ResizeNearest(size=size, layout="channels_last")
    g.put(op, (x,), g.shaped(op, (x,), g.types[x]))


def _wide(shape, scale: float, zero_point: int = 0) -> IntType:
    return IntType(shape=shape, format=WIDE, scale=scale, zero_point=zero_point)


def _softmax(g: GraphMaker) -> None:
    x = g.value(small)
    if x is None:
        return
    m, n = multiplier(2.0 ** g.rng.uniform(-6, 6), "m31")
    op = IntSoftmax(axis=len(g.types[x].shape) - 1, m=m, n=n)
    g.put(op, (x,), _wide(g.types[x].shape, 2.0**-15))


def _log_softmax(g: GraphMaker) -> None:
    x = g.value(small)
    if x is None:
        return
    m, n = multiplier(2.0 ** g.rng.uniform(-6, 6), "m31")
    m_in, shift = multiplier(2.0 ** g.rng.uniform(-4, 4), "m31")
    m_log = g.integer(0, 2**20)
    out = _wide(g.types[x].shape, 2.0**-11, 32767)
    lo, hi = g.bounds(out)
    op = IntLogSoftmax(axis=len(out.shape) - 1, m=m, n=n, m_in=m_in, m_log=m_log, shift=shift, lo=lo, hi=hi)
    g.put(op, (x,), out)


def _argmax(g: GraphMaker) -> None:
    x = g.value(small)
    if x is None:
        return
    rank = len(g.types[x].shape)
    op = Argmax(axis=g.integer(1, rank - 1), keepdims=rank == 2 or g.coin())
    g.put(op, (x,), g.shaped(op, (x,), _wide((), 1.0)))


def _trim(g: GraphMaker) -> None:
    x = g.value(lambda t: byte(t) and small(t) and (t.lo, t.hi) == (0, 255) and t.format.uniform)
    if x is None:
        return
    channels = g.types[x].shape[-1]
    op = IntTrim(trim=g.pick(TRIMS), group=g.pick([d for d in (1, 2, 3, 5, channels) if channels % d == 0]))
    g.put(op, (x,), g.shaped(op, (x,), g.types[x]))


MAKERS: dict[str, Callable[[GraphMaker], None]] = {
    "int_conv": _conv,
    "int_linear": _linear,
    "int_add": _add,
    "int_mul": _mul,
    "int_rescale": _rescale,
    "int_lut": _lut,
    "max_pool": _max_pool,
    "int_avg_pool": _avg_pool,
    "int_mean": _mean,
    "int_pad": _pad,
    "slice": _slice,
    "concat": concat,
    "reshape": _reshape,
    "transpose": _transpose,
    "resize_nearest": _resize,
    "int_softmax": _softmax,
    "int_log_softmax": _log_softmax,
    "argmax": _argmax,
    "int_linear_per_token": linear_per_token,
    "int_trim": _trim,
    **scaleless.MAKERS,
}

LAYERS = (_conv, _conv, _depthwise, _depthwise, _linear, _linear, recoded_layer)
"""Drawn besides MAKERS: most of a network, and of the engine, is layers."""
