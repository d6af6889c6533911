"""Linear layers on rows with scales of their own: the operator against its formula in Python integers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.arithmetic.per_token import coded_rows, row_codes
from subbyte.errors import GraphError, LoweringError
from subbyte.graph import ops
from tests.graph.ops import naive
from tests.graph.ops.cases import Case, codes, epilogue, evaluate, ints, weights
from tests.limits import examples


@settings(max_examples=examples(100))
@given(st.lists(st.integers(-32768, 32767), min_size=1, max_size=9), st.integers(1, 255))
def test_codes_round_half_up_and_reach_both_ends(row: list[int], largest: int) -> None:
    q, low, spread = row_codes(np.array([row], np.int64), largest)
    a, d = min(row), max(row) - min(row)
    assert (low[0, 0], spread[0, 0]) == (a, d)
    for x, code, stands in zip(row, q[0].tolist(), coded_rows(np.array([row]), largest)[0].tolist(), strict=True):
        assert 0 <= code <= largest
        assert (2 * code - 1) * d <= 2 * (x - a) * largest < (2 * code + 1) * d or d == 0 == code
        assert stands == code * d + largest * a
        assert 2 * abs(stands - largest * x) <= d
        assert (code == largest) or x < max(row) or d == 0


def test_ties_go_up_and_rows_of_one_number_are_exact() -> None:
    q, low, spread = row_codes(np.array([[2, 1, 0, -1, -2], [7, 7, 7, 7, 7]]), 2)
    np.testing.assert_array_equal(q, [[2, 2, 1, 1, 0], [0, 0, 0, 0, 0]])
    np.testing.assert_array_equal(low, [[-2], [7]])
    np.testing.assert_array_equal(spread, [[4], [0]])
    np.testing.assert_array_equal(coded_rows(np.array([[7, 7]]), 2), [[14, 14]])


@pytest.mark.parametrize("largest", [0, 256])
def test_no_code_beyond_bytes(largest: int) -> None:
    with pytest.raises(LoweringError, match="largest code"):
        row_codes(np.ones((1, 2), np.int64), largest)


@settings(max_examples=examples(60))
@given(st.data())
def test_the_operator_is_its_definition(data):
    """Rows of any length, one of a single number; leaky rescale; shifts from none on."""

    def number(lo, hi):
        return data.draw(st.integers(lo, hi))

    k, outputs, seed, largest = number(1, 67), number(1, 9), number(0, 99), data.draw(st.sampled_from([1, 15, 255]))
    rng = np.random.default_rng(seed)
    x = ints(3, k, fmt="int16", zero=number(-9, 9)) if data.draw(st.booleans()) else ints(3, k, zero=number(0, 255))
    weight = weights(outputs, k, fmt=data.draw(st.sampled_from(["int8", "int4", "ternary", "levels17"])), seed=seed)
    bias, m, n = epilogue(outputs, n=number(31, 45))
    negative = [(m // 3).astype(np.int32), n] if data.draw(st.booleans()) else []
    out = ints(1, fmt="int16", zero=4)
    p = 15
    op = ops.IntLinearPerToken(lo=out.lo, hi=out.hi, largest=largest, pre_shift=p)
    q = codes(x, 2, rng, data.draw(st.sampled_from(["random", "extremes"])))
    q[0, 0] = x.zero_point
    y = evaluate(Case(op, [x, weight, bias, m, n, *negative], out), [q])
    for index in np.ndindex(2, 3, outputs):
        o, row = index[-1], [int(v) - x.zero_point for v in q[index[:2]]]
        a, d = min(row), max(row) - min(row)
        coded = [(2 * (v - a) * largest + d) // (2 * d) if d else 0 for v in row]
        total = sum((v * d + largest * a) * int(w) for v, w in zip(coded, weight.integers()[o], strict=True))
        acc = (total + 2 ** (p - 1) >> p) + int(bias[o])
        chosen = (int(negative[0][o]), int(n[o])) if negative and acc < 0 else (int(m[o]), int(n[o]))
        assert y[index] == naive.requantize(acc, *chosen, out.zero_point, out.lo, out.hi)


@pytest.mark.parametrize(
    "operands",
    [
        [ints(4), weights(2, 5), *epilogue(2)],
        [ints(5), weights(2, 5), *epilogue(3)],
        [ints(5), weights(2, 5, 1), *epilogue(2)],
        [ints(), weights(2, 5), *epilogue(2)],
    ],
)
def test_operands_that_do_not_fit_are_refused(operands):
    with pytest.raises(GraphError):
        ops.IntLinearPerToken(lo=0, hi=255, largest=255).infer(operands)
