"""A little-endian stream of k-bit numbers: number i is bits i*k .. i*k+k-1, bit 0 the lowest of byte 0."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.unsignedinteger[Any]]

WIDEST = 32


def stream_size(count: int, k: int) -> int:
    """Bytes of ``count`` numbers: ceil(count * k / 8)."""
    return (count * k + 7) // 8


def to_stream(numbers: Numbers, k: int) -> bytes:
    """The bytes of numbers (flat) below 2**k, k in 1..32; zeros fill the last byte."""
    groups = np.zeros((-(-numbers.size // 8), 8), dtype=_dtype(k))
    groups.reshape(-1)[: numbers.size] = numbers
    octets = np.zeros((len(groups), k), dtype=np.uint8)
    for i, octet, shift in _places(k):
        octets[:, octet] |= (groups[:, i] << shift if shift >= 0 else groups[:, i] >> -shift).astype(np.uint8)
    return octets.tobytes()[: stream_size(numbers.size, k)]


def from_stream(data: bytes, count: int, k: int) -> Numbers:
    """The numbers of ``stream_size(count, k)`` bytes, flat, in the narrowest unsigned type that holds k bits."""
    octets = np.zeros((-(-count // 8), k), dtype=np.uint8)
    octets.reshape(-1)[: len(data)] = np.frombuffer(data, dtype=np.uint8)
    if k == 8:
        return octets.reshape(-1)[:count]
    groups = np.zeros((len(octets), 8), dtype=_dtype(k))
    for i, octet, shift in _places(k):
        part = octets[:, octet].astype(groups.dtype, copy=False)
        groups[:, i] |= part >> shift if shift >= 0 else part << -shift
    groups &= groups.dtype.type((1 << k) - 1)
    return groups.reshape(-1)[:count]


def padding_is_zero(data: bytes, count: int, k: int) -> bool:
    """Whether the bits behind the last number are 0."""
    used = count * k
    return not (used % 8 and data[-1] >> used % 8)


def _dtype(k: int) -> type[np.uint8] | type[np.uint16] | type[np.uint32]:
    return np.uint8 if k <= 8 else np.uint16 if k <= 16 else np.uint32


def _places(k: int) -> list[tuple[int, int, int]]:
    """Of 8 numbers in k bytes, which fill them: (number, byte that holds some of its bits, bit there of its bit 0)."""
    return [(i, octet, i * k - 8 * octet) for i in range(8) for octet in range(i * k // 8, (i * k + k - 1) // 8 + 1)]
