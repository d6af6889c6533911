"""One small legal application of every operator, and how to run it on both integer executors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from subbyte.formats import QTensor, get_format
from subbyte.graph import ops
from subbyte.graph.ir import FloatType, IntType
from subbyte.graph.ops.op import IntCall, Op

S, N = 2**30 + 12345, 34
"""A multiplier of 31 bits with ratio of about 1/16."""


def floats(*shape: int) -> FloatType:
    return FloatType(shape=(None, *shape))


def ints(*shape: int, fmt: str = "uint8", zero: int = 7, scale: float = 0.5) -> IntType:
    return IntType(shape=(None, *shape), format=get_format(fmt), scale=scale, zero_point=zero)


def real(*shape: int) -> np.ndarray:
    count = math.prod(shape)
    return (np.arange(count, dtype=np.float32).reshape(shape) - count / 2) / count + np.float32(0.01)


def i32(*values: int) -> np.ndarray:
    return np.array(values, dtype=np.int32)


def weights(*shape: int, fmt: str = "int8", seed: int = 0) -> QTensor:
    form = get_format(fmt)
    codes = np.random.default_rng(seed).integers(0, form.levels, shape, dtype=np.uint8)
    return QTensor(
        codes=codes,
        format=form,
        scale=np.ones((shape[0],), np.float32),
        zero_point=np.zeros((shape[0],), np.int32),
    )


def epilogue(channels: int, n: int = N) -> list[np.ndarray]:
    """Bias, m, n."""
    bias = np.arange(channels, dtype=np.int32) * 17 - 20
    return [bias, i32(*range(S, S + channels)), i32(*[n] * channels)]


@dataclass(frozen=True)
class Case:
    """An operator, its operands and, for integer operators, the result's type without its shape."""

    op: Op
    operands: list[Any]
    out: IntType | None = None

    @property
    def label(self) -> str:
        return self.op.name if self.out is None else f"{self.op.name}-integer"


_WINDOW = {"kernel": (2, 3), "stride": (2, 1), "padding": (1, 1, 0, 1), "ceil_mode": True}
_CHANNELS = {"stride": (2, 1), "dilation": (1, 2), "padding": (1, 0, 2, 1), "groups": 2}
_RESCALE = {"m": S, "n": 31, "lo": 2, "hi": 250}
_MOVED = ints(1)
_I16 = ints(1, fmt="int16", zero=0, scale=2.0**-15)

FLOAT = [
    Case(ops.Rectify(slope=0.1, lo=-1.0, hi=0.4), [floats(6)]),
    Case(ops.Conv(**_CHANNELS), [floats(4, 5, 6), real(6, 2, 3, 2), real(6)]),
    Case(ops.Linear(rectify=ops.Rectify(lo=0.0)), [floats(3, 5), real(2, 5), real(2)]),
    Case(ops.BatchNorm(axis=1), [floats(3, 4), *(abs(real(3)) for _ in range(4))]),
    Case(ops.Affine(axis=2), [floats(4, 3), real(3), real(3)]),
    Case(ops.Add(), [floats(3, 4), floats(1, 4)]),
    Case(ops.Sub(), [real(4), floats(3, 4)]),
    Case(ops.Mul(), [floats(3, 4), real(3, 1)]),
    *(Case(ops.Unary(function=f), [floats(5)]) for f in ("sigmoid", "tanh", "hard_swish", "silu", "gelu", "exp")),
    Case(ops.Unary(function="gelu_tanh"), [floats(5)]),
    Case(ops.Unary(function="hard_sigmoid", params=(0.2, 0.5)), [floats(5)]),
    Case(ops.Concat(axis=2), [floats(3, 4), floats(3, 2)]),
    Case(ops.MaxPool(**_WINDOW, dilation=(2, 1)), [floats(2, 5, 6)]),
    Case(ops.AvgPool(**_WINDOW, count_include_pad=True), [floats(2, 5, 6)]),
    Case(ops.Mean(axes=(2, 3), keepdims=True), [floats(2, 5, 6)]),
    Case(ops.Pad(before=(0, 1), after=(0, 2), value=0.5), [floats(4)]),
    Case(ops.Reshape(shape=(None, 12)), [floats(3, 4)]),
    Case(ops.Transpose(perm=(0, 3, 1, 2)), [floats(2, 3, 4)]),
    Case(ops.Slice(starts=(0, 1), ends=(None, 6), steps=(1, 2)), [floats(7)]),
    Case(ops.ResizeNearest(size=(7, 2)), [floats(2, 3, 4)]),
    Case(ops.Softmax(axis=1), [floats(5)]),
    Case(ops.LogSoftmax(axis=2), [floats(2, 5)]),
    Case(ops.Argmax(axis=1), [floats(5)]),
    Case(ops.Identity(), [floats(5)]),
]

INTEGER = [
    Case(
        ops.IntConv(**_CHANNELS, lo=1, hi=254),
        [ints(5, 6, 4), weights(6, 3, 2, 2), *epilogue(6), *epilogue(6, n=36)[1:]],
        ints(1, zero=100),
    ),
    Case(ops.IntLinear(lo=-3000, hi=3000), [ints(3, 5), weights(2, 5), *epilogue(2)], ints(1, fmt="int16", zero=-5)),
    Case(
        ops.IntLinearPerToken(lo=-3000, hi=3000, largest=255, pre_shift=3),
        [ints(3, 5), weights(2, 5), *epilogue(2)],
        ints(1, fmt="int16", zero=-5),
    ),
    Case(ops.IntLinearNorm(hi=127), [ints(3, 5), weights(4, 5)], ints(1, zero=0)),
    Case(
        ops.IntChannelStack(kernels=(2, 1), shifts=(3, 0), pools=(1, 2), hi=127),
        [ints(4, 5), weights(3, 5)],
        ints(1, zero=0),
    ),
    Case(ops.IntLinearArgmax(), [ints(3, 5), weights(4, 5)], ints(1, fmt="int16", zero=0, scale=1.0)),
    Case(ops.IntAdd(n=31, lo=0, hi=255), [ints(3, 4), ints(1, 4, zero=200), i32(S, -S // 3)], ints(1, zero=128)),
    Case(ops.IntMul(m=S, n=36, lo=0, hi=255), [ints(3, 4), i32(-70, 5, 3, 100)], ints(1, zero=128)),
    Case(ops.IntRescale(**_RESCALE), [ints(9)], ints(1, zero=3)),
    Case(ops.IntLut(), [ints(9), np.arange(256, dtype=np.uint8)[::-1].copy()], ints(1, zero=3)),
    Case(
        ops.IntAvgPool(**_WINDOW, count_include_pad=False, lo=0, hi=255),
        [ints(5, 6, 2), i32(1, 2, 3, 4, 6), i32(*range(S, S + 5)), i32(30, 31, 31, 32, 33)],
        ints(1, zero=9),
    ),
    Case(ops.IntMean(axes=(1, 2), keepdims=False, **_RESCALE), [ints(3, 4, 2)], ints(1, zero=9)),
    Case(ops.IntPad(before=(0, 1), after=(0, 2), fill=7), [ints(4)], _MOVED),
    Case(ops.IntTrim(trim="sparq4_5opt_round_v", group=3), [ints(4, 6)], ints(1)),
    Case(ops.IntTrim(trim="sparq2_7opt_stc", group=7), [ints(7)], ints(1)),
    Case(ops.IntTrim(trim="sparq4_5opt_shared16", group=40), [ints(2, 40)], ints(1)),
    Case(ops.IntSoftmax(axis=1, m=S, n=27), [ints(5, fmt="int16")], _I16),
    Case(
        ops.IntLogSoftmax(axis=1, m=S, n=27, m_in=S, m_log=54321, shift=22, lo=-32768, hi=32767),
        [ints(5)],
        ints(1, fmt="int16", zero=32767),
    ),
    Case(ops.Concat(axis=2), [ints(3, 4), ints(3, 2)], _MOVED),
    Case(ops.MaxPool(**_WINDOW, dilation=(2, 1), layout="channels_last"), [ints(5, 6, 2)], _MOVED),
    Case(ops.MaxPool(**_WINDOW, dilation=(2, 1)), [ints(2, 5, 6)], _MOVED),
    Case(ops.Reshape(shape=(None, 12)), [ints(3, 4)], _MOVED),
    Case(ops.Transpose(perm=(0, 3, 1, 2)), [ints(2, 3, 4)], _MOVED),
    Case(ops.Slice(starts=(0, 1), ends=(None, 6), steps=(1, 2)), [ints(7)], _MOVED),
    Case(ops.ResizeNearest(size=(7, 2), layout="channels_last"), [ints(2, 3, 4)], _MOVED),
    Case(ops.Argmax(axis=1), [ints(5)], ints(1, fmt="int16", zero=0, scale=1.0)),
    Case(ops.Identity(), [ints(5)], _MOVED),
]


def declared(case: Case) -> IntType:
    """The result's type with the shape that the operator infers; checked."""
    assert case.out is not None
    out = IntType(
        shape=case.op.infer(case.operands),
        format=case.out.format,
        scale=case.out.scale,
        zero_point=case.out.zero_point,
    )
    case.op.check(case.operands, out)
    return out


def codes(kind: IntType, batch: int, rng: np.random.Generator, style: str = "random") -> np.ndarray:
    """Legal stored integers; style "extremes" takes the smallest and largest only, "lo" and "hi" one of them."""
    shape = (batch, *(d or 0 for d in kind.shape[1:]))
    if style in ("lo", "hi"):
        return np.full(shape, getattr(kind, style), kind.storage)
    if style == "extremes":
        return rng.choice(np.array([kind.lo, kind.hi]), shape).astype(kind.storage)
    return rng.integers(kind.lo, kind.hi + 1, shape).astype(kind.storage)


def evaluate(case: Case, inputs: list[np.ndarray]) -> np.ndarray:
    """The NumPy result, after tests that torch gives the same bits and that shape, storage and range are as declared.

    Args:
        case: integer.
        inputs: stored integers of its activations, in order.
    """
    import torch

    out = declared(case)
    kinds = [o if isinstance(o, IntType) else None for o in case.operands]
    given = iter(inputs)
    arrays = [o if t is None else next(given) for o, t in zip(case.operands, kinds, strict=True)]
    result = case.op.numpy(IntCall(inputs=arrays, types=kinds, out=out))
    assert result.dtype == np.dtype(out.storage)
    assert result.shape == (len(inputs[0]), *out.shape[1:])
    assert out.lo <= result.min()
    assert result.max() <= out.hi
    tensors = [a if t is None else torch.tensor(a.astype(np.int64)) for a, t in zip(arrays, kinds, strict=True)]
    from_torch = case.op.torch_int(IntCall(inputs=tensors, types=kinds, out=out))
    assert from_torch.dtype == torch.int64
    np.testing.assert_array_equal(from_torch.numpy(), result)
    return result
