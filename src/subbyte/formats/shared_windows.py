"""Trimmed codes with shared windows as bytes: 4 + 3/16 or 4 + 3/32 bits each (block floating point).

The packed form of [rows, C] codes is three parts, one behind the other:

1. halves: for every run of a row, ceil(n / 2) bytes; byte i holds the window bits of channel i of the run in its low
   half and those of channel i + ceil(n / 2) in its high half (n channels: the last run of a row may be shorter);
2. places: for every run the number of its shift among the window's, a stream of 1 to 3 bits each (``stream.py``);
3. signs, only where the zero point is not 0: a stream of one bit for every code, 1 below the zero point.

This file is the definition; ``runtime/shared_windows.py`` gives the same bytes quickly.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError
from subbyte.formats.stream import from_stream, stream_size, to_stream
from subbyte.formats.trims import Trim

Bytes = npt.NDArray[np.uint8]


class Parts(NamedTuple):
    """Bytes of the three parts."""

    halves: int
    places: int
    signs: int


def parts(rows: int, channels: int, trim: Trim, zero_point: int = 0) -> Parts:
    """How long the packed form of so many codes is, part by part.

    Raises:
        FormatError: the trim shares no windows of 4 bits, or there are no channels, or the zero point is no code.
    """
    check_packed(channels, trim, zero_point)
    runs = rows * -(-channels // trim.shared)
    halves = rows * sum(-(-len(run) // 2) for run in _runs(channels, trim.shared))
    signs = stream_size(rows * channels, 1) if zero_point else 0
    return Parts(halves, stream_size(runs, trim.window.place_bits), signs)


def check_packed(channels: int, trim: Trim, zero_point: int) -> None:
    """Raise where there is no packed form."""
    if not trim.shared or trim.window.bits != 4:
        raise FormatError(
            f"codes trimmed by {trim.name} are to be packed",
            "packed forms are for windows of 4 bits shared by 16 or 32 channels",
            "use sparq4_5opt_shared16 or another 4-bit trim that ends in _shared16 or _shared32",
        )
    if channels < 1 or not 0 <= zero_point <= 255:
        raise FormatError(
            f"{channels} channels at zero point {zero_point}",
            "there is at least one channel, and the zero point is a code",
            "pass codes [..., C] and the zero point of their type",
        )


def pack_shared(codes: Bytes, trim: Trim, zero_point: int = 0) -> Bytes:
    """Trimmed codes uint8 [..., C] as bytes; nothing is lost.

    Raises:
        FormatError: codes that the trim would change, or no packed form (see ``parts``).
    """
    channels = codes.shape[-1] if codes.ndim else 0
    check_packed(channels, trim, zero_point)
    centred = codes.reshape(-1, channels).astype(np.int64) - zero_point
    size, shifts = np.abs(centred), np.array(trim.window.shifts)
    halves, places = [], []
    for run in _runs(channels, trim.shared):
        place = np.searchsorted(2 ** (4 + shifts) - 1, size[:, run].max(axis=1))
        shift = shifts[place][:, None]
        kept = size[:, run] >> shift
        if np.any(kept << shift != size[:, run]):
            raise untrimmed(trim)
        half = -(-len(run) // 2)
        low, high = kept[:, :half], np.pad(kept[:, half:], ((0, 0), (0, len(run) % 2)))
        halves.append(low | high << 4)
        places.append(place)
    stream = to_stream(np.stack(places, axis=1).reshape(-1).astype(np.uint8), trim.window.place_bits)
    signs = to_stream((centred < 0).reshape(-1).astype(np.uint8), 1) if zero_point else b""
    packed = np.concatenate(halves, axis=1).astype(np.uint8).tobytes() + stream + signs
    return np.frombuffer(packed, np.uint8)


def unpack_shared(data: Bytes, shape: tuple[int, ...], trim: Trim, zero_point: int = 0) -> Bytes:
    """The codes uint8 [..., C] of their packed form; bits that belong to none are not looked at.

    Raises:
        FormatError: bytes that are no packed form of so many codes.
    """
    channels = shape[-1] if shape else 0
    check_packed(channels, trim, zero_point)
    rows = int(np.prod(shape[:-1]))
    sizes = parts(rows, channels, trim, zero_point)
    if data.size != sum(sizes):
        raise wrong_length(data.size, sum(sizes), shape)
    runs, rest = list(_runs(channels, trim.shared)), data[sizes.halves :]
    halves = data[: sizes.halves].reshape(rows, sum(-(-len(run) // 2) for run in runs))
    places = from_stream(rest[: sizes.places].tobytes(), rows * len(runs), trim.window.place_bits)
    places = places.reshape(rows, len(runs))
    if places.size and places.max() >= len(trim.window.shifts):
        raise wrong_place(trim)
    shifts = np.array(trim.window.shifts)[places]
    size, first = np.zeros((rows, channels), np.int64), 0
    for i, run in enumerate(runs):
        half = -(-len(run) // 2)
        both = halves[:, first : first + half]
        kept = np.concatenate([both & 15, both >> 4], axis=1)[:, : len(run)].astype(np.int64)
        size[:, run] = kept << shifts[:, i : i + 1]
        first += half
    if zero_point:
        signs = from_stream(rest[sizes.places :].tobytes(), rows * channels, 1).reshape(rows, channels)
        size = np.where(signs != 0, -size, size)
    codes = zero_point + size
    if codes.size and (codes.min() < 0 or codes.max() > 255):
        raise beyond_codes()
    return codes.astype(np.uint8).reshape(shape)


def _runs(channels: int, length: int) -> Iterator[range]:
    """Channels that share a window."""
    return (range(first, min(first + length, channels)) for first in range(0, channels, length))


def untrimmed(trim: Trim) -> FormatError:
    """Codes hold bits that their windows do not."""
    return FormatError(
        f"codes hold bits outside the windows of {trim.name}",
        "packed forms hold what the trim leaves",
        "pass what trimmed() or an int_trim node gives",
    )


def wrong_length(seen: int, wanted: int, shape: tuple[int, ...]) -> FormatError:
    """Bytes missing, or too many."""
    remedy = "pass the bytes and the shape of pack_shared"
    return FormatError(f"{seen} bytes", f"codes {list(shape)} take {wanted}", remedy)


def wrong_place(trim: Trim) -> FormatError:
    """A run's window lies nowhere."""
    rule = f"places are below {len(trim.window.shifts)}"
    return FormatError(f"a window is at a place of {trim.option} that does not exist", rule, "pack the codes again")


def beyond_codes() -> FormatError:
    """A sign and a magnitude that no code has."""
    remedy = "pass the zero point that they were packed with"
    return FormatError("a code lies outside 0..255", "magnitudes fit beside the zero point", remedy)
