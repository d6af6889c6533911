from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from subbyte.errors import GraphError, LoweringError
from subbyte.graph import ops
from subbyte.graph.ops.unary import FUNCTIONS
from tests.graph.ops import naive
from tests.graph.ops.cases import Case, codes, evaluate, floats, i32, ints, real
from tests.limits import examples

X = torch.linspace(-8, 8, 4001)
M = st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([-(2**31), 2**31 - 1, 2**30, 0, 1]))
SHIFTS = st.integers(1, 62)
STYLES = st.sampled_from(["random", "extremes", "lo", "hi"])
KINDS = st.sampled_from([("uint8", 0), ("uint8", 255), ("uint5", 11), ("int16", 0), ("int16", -32768), ("int16", 999)])


def kind_of(drawn, *shape):
    fmt, zero = drawn
    return ints(*shape, fmt=fmt, zero=zero)


# ---- float


@pytest.mark.parametrize(
    ("op", "plain"),
    [
        (ops.Rectify(lo=0.0), functional.relu),
        (ops.Rectify(lo=0.0, hi=6.0), functional.relu6),
        (ops.Rectify(lo=-1.0, hi=1.0), functional.hardtanh),
        (ops.Rectify(hi=2.5), lambda x: x.clamp(max=2.5)),
        (ops.Rectify(slope=0.1), lambda x: functional.leaky_relu(x, 0.1)),
        (ops.Rectify(slope=0.0), functional.relu),
        (ops.Rectify(slope=-1.0, lo=-3.0, hi=3.0), lambda x: x.abs().clamp(-3, 3)),
        (ops.Rectify(), lambda x: x),
        (ops.Unary(function="sigmoid"), torch.sigmoid),
        (ops.Unary(function="tanh"), torch.tanh),
        (ops.Unary(function="exp"), torch.exp),
        (ops.Unary(function="silu"), functional.silu),
        (ops.Unary(function="gelu"), functional.gelu),
        (ops.Unary(function="gelu_tanh"), lambda x: functional.gelu(x, approximate="tanh")),
        (ops.Unary(function="hard_swish"), functional.hardswish),
        (ops.Unary(function="hard_sigmoid", params=(1 / 6, 0.5)), functional.hardsigmoid),
    ],
)
def test_functions_of_one_number(op, plain):
    torch.testing.assert_close(op.torch(X), plain(X))
    if isinstance(op, ops.Unary):
        reals = op.reals(X.double().numpy())
        np.testing.assert_allclose(reals, plain(X.double()).numpy(), rtol=1e-12, atol=1e-14)


def test_reals_stay_finite_far_out():
    far = np.array([-1e4, -800.0, 800.0, 1e4])
    for name in set(FUNCTIONS) - {"exp"}:
        params = (0.2, 0.5) if name == "hard_sigmoid" else ()
        assert np.isfinite(ops.Unary(function=name, params=params).reals(far)).all()


@pytest.mark.parametrize(
    "op",
    [
        ops.Unary(function="relu"),
        ops.Unary(function="sigmoid", params=(1.0,)),
        ops.Unary(function="hard_sigmoid"),
        ops.Unary(function="hard_sigmoid", params=(math.nan, 0.5)),
        ops.Rectify(slope=math.inf),
        ops.Rectify(lo=math.nan),
        ops.Rectify(lo=1.0, hi=0.5),
        ops.Rectify(lo="0"),
    ],
)
def test_functions_refuse(op):
    with pytest.raises(GraphError):
        op.infer([floats(3)])


@pytest.mark.parametrize(("cls", "plain"), [(ops.Add, np.add), (ops.Sub, np.subtract), (ops.Mul, np.multiply)])
def test_two_operands(cls, plain):
    rng = np.random.default_rng(0)
    value = rng.normal(size=(2, 3, 1, 4)).astype(np.float32)
    other = rng.normal(size=(2, 1, 5, 4)).astype(np.float32)
    constant = rng.normal(size=(5, 1)).astype(np.float32)
    for a, b in [(value, other), (value, constant), (constant, value)]:
        op = cls(rectify=ops.Rectify(lo=-0.25))
        expected = np.maximum(plain(a, b), -0.25)
        np.testing.assert_allclose(op.torch(torch.tensor(a), torch.tensor(b)).numpy(), expected, rtol=1e-6)
        operands = [x if x is constant else floats(*x.shape[1:]) for x in (a, b)]
        assert op.infer(operands)[1:] == expected.shape[1:]


@pytest.mark.parametrize(
    "operands",
    [
        [floats(3, 4), floats(4)],
        [floats(3, 4), floats(3, 5)],
        [floats(4), real(1, 4)],  # a constant has no batch axis
        [real(4), real(4)],
        [floats(3, 4), real(3)],
        [floats(3, 4), real(4).astype(np.float64)],
        [floats(3, 4), ints(3, 4)],
    ],
)
def test_two_operands_refuse(operands):
    for cls in (ops.Add, ops.Sub, ops.Mul):
        with pytest.raises(GraphError):
            cls().infer(operands)


def test_normalisation_equals_torch():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((4, 3, 5), generator=generator)
    gamma, beta, mean, var = (torch.rand(3, generator=generator) + 0.1 for _ in range(4))
    expected = functional.batch_norm(x, mean, var, gamma, beta, eps=1e-3)
    torch.testing.assert_close(ops.BatchNorm(axis=1, epsilon=1e-3).torch(x, gamma, beta, mean, var), expected)
    last = ops.BatchNorm(axis=2, epsilon=1e-3).torch(x.movedim(1, 2), gamma, beta, mean, var)
    torch.testing.assert_close(last.movedim(2, 1), expected)
    affine = ops.Affine(axis=1, rectify=ops.Rectify(lo=0.0)).torch(x, gamma, beta)
    torch.testing.assert_close(affine, (x * gamma[:, None] + beta[:, None]).relu())


@pytest.mark.parametrize("changes", [{"axis": 0}, {"axis": 3}, {"epsilon": -1e-5}, {"epsilon": math.nan}, {"axis": 2}])
def test_normalisation_refuses(changes):
    with pytest.raises(GraphError):
        ops.BatchNorm(**changes).infer([floats(3, 4), *(real(3) for _ in range(4))])


# ---- integer


@settings(max_examples=examples(300))
@given(KINDS, KINDS, M, M, SHIFTS, STYLES, st.integers(0, 99))
def test_integer_add_is_its_definition(first, second, m0, m1, n, style, seed):
    rng = np.random.default_rng(seed)
    a, b = kind_of(first, 3, 4), kind_of(second, 1, 4)
    x, y = codes(a, 2, rng, style), codes(b, 2, rng, style)
    op = ops.IntAdd(n=n, lo=-30000, hi=31000)
    result = evaluate(Case(op, [a, b, i32(m0, m1)], ints(1, fmt="int16", zero=-77)), [x, y])
    sums = (x.astype(object) - a.zero_point) * m0 + (y.astype(object) - b.zero_point) * m1
    assert result.ravel().tolist() == [naive.requantize(s, 1, n, -77, -30000, 31000) for s in sums.ravel()]


@settings(max_examples=examples(100))
@given(KINDS, M, M, SHIFTS, STYLES)
def test_integer_add_of_an_extreme_constant_stays_in_int64(first, m0, m1, n, style):
    a = kind_of(first, 2, 2)
    constant = i32(-(2**31), 2**31 - 1)
    x = codes(a, 1, np.random.default_rng(0), style)
    result = evaluate(Case(ops.IntAdd(n=n, lo=0, hi=255), [a, constant, i32(m0, m1)], ints(1, zero=9)), [x])
    sums = (x.astype(object) - a.zero_point) * m0 + constant.astype(object) * m1
    assert result.ravel().tolist() == [naive.requantize(s, 1, n, 9, 0, 255) for s in sums.ravel()]


@settings(max_examples=examples(200))
@given(KINDS, st.booleans(), M, SHIFTS, STYLES, st.integers(0, 99))
def test_integer_mul_is_its_definition(first, constant, m, n, style, seed):
    rng = np.random.default_rng(seed)
    a = kind_of(first, 3, 4)
    b = rng.integers(-32767, 32767, (3, 1)).astype(np.int32) if constant else ints(3, 1, zero=int(rng.integers(256)))
    x = codes(a, 2, rng, style)
    inputs = [x] if constant else [x, codes(b, 2, rng, style)]
    op = ops.IntMul(m=m, n=n, lo=-30000, hi=31000)
    case = Case(op, [a, b], ints(1, fmt="int16", zero=55))
    largest = max(abs(a.lo - a.zero_point), abs(a.hi - a.zero_point)) * (
        int(np.abs(b).max()) if constant else max(b.zero_point, 255 - b.zero_point)
    )
    if largest > 2**31 - 1:
        with pytest.raises(LoweringError, match="product"):
            evaluate(case, inputs)
        return
    second = b.astype(object) if constant else inputs[1].astype(object) - b.zero_point
    products = (x.astype(object) - a.zero_point) * second
    expected = [naive.requantize(p, m, n, 55, -30000, 31000) for p in products.ravel()]
    assert evaluate(case, inputs).ravel().tolist() == expected


@settings(max_examples=examples(200))
@given(KINDS, M, SHIFTS, STYLES, st.booleans())
def test_rescale_is_its_definition(first, m, n, style, wide):
    kind = kind_of(first, 11)
    x = codes(kind, 2, np.random.default_rng(0), style)
    out = ints(1, fmt="int16", zero=-3) if wide else ints(1, zero=200)
    op = ops.IntRescale(m=m, n=n, lo=1, hi=254)
    expected = [naive.requantize(int(q) - kind.zero_point, m, n, out.zero_point, 1, 254) for q in x.ravel()]
    assert evaluate(Case(op, [kind], out), [x]).ravel().tolist() == expected


@pytest.mark.parametrize("fmt", ["uint8", "int16"])
def test_lookup(fmt):
    dtype = np.uint8 if fmt == "uint8" else np.int16
    table = (np.arange(256) * 37 % 251 - (0 if fmt == "uint8" else 125)).astype(dtype)
    x = np.arange(256, dtype=np.uint8).reshape(2, 128)
    y = evaluate(Case(ops.IntLut(), [ints(128), table], ints(1, fmt=fmt, zero=0)), [x])
    assert y.ravel().tolist() == table.tolist()


def test_lookup_refuses():
    byte = np.zeros(256, np.uint8)
    for operands in ([ints(3, fmt="int16"), byte], [ints(3), byte[:255]], [ints(3), byte.astype(np.int32)]):
        with pytest.raises(GraphError):
            ops.IntLut().infer(operands)
    with pytest.raises(GraphError, match="entries"):
        ops.IntLut().check([ints(3), byte], ints(3, fmt="int16"))
    with pytest.raises(GraphError, match="entries"):
        ops.IntLut().check([ints(3), byte + np.uint8(16)], ints(3, fmt="uint4"))
    beyond = np.where(np.arange(256) < 16, 0, 99).astype(np.uint8)  # entries that 4-bit operands never reach
    ops.IntLut().check([ints(3, fmt="uint4"), beyond], ints(3, fmt="uint4"))
    for edge in (0, 15):
        reached = np.where(np.arange(256) == edge, 16, 0).astype(np.uint8)
        with pytest.raises(GraphError, match="entries"):
            ops.IntLut().check([ints(3, fmt="uint4"), reached], ints(3, fmt="uint4"))


@pytest.mark.parametrize("second", [ints(3, fmt="int16", zero=32767), i32(32769)])
def test_products_are_proved(second):
    """65535 * 32767 fits int32, a little more does not."""
    op, wide, out = ops.IntMul(m=1, n=1, lo=0, hi=1), ints(3, fmt="int16", zero=-32768), ints(3)
    op.check([wide, i32(32767)], out)
    with pytest.raises(LoweringError, match="product"):
        op.check([wide, second], out)
