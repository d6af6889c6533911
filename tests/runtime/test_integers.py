"""Integers in few bits come back, and take the bytes that they should."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.errors import FormatError
from subbyte.runtime import integers

CASES = {
    "one": [5],
    "equal": [-3] * 9,
    "signs": [-1, 0, 0, -1, 0],
    "16 bits": [-(2**15), 2**15 - 1, 0],
    "17 bits": [0, 2**16, 1],
    "31 bits": [2**30, 2**31 - 1, 0],
    "all": [-(2**31), 2**31 - 1, 0, 7, -7],
}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_round_trip(values):
    array = np.array(values, np.int32)
    bits, least = integers.span(array)
    assert (bits, least) == (max(1, (max(values) - min(values)).bit_length()), min(values))
    raw = integers.pack(array, bits, least)
    assert len(raw) == integers.size(len(values), bits) == -(-len(values) * bits // 8)
    assert integers.unpack(raw, len(values), bits, least).tolist() == values


@pytest.mark.parametrize("bits", range(1, integers.WIDEST + 1))
def test_every_width(bits):
    rng = np.random.default_rng(bits)
    values = rng.integers(0, 1 << bits, 37, dtype=np.int64) - (1 << bits - 1)
    values[:2] = -(1 << bits - 1), (1 << bits - 1) - 1
    assert integers.span(values) == (bits, -(1 << bits - 1))
    raw = integers.pack(values, bits, int(values[0]))
    assert np.array_equal(integers.unpack(raw, 37, bits, int(values[0])), values)


def test_damage_is_refused():
    raw = integers.pack(np.arange(3), 2, 0)
    for wrong in (raw + b"\0", raw[:-1], bytes([raw[0] | 128])):
        with pytest.raises(FormatError):
            integers.unpack(wrong, 3, 2, 0)
