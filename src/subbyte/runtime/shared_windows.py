"""The packed form of codes with shared windows, made and read by the native engine: the bytes of the definition."""

from __future__ import annotations

import math

import numpy as np

from subbyte import _native
from subbyte.formats import shared_windows as definition
from subbyte.formats.shared_windows import Bytes
from subbyte.formats.trims import Trim


def pack_shared(codes: Bytes, trim: Trim, zero_point: int = 0) -> Bytes:
    """As ``formats.shared_windows.pack_shared``; same errors."""
    channels = codes.shape[-1] if codes.ndim else 0
    definition.check_packed(channels, trim, zero_point)
    flat = np.ascontiguousarray(codes).reshape(-1, channels)
    out = np.empty(sum(definition.parts(len(flat), channels, trim, zero_point)), np.uint8)
    if not _native.pack_shared(flat, out, trim.shared, list(trim.window.shifts), zero_point):
        raise definition.untrimmed(trim)
    return out


def unpack_shared(data: Bytes, shape: tuple[int, ...], trim: Trim, zero_point: int = 0) -> Bytes:
    """As ``formats.shared_windows.unpack_shared``; same errors."""
    channels = shape[-1] if shape else 0
    definition.check_packed(channels, trim, zero_point)
    rows = math.prod(shape[:-1])
    wanted = sum(definition.parts(rows, channels, trim, zero_point))
    if data.size != wanted:
        raise definition.wrong_length(data.size, wanted, shape)
    codes = np.empty((rows, channels), np.uint8)
    found = _native.unpack_shared(np.ascontiguousarray(data), codes, trim.shared, list(trim.window.shifts), zero_point)
    if found == "wrong_place":
        raise definition.wrong_place(trim)
    if found == "beyond_codes":
        raise definition.beyond_codes()
    return codes.reshape(shape)
