"""Codes to bytes and back: how a quantized tensor lies in a file, with no bit wasted that a small rule can save.

Four rules, most with a parameter in their name:

``bits<k>``: the stream of ``stream.py``, little endian: code i is bits i*k .. i*k+k-1, bit 0 is the lowest of byte 0.
    k = 4 is nibbles (low one first), k = 8 is bytes.
``radix<L>``: n codes are the digits of one number in base L, first code lowest, in a little-endian word of 1, 2, 4 or
    8 bytes: the word with the fewest bits per code, the smaller one on ties (5 ternary codes in a byte, 27 codes of
    5 levels in 8 bytes). The last word is cut to the bytes that its digits need. ``radix<L>x<bytes>`` names the word:
    radix3x2 has 10 ternary codes in 16 bits, radix31x8 has 12 codes of 31 levels in 64.
``planes<k>``: k bit planes one behind the other, the lowest first; plane j holds bit j of every code, as bits1.
``nibble_plane``: codes of 5 bits as the bits4 of their low nibbles, then the plane of their highest bits.

``unpack`` trusts nothing: wrong length, a code outside the format, a word above its digits' maximum and non-zero
padding bits are refused, so every tensor has exactly one byte string.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError
from subbyte.formats.stream import from_stream, padding_is_zero, stream_size, to_stream

if TYPE_CHECKING:
    from subbyte.formats.format import Format

Codes: TypeAlias = npt.NDArray[np.unsignedinteger[Any]]

MAX_LEVELS = 65536
_WORD_BYTES = (1, 2, 4, 8)


def code_dtype(levels: int) -> type[np.uint8] | type[np.uint16]:
    """The array type of codes of a format: uint8 up to 256 levels, else uint16."""
    return np.uint8 if levels <= 256 else np.uint16


class Packing(Protocol):
    """A bijection between sequences of codes and byte strings of a size that depends on their number alone."""

    @property
    def name(self) -> str:
        """The rule with its parameter, as stored in files."""

    @property
    def capacity(self) -> int:
        """Codes must be below this."""

    @property
    def bits_per_code(self) -> float:
        """Stored bits per code in a long tensor."""

    def size(self, count: int) -> int:
        """Bytes of ``count`` codes."""

    def pack(self, codes: Codes, levels: int) -> bytes:
        """Codes (any shape, C order, uint8 or uint16) to bytes; FormatError where a code is not below levels."""

    def unpack(self, data: bytes, count: int, levels: int) -> Codes:
        """Bytes to a flat array of ``count`` codes; FormatError unless ``data`` is exactly what ``pack`` writes."""


@dataclass(frozen=True)
class Bits:
    """``bits<k>``: a little-endian stream of k-bit codes."""

    k: int

    @property
    def name(self) -> str:
        """``bits<k>``."""
        return f"bits{self.k}"

    @property
    def capacity(self) -> int:
        """2**k."""
        return 1 << self.k

    @property
    def bits_per_code(self) -> float:
        """The value k."""
        return float(self.k)

    def size(self, count: int) -> int:
        """Bytes of ``count`` codes: ceil(count * k / 8)."""
        return stream_size(count, self.k)

    def pack(self, codes: Codes, levels: int) -> bytes:
        """See Packing."""
        flat = _checked_codes(self, codes, levels)
        return flat.tobytes() if self.k == 8 else to_stream(flat, self.k)

    def unpack(self, data: bytes, count: int, levels: int) -> Codes:
        """See Packing."""
        _check_length(self, data, count, levels)
        if not padding_is_zero(data, count, self.k):
            raise _damaged(self, "the padding bits after the last code are not zero")
        return _below(self, from_stream(data, count, self.k), levels).astype(code_dtype(levels), copy=False)


@dataclass(frozen=True)
class Planes:
    """``planes<k>``, or ``nibble_plane``: parts of all codes one behind the other, each a stream of its own.

    Attributes:
        widths: bits of each part, from the lowest bits of the codes on: ones, or (4, 1).
    """

    widths: tuple[int, ...]

    @property
    def name(self) -> str:
        """``planes<k>``, ``nibble_plane``."""
        return "nibble_plane" if self.widths == _NIBBLE_PLANE else f"planes{len(self.widths)}"

    @property
    def capacity(self) -> int:
        """2**k."""
        return 1 << sum(self.widths)

    @property
    def bits_per_code(self) -> float:
        """The value k."""
        return float(sum(self.widths))

    def size(self, count: int) -> int:
        """Bytes of ``count`` codes: ceil(count * width / 8) of each part."""
        return sum(stream_size(count, width) for width in self.widths)

    def pack(self, codes: Codes, levels: int) -> bytes:
        """See Packing."""
        flat, parts, low = _checked_codes(self, codes, levels), [], 0
        for width in self.widths:
            part = (flat >> flat.dtype.type(low)) & flat.dtype.type((1 << width) - 1)
            parts.append(to_stream(part, width))
            low += width
        return b"".join(parts)

    def unpack(self, data: bytes, count: int, levels: int) -> Codes:
        """See Packing."""
        _check_length(self, data, count, levels)
        dtype = code_dtype(levels)
        codes, low, start = np.zeros(count, dtype=np.uint16), 0, 0
        for width in self.widths:
            part = data[start : start + stream_size(count, width)]
            if not padding_is_zero(part, count, width):
                raise _damaged(self, "the padding bits behind a part are not zero")
            codes |= from_stream(part, count, width).astype(np.uint16) << np.uint16(low)
            low, start = low + width, start + len(part)
        return _below(self, codes, levels).astype(dtype, copy=False)


_NIBBLE_PLANE = (4, 1)


@dataclass(frozen=True)
class Radix:
    """``radix<L>``: several base-L digits in a little-endian word; ``radix<L>x<bytes>`` says how long a word is."""

    base: int
    word: int = 0

    @property
    def name(self) -> str:
        """``radix<L>``, ``radix<L>x<bytes>``."""
        return f"radix{self.base}x{self.word}" if self.word else f"radix{self.base}"

    @property
    def capacity(self) -> int:
        """The value L."""
        return self.base

    @cached_property
    def layout(self) -> tuple[int, int]:
        """(digits, bytes) of a word."""
        sizes = (self.word,) if self.word else _WORD_BYTES
        words = [(_digits(self.base, 8 * size), size) for size in sizes]
        return max(words, key=lambda w: (w[0] / w[1], -w[1]))

    @property
    def bits_per_code(self) -> float:
        """Bits of a word over its digits."""
        digits, size = self.layout
        return 8 * size / digits

    def _tail(self, digits: int) -> int:
        """Bytes of a word that holds fewer digits than it could."""
        largest: int = self.base**digits - 1
        return (largest.bit_length() + 7) // 8

    def size(self, count: int) -> int:
        """Bytes of ``count`` codes: whole words, then a word cut to the bytes it needs."""
        digits, size = self.layout
        return count // digits * size + self._tail(count % digits)

    def pack(self, codes: Codes, levels: int) -> bytes:
        """See Packing."""
        flat = _checked_codes(self, codes, levels)
        digits, size = self.layout
        padded = np.zeros(-(-flat.size // digits) * digits, dtype=np.uint64)
        padded[: flat.size] = flat
        words = padded.reshape(-1, digits) @ self._powers()
        octets = words.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :size]
        return octets.tobytes()[: self.size(flat.size)]

    def unpack(self, data: bytes, count: int, levels: int) -> Codes:
        """See Packing."""
        _check_length(self, data, count, levels)
        digits = self.layout[0]
        words = self._words(data, count)
        columns = np.empty((words.size, digits), dtype=code_dtype(levels))
        base = np.uint64(self.base)
        for i in range(digits):
            rest = words // base
            columns[:, i] = words - rest * base
            words = rest
        flat = columns.reshape(-1)
        if words.any() or flat[count:].any():
            raise _damaged(self, f"a word exceeds the largest number of {digits} digits, or of the last code")
        return _below(self, flat[:count], levels)

    def _powers(self) -> npt.NDArray[np.uint64]:
        return np.array([self.base**i for i in range(self.layout[0])], dtype=np.uint64)

    def _words(self, data: bytes, count: int) -> npt.NDArray[np.uint64]:
        digits, size = self.layout
        octets = np.zeros((-(-count // digits), size), dtype=np.uint8)
        octets.reshape(-1)[: len(data)] = np.frombuffer(data, dtype=np.uint8)
        wide = np.zeros((octets.shape[0], 8), dtype=np.uint8)
        wide[:, :size] = octets
        return wide.view("<u8").reshape(-1).astype(np.uint64)


def _digits(base: int, bits: int) -> int:
    """Largest n with base**n <= 2**bits."""
    n = 0
    while base ** (n + 1) <= 1 << bits:
        n += 1
    return n


_PATTERN = re.compile(r"(bits|planes|radix)([0-9]{1,3})(?:x([1248]))?")


@lru_cache(maxsize=1024)
def get_packing(name: str) -> Packing:
    """The packing of a name.

    ``bits1`` .. ``bits16``, ``planes1`` .. ``planes16``, ``nibble_plane``, ``radix2`` .. ``radix256``, these also with
    ``x1``, ``x2``, ``x4`` or ``x8``, the bytes of a word.

    Raises:
        FormatError: no such packing.
    """
    if name == "nibble_plane":
        return Planes(_NIBBLE_PLANE)
    match = _PATTERN.fullmatch(name)
    if match is not None and not match[2].startswith("0"):
        kind, number, word = match[1], int(match[2]), int(match[3] or 0)
        if kind == "radix" and 2 <= number <= 256:
            return Radix(number, word)
        if kind != "radix" and number <= 16 and not word:
            return Bits(number) if kind == "bits" else Planes((1,) * number)
    raise FormatError(
        f"packing {name!r} is unknown",
        "a packing is bits1 .. bits16 (a stream of k-bit codes), planes1 .. planes16 (bit planes), nibble_plane (5 "
        "bits) or radix2 .. radix256 (digits in base L), if wanted with x1, x2, x4 or x8 (bytes of a word)",
        "leave the packing out: the format then takes the smallest one",
    )


def default_packing(levels: int) -> str:
    """Name of the packing with the fewest bits per code; plain bits on ties."""
    bits = Bits(max(1, (levels - 1).bit_length()))
    if levels > 256:
        return bits.name
    radix = Radix(levels)
    return radix.name if radix.bits_per_code < bits.bits_per_code else bits.name


def packed_size(format: Format, count: int) -> int:
    """Bytes that ``count`` codes of a format take in a file, exactly."""
    return get_packing(format.packing).size(count)


def _check_levels(packing: Packing, levels: int) -> None:
    if not 1 <= levels <= packing.capacity:
        raise FormatError(
            f"{levels} levels are to be packed as {packing.name}",
            f"{packing.name} holds 1 to {packing.capacity} levels",
            f"use {default_packing(levels) if 2 <= levels <= MAX_LEVELS else 'a format of 2 to 65536 levels'}",
        )


def _checked_codes(packing: Packing, codes: Codes, levels: int) -> Codes:
    """Flat codes of the dtype that the level count asks for, each below it."""
    _check_levels(packing, levels)
    array = np.asarray(codes)
    if array.dtype.kind != "u" or (array.size and int(array.max()) >= levels):
        raise FormatError(
            f"codes are {array.dtype} with a maximum of {array.max() if array.size else 'none'}",
            f"codes are unsigned integers below {levels}",
            "encode with the same format that packs",
        )
    return np.ascontiguousarray(array.reshape(-1), dtype=code_dtype(levels))


def _check_length(packing: Packing, data: bytes, count: int, levels: int) -> None:
    _check_levels(packing, levels)
    if count < 0 or len(data) != packing.size(count):
        raise _damaged(packing, f"{len(data)} bytes cannot be {count} codes")


def _below(packing: Packing, codes: Codes, levels: int) -> Codes:
    if codes.size and int(codes.max()) >= levels:
        raise _damaged(packing, f"a code is {codes.max()}, not below {levels}")
    return codes


def _damaged(packing: Packing, seen: str) -> FormatError:
    return FormatError(
        f"packed data ({packing.name}): {seen}",
        "packed data is exactly what packing writes: right length, codes inside the format, zero padding",
        "the file is damaged or was written by another program: write it again",
    )
