from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional

from subbyte.errors import GraphError
from subbyte.graph import ops
from tests.graph.ops.cases import Case, evaluate, floats, ints


def run(op, *arrays, zero=7):
    """Both dialects on uint8 arrays, batch first; they move alike."""
    kinds = [ints(*a.shape[1:], zero=zero) for a in arrays]
    moved = evaluate(Case(op, kinds, ints(1, zero=zero)), list(arrays))
    floated = op.torch(*(torch.tensor(a.astype(np.float32)) for a in arrays)).numpy()
    np.testing.assert_array_equal(floated, moved.astype(np.float32))
    return moved


def numbers(*shape):
    return (np.arange(np.prod(shape)) * 7 % 256).astype(np.uint8).reshape(shape)


def test_moves_equal_numpy():
    x = numbers(2, 3, 4, 5)
    np.testing.assert_array_equal(run(ops.Reshape(shape=(None, 12, 5)), x), x.reshape(2, 12, 5))
    np.testing.assert_array_equal(run(ops.Transpose(perm=(0, 2, 3, 1)), x), x.transpose(0, 2, 3, 1))
    part = ops.Slice(starts=(0, 0, 1, 0), ends=(None, 2, 4, 5), steps=(1, 1, 2, 3))
    np.testing.assert_array_equal(run(part, x), x[:, 0:2, 1:4:2, ::3])
    np.testing.assert_array_equal(run(ops.Concat(axis=1), x, x[:, :1]), np.concatenate([x, x[:, :1]], 1))
    np.testing.assert_array_equal(run(ops.Identity(), x), x)


@pytest.mark.parametrize("size", [(3, 4), (6, 8), (7, 9), (1, 1), (2, 3)])
def test_resize_picks_by_integer_division(size):
    x = numbers(1, 2, 3, 4)
    rows, columns = (np.arange(o) * i // o for i, o in zip((3, 4), size, strict=True))
    y = run(ops.ResizeNearest(size=size), x)
    np.testing.assert_array_equal(y, x[:, :, rows][:, :, :, columns])
    expected = functional.interpolate(torch.tensor(x.astype(np.float32)), size=size, mode="nearest").numpy()
    np.testing.assert_array_equal(y, expected)
    last = run(ops.ResizeNearest(size=size, layout="channels_last"), np.ascontiguousarray(np.moveaxis(x, 1, -1)))
    np.testing.assert_array_equal(np.moveaxis(last, -1, 1), y)


@pytest.mark.parametrize("keepdims", [True, False])
def test_argmax_takes_the_first(keepdims):
    x = np.array([[3, 9, 9, 1], [0, 0, 0, 0], [1, 2, 3, 255]], np.uint8)
    op = ops.Argmax(axis=1, keepdims=keepdims)
    y = evaluate(Case(op, [ints(4)], ints(1, fmt="int16", zero=0, scale=1.0)), [x])
    assert y.ravel().tolist() == [1, 0, 3]
    floated = op.torch(torch.tensor(x.astype(np.float32)))
    assert floated.dtype == torch.float32
    assert tuple(floated.shape) == y.shape
    assert floated.ravel().tolist() == [1.0, 0.0, 3.0]


def test_argmax_result_is_int16_of_scale_one():
    op = ops.Argmax(axis=1)
    for bad in (ints(fmt="int16", zero=0, scale=0.5), ints(fmt="int16", zero=1, scale=1.0), ints(zero=0, scale=1.0)):
        with pytest.raises(GraphError):
            op.check([ints(4)], bad)
    with pytest.raises(GraphError, match="fit int16"):
        op.infer([ints(40000)])


def test_padding():
    x = numbers(2, 3, 4)
    op = ops.IntPad(before=(0, 1, 0), after=(0, 0, 2), fill=9)
    y = evaluate(Case(op, [ints(3, 4)], ints(1)), [x])
    np.testing.assert_array_equal(y, np.pad(x, ((0, 0), (1, 0), (0, 2)), constant_values=9))
    float_op = ops.Pad(before=(0, 1, 0), after=(0, 0, 2), value=9.0)
    np.testing.assert_array_equal(float_op.torch(torch.tensor(x.astype(np.float32))).numpy(), y.astype(np.float32))
    assert float_op.infer([floats(3, 4)]) == (None, 4, 6)
    with pytest.raises(GraphError, match="fill"):
        ops.IntPad(before=(0, 1, 0), after=(0, 0, 2), fill=16).check([ints(3, 4, fmt="uint4")], ints(4, 6, fmt="uint4"))


@pytest.mark.parametrize(
    "op",
    [
        ops.Reshape(shape=(None, 13)),
        ops.Reshape(shape=(2, 6)),
        ops.Reshape(shape=(None, -3, -4)),
        ops.Reshape(shape=[None, 12]),
        ops.Reshape(shape=()),
        ops.Transpose(perm=(1, 0, 2)),
        ops.Transpose(perm=(0, 1, 1)),
        ops.Transpose(perm=(0, 1)),
        ops.Slice(starts=(0, 0, 0), ends=(3, 3, 4), steps=(1, 1, 1)),
        ops.Slice(starts=(0, 0, 0), ends=(None, 4, 4), steps=(1, 1, 1)),
        ops.Slice(starts=(0, 3, 0), ends=(None, 3, 4), steps=(1, 1, 1)),
        ops.Slice(starts=(0, 2, 0), ends=(None, 0, 4), steps=(1, -1, 1)),
        ops.Slice(starts=(0, 0, 0), ends=(None, 3, True), steps=(1, 1, 1)),
        ops.Concat(axis=0),
        ops.Pad(before=(1, 0, 0), after=(0, 0, 0)),
        ops.Pad(before=(0, 0), after=(0, 0, 0)),
        ops.Pad(before=(0, 0, -1), after=(0, 0, 0)),
        ops.Pad(before=(0, 0, 0), after=(0, 0, 0), value=float("inf")),
        ops.ResizeNearest(size=(2, 2)),
        ops.Argmax(axis=0),
    ],
)
def test_moves_refuse(op):
    with pytest.raises(GraphError):
        op.infer([floats(3, 4)])


def test_concat_refuses():
    op = ops.Concat(axis=2)
    for operands in ([floats(3, 4), floats(2, 4)], [floats(3, 4), floats(3)], [floats(3), floats(3)]):
        with pytest.raises(GraphError):
            op.infer(operands)
    out = ints(3, 8)
    op.check([ints(3, 4), ints(3, 4)], out)
    for other in (ints(3, 4, scale=0.25), ints(3, 4, zero=8), floats(3, 4)):
        with pytest.raises(GraphError):
            op.check([ints(3, 4), other], out)
    with pytest.raises(GraphError, match="keeps scale"):
        op.check([ints(3, 4), ints(3, 4)], ints(3, 8, fmt="uint7"))
