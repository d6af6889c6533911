from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from subbyte.errors import GraphError, LoweringError, SubbyteError
from subbyte.formats import QTensor, get_format
from subbyte.graph import ops
from subbyte.graph.ir import IntType
from tests.graph.ops import naive
from tests.graph.ops.cases import Case, codes, epilogue, evaluate, floats, i32, ints, real, weights
from tests.limits import examples

FORMATS = ("int8", "int5", "int4", "int2", "ternary", "levels17", "midrise2")


# ---- float


@settings(max_examples=examples(300))
@given(data=st.data())
def test_float_conv_equals_torch_over_an_explicit_border(data):
    """Zeros written around x by hand, then torch's convolution without padding."""
    rank = data.draw(st.sampled_from([1, 2]))

    def draw(lo, hi, n=rank):
        return tuple(data.draw(st.integers(lo, hi)) for _ in range(n))

    groups, per_group, multiplier = draw(1, 3, 3)
    kernel, stride, dilation, padding = draw(1, 3), draw(1, 3), draw(1, 2), draw(0, 2, 2 * rank)
    spatial = draw(5, 8)
    layout = data.draw(st.sampled_from(["channels_first", "channels_last"]))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    x = rng.normal(size=(2, groups * per_group, *spatial)).astype(np.float32)
    w = rng.normal(size=(groups * multiplier, per_group, *kernel)).astype(np.float32)
    bias = rng.normal(size=groups * multiplier).astype(np.float32) if data.draw(st.booleans()) else None
    widths = [(0, 0), (0, 0), *zip(padding[:rank], padding[rank:], strict=True)]
    plain = functional.conv1d if rank == 1 else functional.conv2d
    optional = None if bias is None else torch.tensor(bias)
    expected = plain(torch.tensor(np.pad(x, widths)), torch.tensor(w), optional, stride, 0, dilation, groups).numpy()
    if layout == "channels_last":
        x, w, expected = (np.ascontiguousarray(np.moveaxis(a, 1, -1)) for a in (x, w, expected))
    op = ops.Conv(stride=stride, dilation=dilation, padding=padding, groups=groups, layout=layout)
    operands = [floats(*x.shape[1:]), w, *([] if bias is None else [bias])]
    y = op.torch(*(torch.tensor(a) for a in (x, *operands[1:]))).numpy()
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-5)
    shape = op.infer(operands)
    assert shape[1:] == y.shape[1:]
    assert op.macs(operands, shape) == y[0].size * w[0].size


def test_float_conv_applies_its_activation():
    op = ops.Conv(rectify=ops.Rectify(lo=0.0, hi=6.0))
    y = op.torch(torch.tensor([[[[-9.0, 3.0, 9.0]]]]), torch.ones((1, 1, 1, 1)))
    assert y.flatten().tolist() == [0.0, 3.0, 6.0]


@pytest.mark.parametrize(
    ("changes", "x", "w", "b"),
    [
        ({"groups": 3}, (4, 5, 5), (6, 2, 3, 3), None),
        ({"groups": 4}, (8, 5, 5), (6, 2, 3, 3), None),
        ({"groups": 0}, (4, 5, 5), (6, 4, 3, 3), None),
        ({}, (3, 5, 5), (6, 4, 3, 3), None),
        ({}, (4, 5, 5), (6, 4, 6, 3), None),
        ({}, (4, 5, 5), (6, 4, 3), None),
        ({}, (4, 5), (6, 4, 3), None),
        ({}, (4, 5, 5, 5), (6, 4, 3, 3), None),
        ({}, (4, 5, 5), (6, 4, 3, 3), 5),
        ({"stride": (1, 0)}, (4, 5, 5), (6, 4, 3, 3), None),
        ({"dilation": (1, 3)}, (4, 5, 5), (6, 4, 3, 3), None),
        ({"padding": (0, 0)}, (4, 5, 5), (6, 4, 3, 3), None),
        ({"padding": (0, 0, 0, -1)}, (4, 5, 5), (6, 4, 3, 3), None),
        ({"layout": "nchw"}, (4, 5, 5), (6, 4, 3, 3), None),
        ({"layout": "channels_last"}, (4, 5, 5), (6, 4, 3, 3), None),
        ({"rectify": ops.Rectify(lo=1.0, hi=0.0)}, (4, 5, 5), (6, 4, 3, 3), None),
        ({"rectify": "relu"}, (4, 5, 5), (6, 4, 3, 3), None),
    ],
)
def test_float_conv_refuses(changes, x, w, b):
    operands = [floats(*x), real(*w), *([] if b is None else [real(b)])]
    with pytest.raises(GraphError):
        ops.Conv(**changes).infer(operands)


def test_float_conv_refuses_float64_weights():
    with pytest.raises(GraphError, match="float32"):
        ops.Conv().infer([floats(4, 5, 5), real(6, 4, 3, 3).astype(np.float64)])


# ---- integer


@st.composite
def integer_cases(draw) -> tuple[Case, list[np.ndarray]]:
    """Small convolutions with every attribute drawn, and input codes."""

    def number(lo, hi):
        return draw(st.integers(lo, hi))

    rng = np.random.default_rng(number(0, 2**32))
    depthwise = draw(st.booleans())
    groups, per_group, per_out = (number(1, 5), 1, number(1, 2)) if depthwise else (number(1, 2), number(1, 7), 2)
    outputs = groups * per_out
    fmt, zero = draw(st.sampled_from([("uint8", 0), ("uint8", 131), ("uint4", 9), ("int16", 0), ("int16", -300)]))
    x = ints(number(3, 6), number(3, 6), groups * per_group, fmt=fmt, zero=zero)
    weight = weights(outputs, number(1, 3), number(1, 3), per_group, fmt=draw(st.sampled_from(FORMATS)))
    weight = dataclasses.replace(weight, codes=rng.integers(0, weight.format.levels, weight.shape, dtype=np.uint8))
    bias = rng.integers(-(2**20), 2**20, outputs, dtype=np.int32)
    pairs = []
    for _ in range(draw(st.sampled_from([1, 2]))):
        low, high = draw(st.sampled_from([(2**30, 2**31), (2**14, 2**15), (1, 2), (-(2**31), 2**31)]))
        pairs.append(rng.integers(low, high, outputs).astype(np.int32))
        pairs.append(rng.integers(1, 63, outputs).astype(np.int32) if draw(st.booleans()) else i32(*[40] * outputs))
    wide = draw(st.booleans())
    out = ints(1, fmt="int16", zero=number(-500, 500)) if wide else ints(1, zero=number(0, 255))
    lo = number(out.lo, out.hi)
    op = ops.IntConv(
        stride=(number(1, 3), number(1, 3)),
        dilation=(number(1, 2), number(1, 2)),
        padding=tuple(number(0, 3) for _ in range(4)),
        groups=groups,
        lo=lo,
        hi=number(lo, out.hi) if draw(st.booleans()) else out.hi,
    )
    case = Case(op, [x, weight, bias, *pairs], out)
    try:
        op.check(case.operands, IntType(shape=op.infer(case.operands), format=out.format, scale=1.0, zero_point=0))
    except GraphError:
        assume(False)
    return case, [codes(x, number(1, 2), rng, draw(st.sampled_from(["random", "extremes", "lo", "hi"])))]


@settings(max_examples=examples(400))
@given(integer_cases())
def test_integer_conv_is_its_definition(drawn):
    case, (x,) = drawn
    y = evaluate(case, [x])
    kind, weight, *parameters = case.operands
    expected = naive.conv(x, case.op, weight.integers(), parameters, (kind.zero_point, case.out.zero_point))
    np.testing.assert_array_equal(y, expected)


@pytest.mark.parametrize("fill", [(0, 127), (0, -128), (255, 127), (255, -128)])
def test_worst_case_codes_and_long_sums(fill):
    """16-bit activations and 8-bit weights at their extremes, sums just below 2**31."""
    code, w = fill
    form = get_format("int8")
    k = 510
    weight = QTensor(
        codes=np.full((1, 1, 1, k), w + 128, np.uint8),
        format=form,
        scale=np.float32(1).reshape(()),
        zero_point=np.zeros((), np.int32),
    )
    x = ints(1, 1, k, fmt="int16", zero=0)
    operands = [x, weight, i32(0), i32(2**30), i32(46)]
    op = ops.IntConv(stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=1, lo=-32768, hi=32767)
    case = Case(op, operands, ints(1, fmt="int16", zero=0))
    value = x.lo if code == 0 else x.hi
    y = evaluate(case, [np.full((1, 1, 1, k), value, np.int16)])
    acc = value * w * k
    assert abs(acc) > 2**30
    assert y.item() == (acc + 2**15) >> 16


def test_accumulator_proof_is_made_from_the_weights():
    weight = weights(1, 1, 1, 520)
    heavy = dataclasses.replace(weight, codes=np.zeros_like(weight.codes))  # all -128
    light = dataclasses.replace(weight, codes=np.full_like(weight.codes, 129))  # all 1
    x = ints(1, 1, 520, fmt="int16", zero=0)
    op = ops.IntConv(stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=1, lo=0, hi=255)
    out = ints(1, 1, 1)
    op.check([x, light, *epilogue(1)], out)
    with pytest.raises(LoweringError, match="channel 0 can reach") as caught:
        op.check([x, heavy, *epilogue(1)], out)
    assert "int_conv" in caught.value.place


GOOD: list[Any] = [ints(5, 6, 4), weights(6, 3, 2, 2), *epilogue(6)]


@pytest.mark.parametrize(
    "operands",
    [
        [ints(5, 6, 3), *GOOD[1:]],
        [ints(6, 4), *GOOD[1:]],
        [floats(5, 6, 4), *GOOD[1:]],
        [GOOD[0], weights(5, 3, 2, 2), *epilogue(5)],
        [GOOD[0], weights(6, 3, 2), *GOOD[2:]],
        [GOOD[0], np.zeros((6, 3, 2, 2), np.int8), *GOOD[2:]],
        [*GOOD[:2], GOOD[2].astype(np.int64), *GOOD[3:]],
        [*GOOD[:2], GOOD[2][:5], *GOOD[3:]],
        [*GOOD[:4], i32(1, 1, 1, 1, 1, 63)],
        [*GOOD[:4], i32(1, 1, 1, 1, 1, 0)],
        [*GOOD, *GOOD[3:4]],
        [*GOOD, GOOD[3], i32(1, 1, 1, 1, 1, -1)],
        [*GOOD[:3], GOOD[3].reshape(6, 1), GOOD[4]],
        [ints(5, 6, 4, zero=256), *GOOD[1:]],
        [ints(5, 6, 4, zero=-1), *GOOD[1:]],
        [GOOD[0], weights(6, 3, 2, 2, fmt="fp8_e5m2"), *GOOD[2:]],
        [GOOD[0], dataclasses.replace(GOOD[1], zero_point=np.full(6, 2**31 - 1, np.int32)), *GOOD[2:]],
    ],
)
def test_integer_conv_refuses(operands):
    op = ops.IntConv(stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=2, lo=0, hi=255)
    op.infer(GOOD)
    with pytest.raises(SubbyteError) as caught:
        op.infer(operands)
    assert isinstance(caught.value, GraphError)


def test_large_batches_are_cut_into_parts(monkeypatch):
    """The reference holds a bounded number of padded inputs; parts of one sample give the same numbers."""
    case = Case(
        ops.IntConv(stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=2, lo=0, hi=255), GOOD, ints(1)
    )
    x = codes(GOOD[0], 5, np.random.default_rng(0))
    whole = evaluate(case, [x])
    monkeypatch.setattr("subbyte.graph.ops.conv._CHUNK", 1)
    np.testing.assert_array_equal(evaluate(case, [x]), whole)


def test_leaky_multipliers_belong_to_negative_accumulators():
    """Accumulators -2..2 from weight 1: below zero, and only there, the second pair applies."""
    weight = QTensor(
        codes=np.full((1, 1, 1, 1), 129, np.uint8),
        format=get_format("int8"),
        scale=np.ones((1,), np.float32),
        zero_point=np.zeros((1,), np.int32),
    )
    op = ops.IntConv(stride=(1, 1), dilation=(1, 1), padding=(0, 0, 0, 0), groups=1, lo=-999, hi=999)
    operands = [ints(1, 5, 1, zero=2), weight, i32(0), i32(8), i32(3), i32(80), i32(4)]
    y = evaluate(Case(op, operands, ints(1, fmt="int16", zero=0)), [np.arange(5, dtype=np.uint8).reshape(1, 1, 5, 1)])
    assert y.ravel().tolist() == [-10, -5, 0, 1, 2]
