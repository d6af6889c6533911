from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from subbyte.arithmetic import requant
from subbyte.graph.ops import exact
from tests.graph.ops import naive

EDGE = [0, 1, -1, 2, -2, 3, -3, 2**30, -(2**30), 2**31 - 1, -(2**31 - 1), -(2**31)]
MULTIPLIERS = [0, 1, -1, 2**14, 2**15 - 1, 2**30, 2**31 - 1, -(2**31 - 1), -(2**31)]


@pytest.mark.parametrize("n", range(1, 63))
def test_requantize_on_the_edges(n):
    """NumPy, torch and exact fractions: extreme accumulators and multipliers, every shift, all ties near zero."""
    ties = [2 ** (n - 1) * k + d for k in range(-3, 4) for d in (-1, 0, 1)]
    accumulators = EDGE + [t for t in ties if abs(t) <= 2**31]
    acc, m = (np.array(v, np.int64) for v in zip(*itertools.product(accumulators, MULTIPLIERS), strict=True))
    lo, hi = -(2**62), 2**62
    expected = [naive.requantize(int(a), int(b), n, 5, lo, hi) for a, b in zip(acc, m, strict=True)]
    assert requant.requantize(acc, m, n, 5, lo, hi).tolist() == expected
    assert exact.requantize(torch.tensor(acc), torch.tensor(m), n, 5, lo, hi).tolist() == expected
    shifts = torch.full((len(acc),), n)
    assert exact.requantize(torch.tensor(acc), torch.tensor(m), shifts, 5, lo, hi).tolist() == expected
    clipped = [min(max(v, -7), 200) for v in expected]
    assert exact.requantize(torch.tensor(acc), torch.tensor(m), n, 5, -7, 200).tolist() == clipped


def test_halves_round_up():
    acc = np.array([-3, -2, -1, 0, 1, 2, 3])
    assert requant.round_shift(acc, 1).tolist() == [-1, -1, 0, 0, 1, 1, 2]
    assert exact.round_shift(torch.tensor(acc), 1).tolist() == [-1, -1, 0, 0, 1, 1, 2]


def test_products_beyond_float64_are_taken_in_integers():
    a = np.array([[2**30, 1]], dtype=np.int64)
    b = np.array([[2**30], [1]], dtype=np.int64)
    assert exact.matmul(a, b).item() == 2**60 + 1
    assert exact.matmul(np.zeros((0, 2), np.int64), b).shape == (0, 1)


def test_float32_only_where_it_is_exact():
    cpu = torch.device("cpu")
    assert exact.accumulator_dtype(2**24 - 1, cpu) == torch.float32
    assert exact.accumulator_dtype(2**24, cpu) == torch.float64
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert exact.accumulator_dtype(1, cpu) == torch.float64
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    try:
        assert exact.accumulator_dtype(1, cpu) == torch.float64
    finally:
        torch.set_float32_matmul_precision(before)
    assert exact.accumulator_dtype(1, cpu) == torch.float32
    assert exact.accumulator_dtype(1, torch.device("meta")) == torch.float64


def test_float32_sums_up_to_the_limit_are_exact():
    """Sums just below 2**24, in every order a library may take."""
    rng = np.random.default_rng(0)
    a = torch.tensor(rng.integers(0, 256, (64, 517)))
    b = torch.tensor(rng.integers(-127, 128, (517, 33)))
    assert int((a.abs().max() * b.abs().sum(0).max()).item()) < 2**24
    product = (a.float() @ b.float()).long()
    assert torch.equal(product, torch.tensor(a.numpy() @ b.numpy()))
