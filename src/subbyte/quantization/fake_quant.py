"""Reals rounded to what an integer tensor can hold, in float: how calibration sees the integer network."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from subbyte.formats.format import Format
from subbyte.graph.ir import IntType

if TYPE_CHECKING:
    import torch


def fake_quantize(x: torch.Tensor, type_: IntType) -> torch.Tensor:
    """The nearest reals of ``scale * (q - zero_point)``, q legal; same shape and dtype as x, without gradient."""
    import torch

    with torch.no_grad():
        steps = x / type_.scale
        if type_.format.uniform:
            return (
                torch.round(steps).add_(type_.zero_point).clamp_(type_.lo, type_.hi) - type_.zero_point
            ) * type_.scale
        reals = torch.from_numpy(centred_values(type_.format, type_.zero_point).astype(np.float32))
        middles = (reals[1:] + reals[:-1]) / 2
        return reals[torch.bucketize(steps.contiguous(), middles)] * type_.scale


def stored_values(format_: Format) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Every legal stored integer, ascending."""
    offset = format_.lo if format_.storage == "uint8" else 0
    return np.asarray(format_.integers, dtype=np.int64) - offset


def centred_values(format_: Format, zero_point: int) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """``q - zero_point`` of every legal stored integer, ascending."""
    return np.asarray(stored_values(format_) - zero_point)


def nearest_stored(
    steps: np.ndarray[tuple[int], np.dtype[np.float64]], type_: IntType
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Stored integers nearest to ``steps`` (reals divided by the scale), float64; the lower one on a tie."""
    reals = centred_values(type_.format, type_.zero_point)
    middles = (reals[1:] + reals[:-1]) / 2
    return np.asarray(stored_values(type_.format)[np.searchsorted(middles, steps, side="left")])
