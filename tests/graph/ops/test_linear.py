from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from subbyte.errors import GraphError
from subbyte.graph import ops
from tests.graph.ops import naive
from tests.graph.ops.cases import Case, codes, epilogue, evaluate, floats, ints, real, weights
from tests.limits import examples


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)])
def test_float_linear_equals_torch(shape):
    w, b = real(4, 5), real(4)
    x = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0))
    op = ops.Linear(rectify=ops.Rectify(lo=0.0))
    expected = functional.linear(x, torch.tensor(w), torch.tensor(b)).relu()
    torch.testing.assert_close(op.torch(x, torch.tensor(w), torch.tensor(b)), expected)
    out = op.infer([floats(*shape), w, b])
    assert out == (None, *shape[:-1], 4)
    assert op.macs([floats(*shape), w, b], out) == np.prod(shape) * 4


@settings(max_examples=examples(200))
@given(st.data())
def test_integer_linear_is_its_definition(data):
    """Any length K, so that vector kernels' tails are all met; leaky rescale; 16-bit results."""

    def number(lo, hi):
        return data.draw(st.integers(lo, hi))

    k, outputs, seed = number(1, 67), number(1, 9), number(0, 99)
    rng = np.random.default_rng(seed)
    x = ints(2, k, zero=number(0, 255))
    weight = weights(outputs, k, fmt=data.draw(st.sampled_from(["int8", "int4", "ternary", "levels17"])), seed=seed)
    bias, m, n = epilogue(outputs, n=number(31, 45))
    negative = [(m // 3).astype(np.int32), n] if data.draw(st.booleans()) else []
    wide = data.draw(st.booleans())
    out = ints(1, fmt="int16", zero=4) if wide else ints(1, zero=128)
    op = ops.IntLinear(lo=out.lo, hi=out.hi)
    q = codes(x, 2, rng, data.draw(st.sampled_from(["random", "extremes"])))
    y = evaluate(Case(op, [x, weight, bias, m, n, *negative], out), [q])
    for index in np.ndindex(2, 2, outputs):
        o = index[-1]
        products = [(int(v) - x.zero_point) * int(w) for v, w in zip(q[index[:2]], weight.integers()[o], strict=True)]
        acc = sum(products) + int(bias[o])
        chosen = (int(negative[0][o]), int(n[o])) if negative and acc < 0 else (int(m[o]), int(n[o]))
        assert y[index] == naive.requantize(acc, *chosen, out.zero_point, out.lo, out.hi)


@pytest.mark.parametrize(
    "operands",
    [
        [floats(4), real(2, 5)],
        [floats(5), real(5)],
        [floats(), real(2, 5)],
        [floats(5), real(2, 5), real(3)],
        [floats(5), floats(2, 5)],
    ],
)
def test_float_linear_refuses(operands):
    with pytest.raises(GraphError):
        ops.Linear().infer(operands)


@pytest.mark.parametrize(
    "operands",
    [
        [ints(4), weights(2, 5), *epilogue(2)],
        [ints(5), weights(2, 5), *epilogue(3)],
        [ints(5), weights(2, 5, 1), *epilogue(2)],
        [ints(), weights(2, 5), *epilogue(2)],
    ],
)
def test_integer_linear_refuses(operands):
    with pytest.raises(GraphError):
        ops.IntLinear(lo=0, hi=255).infer(operands)
