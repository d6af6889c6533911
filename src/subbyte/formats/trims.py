"""Trims: 8-bit activations kept to a window of a few bits that moves with the number (SPARQ).

A trim is a pure function on the codes of a channel group. What becomes of a code depends on its neighbours, or on the
largest of a run, so a trim is no ``Format``: codes go in, codes of the same scale and zero point come out. The
definition is ``trimmed`` in NumPy; executors use ``Trim.tables``, which are made from it.

Source: Shomron, Gabbay, Kurzum, Weiser 2021, "Post-Training Sparsity-Aware Quantization" (NeurIPS; arXiv 2105.11010):
bSPARQ is the window, vSPARQ the pairs. Their code takes codes without zero point only; here the window lies over the
magnitude of ``code - zero_point`` and the sign stays beside it, which for a zero point of 0 is the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError, unknown_name

Integers = npt.NDArray[np.int64]
Codes = npt.NDArray[np.uint8]
Pairing = Literal["none", "pairs", "stc"]

QUAD = 4
"""Neighbouring inputs of which ``stc`` keeps at most two weights, and versions of an activation that they may read."""


@dataclass(frozen=True, kw_only=True)
class Window:
    """Bits that are kept, and the places where they may lie.

    Attributes:
        bits: n, of the window.
        shifts: legal distances of its lowest bit from the number's, ascending; the last one reaches the top bit.
    """

    bits: int
    shifts: tuple[int, ...]

    @property
    def place_bits(self) -> int:
        """Bits that say where a window lies."""
        return math.ceil(math.log2(len(self.shifts)))

    @property
    def doubled(self) -> Window | None:
        """The window of a number whose partner is 0: twice the bits, anywhere; None where that is all 8 bits."""
        return Window(bits=2 * self.bits, shifts=tuple(range(9 - 2 * self.bits))) if self.bits < 4 else None


WINDOWS: Mapping[str, Window] = MappingProxyType(
    {
        "4_5opt": Window(bits=4, shifts=(0, 1, 2, 3, 4)),
        "4_3opt": Window(bits=4, shifts=(0, 2, 4)),
        "4_2opt": Window(bits=4, shifts=(0, 4)),
        "3_6opt": Window(bits=3, shifts=(0, 1, 2, 3, 4, 5)),
        "2_7opt": Window(bits=2, shifts=(0, 1, 2, 3, 4, 5, 6)),
        "6_3opt": Window(bits=6, shifts=(0, 1, 2)),
    }
)
"""By option: ``<bits>_<places>opt``."""

SHARED = (16, 32)
"""Lengths of the runs of channels that may share one window."""

PREFIX = "sparq"


@dataclass(frozen=True, kw_only=True)
class Trim:
    """What is kept of 8-bit codes.

    Attributes:
        option: name in ``WINDOWS``.
        rounded: to nearest, ties to even, saturating inside the window that the unrounded number chose; else truncated.
        pairing: ``pairs``: of two neighbours inside a group, one that is 0 leaves its bits to the other; ``stc``: the
            same for the two inputs of four whose weights are not 0; or ``none``.
        shared: channels that share the window of their largest number; 0 gives every number its own.
    """

    option: str
    rounded: bool = False
    pairing: Pairing = "none"
    shared: int = 0

    @property
    def name(self) -> str:
        """As recipes write it: ``sparq<option>[_round][_v | _stc | _shared16 | _shared32]``."""
        ending = {"none": f"_shared{self.shared}" if self.shared else "", "pairs": "_v", "stc": "_stc"}[self.pairing]
        return f"{PREFIX}{self.option}{'_round' if self.rounded else ''}{ending}"

    @property
    def window(self) -> Window:
        """Bits and places."""
        return WINDOWS[self.option]

    @property
    def versions(self) -> int:
        """Channels that come of one: what each of the weights of its four sees under ``stc``."""
        return QUAD if self.pairing == "stc" else 1

    @property
    def stored_bits(self) -> float:
        """Per activation without sign: the window, where it lies, and for pairs the bit that says what they hold."""
        bits, place = self.window.bits, self.window.place_bits
        if self.pairing != "none":
            return bits + place + 0.5
        return bits + place / (self.shared or 1)

    def tables(self, zero_point: int) -> Codes:
        """Codes by code, [tables, 256]: for windows of their own (alone[, beside a zero]), for shared ones by shift."""
        return _tables(self, zero_point)


def trims() -> Sequence[Trim]:
    """All there are."""
    return tuple(_by_name().values())


def is_trim(name: str) -> bool:
    """Whether a name means a trim, existing or not, and no format."""
    return name.startswith(PREFIX)


def get_trim(name: str) -> Trim:
    """The trim of a name.

    Raises:
        FormatError: there is none; the nearest names are given.
    """
    if name not in _by_name():
        raise FormatError(*unknown_name("trim", name, _by_name()))
    return _by_name()[name]


@cache
def _by_name() -> Mapping[str, Trim]:
    kinds: list[tuple[Pairing, int]] = [("none", 0), ("pairs", 0), ("stc", 0), *(("none", n) for n in SHARED)]
    made = (
        Trim(option=option, rounded=rounded, pairing=pairing, shared=shared)
        for option in WINDOWS
        for pairing, shared in kinds
        for rounded in (False, True)
    )
    return {trim.name: trim for trim in made}


# The definition


def trimmed(codes: Codes, trim: Trim, zero_point: int = 0, group: int | None = None) -> Codes:
    """What a trim leaves of codes.

    Args:
        codes: uint8 [..., C], channels last.
        trim: what is kept.
        zero_point: the code of 0.
        group: channels that a layer multiplies together (C / groups of a convolution): neither pairs nor fours cross
            its border, and a channel without a partner is beside a zero. All C if None. Shared windows do not know
            groups: their runs are cut from the C channels, and the last one may be shorter.

    Returns:
        uint8 [..., C], for ``stc`` [..., 4 C]: channel 4 i + k holds channel i as seen beside the k-th of the three
        channels that follow it in its four, in a circle, and with k = 3 alone.
    """
    centred = codes.astype(np.int64) - zero_point
    size, most = np.abs(centred), np.where(centred > 0, 255 - zero_point, zero_point)
    if trim.shared:
        shift = _shift(_largest(size, trim.shared), trim.window)
        return _signed(centred, _held(size, shift, trim.window.bits, trim.rounded, most), zero_point)
    alone = _windowed(size, trim.window, trim.rounded, most)
    if trim.pairing == "none":
        return _signed(centred, alone, zero_point)
    wide = size if trim.window.doubled is None else _windowed(size, trim.window.doubled, trim.rounded, most)
    length = codes.shape[-1] if group is None else group
    if trim.pairing == "pairs":
        beside_zero = _partners(size, length, 2, 1) == 0
        return _signed(centred, np.where(beside_zero, wide, alone), zero_point)
    seen = [np.where(_partners(size, length, QUAD, k) == 0, wide, alone) for k in range(1, QUAD)]
    versions = [_signed(centred, version, zero_point) for version in (*seen, wide)]
    return np.stack(versions, axis=-1).reshape(*codes.shape[:-1], QUAD * codes.shape[-1])


def _windowed(size: Integers, window: Window, rounded: bool, most: Integers) -> Integers:
    """Magnitudes, each in the lowest window that reaches its top bit."""
    return _held(size, _shift(size, window), window.bits, rounded, most)


def _shift(size: Integers, window: Window) -> Integers:
    """The smallest legal shift at which a magnitude needs no higher bits than the window's."""
    shift = np.full(size.shape, window.shifts[-1], dtype=np.int64)
    for s in reversed(window.shifts):
        shift = np.where(size < 2 ** (window.bits + s), s, shift)
    return shift


def _held(size: Integers, shift: Integers, bits: int, rounded: bool, most: Integers) -> Integers:
    """Magnitudes as a window of ``bits`` at ``shift`` holds them, no larger than ``most``."""
    kept = size >> shift
    if rounded:
        rest, half = size - (kept << shift), (1 << shift) >> 1
        up = (rest > half) | ((rest == half) & (rest > 0) & (kept % 2 == 1))
        kept = kept + up
        kept = kept - ((kept == 2**bits) | (kept << shift > most))  # saturates: the window is not chosen again
    kept = np.minimum(kept, 2**bits - 1)
    return np.asarray(kept << shift)


def _signed(centred: Integers, size: Integers, zero_point: int) -> Codes:
    return np.asarray(zero_point + np.sign(centred) * size, dtype=np.uint8)


def _cut(size: Integers, length: int, unit: int) -> Integers:
    """[..., C / length, units, unit]; zeros fill the last unit of every ``length`` channels."""
    parts = size.reshape(*size.shape[:-1], size.shape[-1] // length, length)
    filled = np.pad(parts, [(0, 0)] * (parts.ndim - 1) + [(0, -length % unit)])
    return filled.reshape(*parts.shape[:-1], -(-length // unit), unit)


def _joined(units: Integers, length: int, shape: tuple[int, ...]) -> Integers:
    """Back from ``_cut``."""
    flat = units.reshape(*units.shape[:-2], units.shape[-2] * units.shape[-1])
    return flat[..., :length].reshape(shape)


def _partners(size: Integers, length: int, unit: int, step: int) -> Integers:
    """The magnitude ``step`` channels on inside a unit, in a circle; 0 where there is no such channel."""
    return _joined(np.roll(_cut(size, length, unit), -step, axis=-1), length, size.shape)


def _largest(size: Integers, run: int) -> Integers:
    """The largest magnitude of a run, at every channel of it."""
    channels = size.shape[-1]
    units = _cut(size, channels, run)
    return _joined(np.broadcast_to(units.max(axis=-1, keepdims=True), units.shape), channels, size.shape)


@cache
def _tables(trim: Trim, zero_point: int) -> Codes:
    codes = np.arange(256, dtype=np.uint8)
    centred = codes.astype(np.int64) - zero_point
    size, most = np.abs(centred), np.where(centred > 0, 255 - zero_point, zero_point)
    window = trim.window
    if trim.shared:
        held = [_held(size, np.full(256, s), window.bits, trim.rounded, most) for s in window.shifts]
    else:
        held = [_windowed(size, window, trim.rounded, most)]
    if trim.pairing != "none":
        held.append(size if window.doubled is None else _windowed(size, window.doubled, trim.rounded, most))
    tables = np.stack([_signed(centred, each, zero_point) for each in held])
    tables.setflags(write=False)
    return tables
