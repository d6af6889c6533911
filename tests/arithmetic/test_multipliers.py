"""Multipliers of whole arrays are those of their entries."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.arithmetic.requant import ARITHMETICS, multiplier, multipliers
from subbyte.errors import LoweringError


def ratios(arithmetic: str) -> np.ndarray:
    """Ordinary ones, and the edges: rounded up to the next power of two, the largest, nearly and quite vanished."""
    rng = np.random.default_rng(0)
    if arithmetic == "shift":
        return 2.0 ** np.arange(-70, 30)
    edges = [1.0, 0.5, 1 - 2.0**-40, 2.0**-33 * (1 - 2.0**-53), 2.0**-32, 2.0**-50, 2.0**-80, 5e-324, 3000.25]
    return np.concatenate([np.exp(rng.uniform(-30, 5, 500)), edges])


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_every_entry(arithmetic):
    values = ratios(arithmetic)
    m, n = multipliers(values, arithmetic)
    assert list(zip(m.tolist(), n.tolist(), strict=True)) == [multiplier(float(v), arithmetic) for v in values]
    assert (m == 0).any()
    assert m.dtype == n.dtype == np.int64


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("bad", [0.0, -0.5, np.nan, np.inf, 2.0**40])
def test_what_one_refuses_all_refuse(arithmetic, bad):
    with pytest.raises(LoweringError):
        multipliers(np.array([0.5, bad, 0.25]), arithmetic)
