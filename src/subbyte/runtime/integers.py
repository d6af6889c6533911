"""Integer arrays in few bits: the least value apart, the differences to it as a stream of as many bits as the largest.

The stream is little endian like that of packed codes: difference i is bits i*k .. i*k+k-1, bit 0 the lowest of byte 0.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError

IntArray = npt.NDArray[np.integer[Any]]

WIDEST = 32


def span(values: IntArray) -> tuple[int, int]:
    """(bits, least): the least value, and the bits of the largest difference to it, 1..32.

    One bit is taken even where all are equal, so that what is unpacked never outgrows the file.
    """
    least = int(values.min())
    return max(1, (int(values.max()) - least).bit_length()), least


def size(count: int, bits: int) -> int:
    """Bytes of ``count`` differences."""
    return (count * bits + 7) // 8


def pack(values: IntArray, bits: int, least: int) -> bytes:
    """The differences of int32 values (any shape, C order) to the least one."""
    octets = (values.reshape(-1, 1).astype(np.int64) - least).astype("<u4").view(np.uint8)
    return np.packbits(np.unpackbits(octets, axis=1, count=bits, bitorder="little"), bitorder="little").tobytes()


def unpack(raw: bytes, count: int, bits: int, least: int) -> npt.NDArray[np.int64]:
    """The inverse of ``pack``: a flat array.

    Raises:
        FormatError: the length is wrong, or padding bits are not zero.
    """
    if len(raw) != size(count, bits) or (count * bits % 8 and raw[-1] >> count * bits % 8):
        raise FormatError(
            f"{len(raw)} bytes for {count} integers of {bits} bits",
            f"they take {size(count, bits)}, and the padding bits behind the last are zero",
            "the file is damaged or was written by another program: write it again",
        )
    stream = np.unpackbits(np.frombuffer(raw, np.uint8), count=count * bits, bitorder="little")
    octets = np.zeros((count, 4), np.uint8)
    octets[:, : (bits + 7) // 8] = np.packbits(stream.reshape(count, bits), axis=1, bitorder="little")
    return octets.view("<u4").reshape(-1).astype(np.int64) + least
