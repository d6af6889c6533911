"""Integer arrays in few bits: the least value apart, the differences to it as a stream of as many bits as the largest.

The stream is that of packed codes (``formats/stream.py``).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError
from subbyte.formats.stream import WIDEST, from_stream, padding_is_zero, stream_size, to_stream

IntArray = npt.NDArray[np.integer[Any]]

__all__ = ["WIDEST", "pack", "size", "span", "unpack"]


def span(values: IntArray) -> tuple[int, int]:
    """(bits, least): the least value, and the bits of the largest difference to it, 1..32.

    One bit is taken even where all are equal, so that what is unpacked never outgrows the file.
    """
    least = int(values.min())
    return max(1, (int(values.max()) - least).bit_length()), least


def size(count: int, bits: int) -> int:
    """Bytes of ``count`` differences."""
    return stream_size(count, bits)


def pack(values: IntArray, bits: int, least: int) -> bytes:
    """The differences of int32 values (any shape, C order) to the least one."""
    return to_stream((values.reshape(-1).astype(np.int64) - least).astype(np.uint32), bits)


def unpack(raw: bytes, count: int, bits: int, least: int) -> npt.NDArray[np.int64]:
    """The inverse of ``pack``: a flat array.

    Raises:
        FormatError: the length is wrong, or padding bits are not zero.
    """
    if len(raw) != size(count, bits) or not padding_is_zero(raw, count, bits):
        raise FormatError(
            f"{len(raw)} bytes for {count} integers of {bits} bits",
            f"they take {size(count, bits)}, and the padding bits behind the last are zero",
            "the file is damaged or was written by another program: write it again",
        )
    return from_stream(raw, count, bits).astype(np.int64) + least
