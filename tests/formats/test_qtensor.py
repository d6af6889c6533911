"""The invariants of a quantized tensor, each broken in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from subbyte.errors import FormatError
from subbyte.formats import QTensor, get_format, quantize_weight


@pytest.fixture
def tensor(rng: np.random.Generator) -> QTensor:
    return quantize_weight(rng.normal(size=(4, 3)).astype(np.float32), get_format("levels17"))


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (1, {"codes": np.zeros((4, 3), np.int8)}),
        (1, {"codes": np.zeros((4, 0), np.uint8)}),
        (1, {"codes": np.zeros((), np.uint8)}),
        (2, {"codes": np.full((4, 3), 17, np.uint8)}),
        (3, {"axis": 2}),
        (3, {"axis": -1}),
        (4, {"scale": np.ones(4, np.float64)}),
        (4, {"scale": np.ones(3, np.float32)}),
        (4, {"scale": np.ones((4, 1), np.float32)}),
        (4, {"scale": np.array([1, 1, 0, 1], np.float32)}),
        (4, {"scale": np.array([1, 1, -1, 1], np.float32)}),
        (4, {"scale": np.array([1, 1, np.nan, 1], np.float32)}),
        (4, {"scale": np.array([1, 1, np.inf, 1], np.float32)}),
        (5, {"zero_point": np.zeros(4, np.int64)}),
        (5, {"zero_point": np.zeros((), np.int32)}),
        (5, {"zero_point": np.array([0, 0, 9, 0], np.int32)}),
        (5, {"zero_point": np.array([0, -9, 0, 0], np.int32)}),
        (5, {"zero_point": np.array([0, 0, -(2**31), 0], np.int32)}),
        (5, {"format": get_format("midrise5"), "zero_point": np.array([0, 1, 0, 0], np.int32)}),
    ],
)
def test_broken(tensor: QTensor, number: int, change: dict[str, Any]) -> None:
    tensor.check()
    with pytest.raises(FormatError, match=f"invariant {number}"):
        replace(tensor, **change).check()


def test_reals_and_bytes(tensor: QTensor) -> None:
    reals = tensor.scale[:, None] * tensor.integers()
    assert np.allclose(tensor.dequantize(), reals)
    assert tensor.dequantize().dtype == np.float32
    assert len(tensor.pack()) == tensor.packed_size == 7  # 12 digits of base 17 need 50 bits
    assert np.array_equal(tensor.format.unpack(tensor.pack(), 12).reshape(4, 3), tensor.codes)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("spread", [0, 1, 5])
def test_the_interval_is_that_of_the_integers(rng: np.random.Generator, axis: int, spread: int) -> None:
    shape = (4, 3, 2)
    for name in ("uint4", "midrise4", "binary"):
        codes = rng.integers(0, get_format(name).levels, shape).astype(np.uint8)
        zero = rng.integers(0, spread + 1, shape[axis]).astype(np.int32)
        scale = np.ones(shape[axis], np.float32)
        for s, z in ((scale, zero), (scale[0], zero[0])):
            t = QTensor(codes=codes, format=get_format(name), scale=np.asarray(s), zero_point=np.asarray(z), axis=axis)
            assert t.interval() == (t.integers().min(), t.integers().max())
