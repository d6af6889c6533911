from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from subbyte.errors import GraphError, LoweringError, SubbyteError
from subbyte.graph import ops
from subbyte.graph.ops.avg_pool import divisors
from subbyte.graph.ops.geometry import Axis
from tests.graph.ops import naive
from tests.graph.ops.cases import Case, codes, evaluate, floats, i32, ints, real
from tests.limits import examples


@st.composite
def windows(draw, rank: int = 2, dilated: bool = False):
    """Attributes of a pool."""

    def many(lo, hi, n=rank):
        return tuple(draw(st.integers(lo, hi)) for _ in range(n))

    window = {"kernel": many(1, 4), "stride": many(1, 4), "padding": many(0, 2, 2 * rank)}
    window["ceil_mode"] = draw(st.booleans())
    return window | ({"dilation": many(1, 2)} if dilated else {})


@settings(max_examples=examples(500))
@given(
    st.integers(1, 12), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3), st.tuples(*[st.integers(0, 3)] * 2),
    st.booleans(),
)  # fmt: skip
def test_axis_counts_windows_and_cells_one_by_one(size, kernel, stride, dilation, padding, ceil_mode):
    before, after = padding
    axis = Axis(
        size=size, kernel=kernel, stride=stride, dilation=dilation, before=before, after=after, ceil_mode=ceil_mode
    )
    assume(axis.out >= 1)
    starts = naive.sizes(size, kernel, stride, dilation, before, after, ceil_mode)
    assert axis.starts().tolist() == starts
    cells = [[s + i * dilation for i in range(kernel)] for s in starts]
    assert axis.inside().tolist() == [sum(0 <= c < size for c in window) for window in cells]
    if dilation == 1:
        assert axis.padded().tolist() == [sum(-before <= c < size + after for c in window) for window in cells]
    front, behind = axis.reach
    extended = np.arange(-front, size + behind)
    for i in range(kernel):
        assert extended[axis.tap(i)].tolist() == [window[i] for window in cells]


@settings(max_examples=examples(300))
@given(st.data())
def test_float_pools_equal_torch_where_torch_has_them(data):
    """Symmetric padding of at most half the kernel, which torch.nn accepts."""
    rank = data.draw(st.sampled_from([1, 2]))
    window = data.draw(windows(rank))
    half = tuple(min(p, k // 2) for p, k in zip(window["padding"][:rank], window["kernel"], strict=True))
    window["padding"] = half + half
    include = data.draw(st.booleans())
    layout = data.draw(st.sampled_from(["channels_first", "channels_last"]))
    spatial = tuple(data.draw(st.integers(4, 9)) for _ in range(rank))
    x = torch.randn((2, 3, *spatial), generator=torch.Generator().manual_seed(data.draw(st.integers(0, 99))))
    k, s, ceil = window["kernel"], window["stride"], window["ceil_mode"]
    pools = (
        (functional.avg_pool1d, functional.max_pool1d) if rank == 1 else (functional.avg_pool2d, functional.max_pool2d)
    )
    expected = [pools[0](x, k, s, half, ceil, include), pools[1](x, k, s, half, 1, ceil)]
    mine = [
        ops.AvgPool(**window, count_include_pad=include, layout=layout),
        ops.MaxPool(**window, dilation=(1,) * rank, layout=layout),
    ]
    given_x = x if layout == "channels_first" else x.movedim(1, -1)
    for op, wanted in zip(mine, expected, strict=True):
        y = op.torch(given_x)
        assert op.infer([floats(*given_x.shape[1:])])[1:] == tuple(y.shape[1:])
        torch.testing.assert_close(y if layout == "channels_first" else y.movedim(-1, 1), wanted)


@settings(max_examples=examples(300))
@given(windows(), st.booleans(), st.integers(0, 99))
def test_pools_with_any_padding_are_their_definition(window, include, seed):
    """Asymmetric padding, which torch.nn lacks: float against the naive integer definition, and integer against it."""
    rng = np.random.default_rng(seed)
    x = ints(int(rng.integers(1, 7)), int(rng.integers(1, 7)), 2, zero=int(rng.integers(0, 256)))
    average = ops.AvgPool(**window, count_include_pad=include, layout="channels_last")
    try:
        average.infer([floats(*x.shape[1:])])
    except GraphError:
        assume(False)
    found = divisors(average, x.shape)
    pairs = {d: (round(2**30 / d * 1.9), 30) for d in found}
    op = ops.IntAvgPool(**window, count_include_pad=include, lo=3, hi=250)
    case = Case(
        op, [x, i32(*found), i32(*(pairs[d][0] for d in found)), i32(*(pairs[d][1] for d in found))], ints(1, zero=99)
    )
    q = codes(x, 2, rng, ["random", "extremes"][seed % 2])
    expected = naive.avg_pool(q, x.zero_point, op, pairs, 99)
    np.testing.assert_array_equal(evaluate(case, [q]), expected)
    exact = average.torch(torch.tensor(q.astype(np.float32) - x.zero_point)).numpy()
    np.testing.assert_allclose(np.clip(np.rint(exact * 1.9) + 99, 3, 250), expected, atol=1)


@settings(max_examples=examples(300))
@given(windows(dilated=True), st.integers(0, 99), st.sampled_from(["channels_first", "channels_last"]))
def test_max_pool_never_sees_its_padding(window, seed, layout):
    rng = np.random.default_rng(seed)
    x = ints(int(rng.integers(1, 7)), int(rng.integers(1, 7)), 2, fmt="int16", zero=5)
    op = ops.MaxPool(**window, layout="channels_last")
    try:
        op.infer([x])
    except GraphError:
        assume(False)
    q = codes(x, 2, rng) // 2 - 16000  # far below zero, so that a zero in the padding would win
    sides = [window["kernel"], window["stride"], window["dilation"], window["padding"][:2], window["padding"][2:]]
    rows, columns = (
        naive.sizes(x.shape[1 + i] or 0, *(side[i] for side in sides), ceil_mode=window["ceil_mode"]) for i in (0, 1)
    )
    expected = np.zeros((2, len(rows), len(columns), 2), np.int16)
    for r, c in np.ndindex(len(rows), len(columns)):
        taps = [
            q[:, p, s]
            for p in (rows[r] + i * window["dilation"][0] for i in range(window["kernel"][0]))
            for s in (columns[c] + j * window["dilation"][1] for j in range(window["kernel"][1]))
            if 0 <= p < q.shape[1] and 0 <= s < q.shape[2]
        ]
        expected[:, r, c] = np.max(taps, axis=0)
    op = dataclasses.replace(op, layout=layout)
    if layout == "channels_first":
        q, expected = np.moveaxis(q, -1, 1), np.moveaxis(expected, -1, 1)
        x = ints(*q.shape[1:], fmt="int16", zero=5)
    np.testing.assert_array_equal(evaluate(Case(op, [x], ints(1, fmt="int16", zero=5)), [q]), expected)
    np.testing.assert_array_equal(op.torch(torch.tensor(q.astype(np.float32))).numpy(), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {"kernel": (6, 1)},
        {"kernel": (0, 1)},
        {"kernel": (2,)},
        {"kernel": (2.0, 2)},
        {"stride": (1, 0)},
        {"padding": (2, 0, 0, 0)},  # the first window would see padding alone
        {"padding": (0, 0, 2, 0)},
        {"ceil_mode": 1},
        {"layout": "nhwc"},
    ],
)
def test_pools_refuse(changes):
    good = {"kernel": (2, 2), "stride": (1, 1)}
    for cls in (ops.MaxPool, ops.AvgPool):
        cls(**good).infer([floats(2, 5, 5)])
        with pytest.raises(GraphError):
            cls(**good | changes).infer([floats(2, 5, 5)])
        with pytest.raises(GraphError, match="rank"):
            cls(**good).infer([floats(2, 5, 5, 5)])


def test_sizes_of_windows_are_bounded():
    """Windows and paddings that no machine could run are refused before anything is allocated."""
    huge = {"kernel": (65535, 65535), "stride": (1, 1), "padding": (65534, 65534, 65534, 65534)}
    for cls in (ops.MaxPool, ops.AvgPool):
        with pytest.raises(GraphError, match="at most"):
            cls(**huge).infer([floats(1, 1, 1)])
    with pytest.raises(GraphError, match="at most"):
        ops.Conv(padding=(65535, 65535, 65535, 65535)).infer([floats(1, 1, 1), real(1, 1, 1, 1)])


def test_dilated_max_pool_may_straddle_but_not_miss():
    op = ops.MaxPool(kernel=(2, 1), stride=(1, 1), dilation=(2, 1), padding=(1, 0, 1, 0))
    with pytest.raises(GraphError, match="padding only"):
        op.infer([floats(1, 1, 1)])
    assert op.infer([floats(1, 2, 1)]) == (None, 1, 2, 1)


@pytest.mark.parametrize("divisors_", [(1, 2, 3, 4), (2, 1, 4), (1, 2, 2, 4), (1, 2, 3), (0, 2, 4)])
def test_divisors_ascend_and_are_complete(divisors_):
    op = ops.IntAvgPool(
        kernel=(2, 2), stride=(1, 1), padding=(1, 1, 0, 0), ceil_mode=False, count_include_pad=False, lo=0, hi=255
    )
    parameters = [i32(*[5] * len(divisors_))] * 2
    if divisors_ == (1, 2, 3, 4):
        op.infer([ints(3, 3, 1), i32(*divisors_), *parameters])
    else:
        with pytest.raises(GraphError, match="divisors"):
            op.infer([ints(3, 3, 1), i32(*divisors_), *parameters])


def test_sums_are_proved():
    pool = ops.IntAvgPool(
        kernel=(300, 300), stride=(1, 1), padding=(0, 0, 0, 0), ceil_mode=False, count_include_pad=False, lo=0, hi=9
    )
    wide = ints(300, 300, 1, fmt="int16", zero=0)
    with pytest.raises(LoweringError, match="sum of 90000 activations"):
        pool.check([wide, i32(90000), i32(1), i32(1)], ints(1, 1, 1))
    mean = ops.IntMean(axes=(1, 2), keepdims=True, m=1, n=1, lo=0, hi=9)
    with pytest.raises(LoweringError, match="sum of 90000 activations"):
        mean.check([wide], ints(1, 1, 1))
    mean.check([ints(300, 300, 1)], ints(1, 1, 1))
    mean.check([ints(3000, 4000, 1, zero=128)], ints(1, 1, 1))  # the zero point halves the largest sum
    with pytest.raises(LoweringError, match="sum of 12000000"):
        mean.check([ints(3000, 4000, 1, zero=0)], ints(1, 1, 1))


@settings(max_examples=examples(100))
@given(st.data())
def test_means(data):
    shape = tuple(data.draw(st.integers(1, 5)) for _ in range(3))
    axes = tuple(sorted(data.draw(st.sets(st.integers(1, 3), min_size=1))))
    keepdims = data.draw(st.booleans())
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    float_op = ops.Mean(axes=axes, keepdims=keepdims)
    x = torch.tensor(rng.normal(size=(2, *shape)).astype(np.float32))
    torch.testing.assert_close(float_op.torch(x), torch.mean(x, axes, keepdim=keepdims))
    assert float_op.infer([floats(*shape)])[1:] == tuple(float_op.torch(x).shape[1:])
    kind = ints(*shape, zero=data.draw(st.integers(0, 255)))
    m, n = data.draw(st.integers(-(2**31), 2**31 - 1)), data.draw(st.integers(1, 62))
    op = ops.IntMean(axes=axes, keepdims=keepdims, m=m, n=n, lo=-30000, hi=30000)
    q = codes(kind, 2, rng, "extremes")
    y = evaluate(Case(op, [kind], ints(1, fmt="int16", zero=-3)), [q])
    sums = (q.astype(object) - kind.zero_point).sum(axis=axes)
    expected = [naive.requantize(acc, m, n, -3, -30000, 30000) for acc in np.ravel(sums)]
    assert np.ravel(y).tolist() == expected


@pytest.mark.parametrize("axes", [(), (0,), (3,), (1, 1), (2, 1), (-1,), [1], (True,), 1])
def test_means_refuse(axes):
    with pytest.raises(SubbyteError, match="ascending"):
        ops.Mean(axes=axes).infer([floats(3, 4)])
