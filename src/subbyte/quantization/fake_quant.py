"""Reals rounded to what an integer tensor can hold, in float: how calibration sees the integer network."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from subbyte.formats.format import Format
from subbyte.formats.trims import Trim
from subbyte.graph.ir import IntType, Node
from subbyte.graph.ops.linear_per_token import coded_rows_tensor
from subbyte.graph.ops.trim import trimmed_tensor

if TYPE_CHECKING:
    import torch

    from subbyte.quantization.scheme import Scheme


def fake_quantize(x: torch.Tensor, type_: IntType) -> torch.Tensor:
    """The nearest reals of ``scale * (q - zero_point)``, q legal; same shape and dtype as x, without gradient."""
    import torch

    with torch.no_grad():
        steps = x / type_.scale
        if type_.format.uniform:
            return (
                torch.round(steps).add_(type_.zero_point).clamp_(type_.lo, type_.hi) - type_.zero_point
            ) * type_.scale
        reals = torch.from_numpy(type_.format.centred(type_.zero_point).astype(np.float32))
        middles = (reals[1:] + reals[:-1]) / 2
        return reals[torch.bucketize(steps.contiguous(), middles, right=type_.format.coded)] * type_.scale


def fake_trim(x: torch.Tensor, type_: IntType, trim: Trim, group: int) -> torch.Tensor:
    """What a trim leaves of reals that ``fake_quantize`` has made; channels last, without gradient.

    Args:
        x: float32 [..., C].
        type_: of its integers.
        trim: what is kept.
        group: channels that are multiplied together.
    """
    import torch

    with torch.no_grad():
        codes = torch.round(x / type_.scale).long() + type_.zero_point
        kept = trimmed_tensor(codes, trim, type_.zero_point, group) - type_.zero_point
        return kept.to(x.dtype) * type_.scale


def fake_rows(x: torch.Tensor, type_: IntType, largest: int) -> torch.Tensor:
    """What codes per token leave of reals that ``fake_quantize`` has made; without gradient.

    Args:
        x: float32 [..., K], a row per token.
        type_: of its integers.
        largest: code of a row's largest number.
    """
    import torch

    with torch.no_grad():
        rows = coded_rows_tensor(torch.round(x / type_.scale).long(), largest)
        return rows.to(x.dtype) * (type_.scale / largest)


def in_place(trim: Trim) -> Trim:
    """The trim, or, where it makes versions of its operand, the pairs that come nearest to it.

    Where float weights judge a range, no weight has been pruned yet.
    """
    return replace(trim, pairing="pairs") if trim.pairing == "stc" else trim


def as_read(x: torch.Tensor, scheme: Scheme, node: Node, value: str, versions: bool = False) -> torch.Tensor:
    """A value that ``fake_quantize`` has stored, as a node reads it: re-coded, and trimmed or coded row by row.

    With ``versions`` an ``stc`` trim makes its versions of every channel, which spread weights read; else see
    ``in_place``.
    """
    read = scheme.operand(node, value)
    if read != scheme.stored(value):
        x = fake_quantize(x, read)
    if largest := scheme.largest_row_code(node):
        return fake_rows(x, read, largest)
    kept = scheme.trim(node)
    if kept is None:
        return x
    trim, group = kept
    return fake_trim(x, read, trim if versions else in_place(trim), group)


def stored_values(format_: Format) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Every legal stored integer, ascending."""
    if format_.coded:
        return np.arange(format_.levels)
    return np.asarray(format_.integers, dtype=np.int64) - (format_.lo - format_.stored_lo)


def nearest_stored(
    steps: np.ndarray[tuple[int], np.dtype[np.float64]], type_: IntType
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Stored integers nearest to ``steps`` (reals divided by the scale), float64.

    In the middle of two it is the lower one, of codes the larger one, as rescales make them.
    """
    reals = type_.format.centred(type_.zero_point)
    middles = (reals[1:] + reals[:-1]) / 2
    side: Literal["left", "right"] = "right" if type_.format.coded else "left"
    return np.asarray(stored_values(type_.format)[np.searchsorted(middles, steps, side=side)])
