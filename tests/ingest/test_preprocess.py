"""Preprocessing: its arithmetic, its round trip through a dict, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.errors import DataError
from subbyte.ingest.preprocess import Preprocess


@pytest.fixture
def x(rng):
    return rng.normal(size=(23, 4, 5, 3)).astype(np.float32)


def test_preprocess_round_trip_and_arithmetic(x):
    pre = Preprocess(layout="nchw", scale=2.0, mean=(1, 2, 3, 4), std=[1, 2, 4, 8])
    assert Preprocess.from_dict(pre.to_dict()) == pre
    wanted = (x * 2 - np.arange(1, 5).reshape(4, 1, 1)) / np.array([1, 2, 4, 8]).reshape(4, 1, 1)
    np.testing.assert_allclose(pre(x), wanted, rtol=1e-5, atol=1e-6)
    assert pre(x).dtype == np.float32
    assert Preprocess()(x) is not x
    np.testing.assert_array_equal(Preprocess()(x), x)


@pytest.mark.parametrize(
    "options",
    [
        {"layout": "hwc"},
        {"std": 0},
        {"std": (-1.0,)},
        {"mean": float("nan")},
        {"scale": 0.0},
        {"scale": float("inf")},
        {"mean": (1.0, 2.0)},
        {"mean": ()},
    ],
)
def test_bad_preprocess(options):
    with pytest.raises(DataError):
        Preprocess(**options)


def test_preprocess_that_does_not_fit_the_data(x):
    for bad, options in (
        (x, {"layout": "nhwc", "mean": (1, 2)}),
        (x, {"layout": "nchw", "std": (1, 2, 3)}),
        (x[0, 0], {"layout": "nhwc->nchw"}),
    ):
        with pytest.raises(DataError) as caught:
            Preprocess(**options)(bad)
        assert caught.value.remedy
    with pytest.raises(DataError, match="did you mean"):
        Preprocess.from_dict({"maen": 1})
