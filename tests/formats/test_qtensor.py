"""The invariants of a quantized tensor, each broken in turn."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from subbyte.errors import FormatError
from subbyte.formats import Groups, QTensor, get_format, quantize_weight


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


GROUPED: list[tuple[int, dict[str, Any]]] = [
    (5, {"zero_point": np.zeros(2, np.int32)}),
    (5, {"zero_point": np.zeros((2, 2), np.int32)}),
    (5, {"zero_point": np.full((2, 3), 9, np.int32)}),
    (6, {"axis": 1, "scale": np.ones(5, np.float32)}),
    (6, {"codes": np.zeros(2, np.uint8)}),
    (6, {"groups": Groups(size=0, scale=np.ones((2, 3), np.int32))}),
    (6, {"groups": Groups(size=2**24 + 1, scale=np.ones((2, 3), np.int32))}),
    (6, {"groups": Groups(size=True, scale=np.ones((2, 3), np.int32))}),
    (6, {"groups": Groups(size=3, scale=np.ones((2, 3), np.int32))}),
    (6, {"groups": Groups(size=2, scale=np.ones((2, 3), np.int64))}),
    (6, {"groups": Groups(size=2, scale=np.array([[1, 1, 1], [1, 0, 1]], np.int32))}),
    (6, {"groups": Groups(size=2, scale=np.array([[1, 1, 1], [1, 2**15 + 1, 1]], np.int32))}),
    (6, {"groups": Groups(size=2, scale=np.full((2, 3), 2**14, np.int32)), "codes": np.full((2, 5), 15, np.uint8)}),
]


@pytest.mark.parametrize(("number", "change"), GROUPED)
def test_broken_groups(number: int, change: dict[str, Any]) -> None:
    tensor = grouped_tensor()
    tensor.check()
    with pytest.raises(FormatError, match=f"invariant {number}"):
        replace(tensor, **change).check()


def grouped_tensor() -> QTensor:
    """Two channels of five int4 weights in groups of two: the last group has one."""
    return QTensor(
        codes=np.array([[0, 15, 8, 9, 10], [7, 6, 5, 4, 3]], np.uint8),
        format=get_format("int4"),
        scale=np.array([0.5, 2.0], np.float32),
        zero_point=np.array([[0, 0, 1], [-1, 2, 0]], np.int32),
        groups=Groups(size=2, scale=np.array([[3, 1, 7], [1, 15, 2]], np.int32)),
    )


def test_integers_of_groups_are_written_out() -> None:
    tensor = grouped_tensor()
    want = [[-24, 21, 0, 1, 7], [0, -1, -75, -90, -10]]
    assert tensor.integers().tolist() == want
    assert tensor.interval() == (-90, 21)
    assert np.array_equal(tensor.dequantize(), np.float32([[0.5], [2.0]]) * np.float32(want))
    one = replace(tensor, zero_point=np.zeros((2, 1), np.int32), groups=Groups(size=9, scale=np.int32([[2], [3]])))
    assert one.integers().tolist() == [[-16, 14, 0, 2, 4], [-3, -6, -9, -12, -15]]


def test_groups_of_a_convolution_follow_memory() -> None:
    codes = np.full((1, 2, 1, 3), 9, np.uint8)
    groups = Groups(size=2, scale=np.int32([[1, 2, 3]]))
    tensor = QTensor(
        codes=codes,
        format=get_format("int4"),
        scale=np.float32(1).reshape(()),
        zero_point=np.zeros((1, 3), np.int32),
        groups=groups,
    )
    tensor.check()
    assert tensor.integers().tolist() == [[[[1, 1, 2]], [[2, 3, 3]]]]


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
