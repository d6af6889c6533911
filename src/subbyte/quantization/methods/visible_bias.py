"""Bias correction by what the activation lets through."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from subbyte.quantization.methods.bias_correction import bias_correction
from subbyte.quantization.methods.outcome import Change, Outcome

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ops.rectify import Rectify

RARE = 1e-3
"""Share of places: a channel that is let through at fewer moves by less than half of what they say."""


def visible_bias_correction(outcome: Outcome) -> Change:
    """Shift every channel by its mean error over the places where the activation lets it through.

    To first order the shift of least squared error behind the activation: each place counts by the square of the
    activation's slope there, the larger of the float and the quantized result's. ``bias_correction`` restores the mean
    in front of a ReLU, where everything that is cut counts too: the mean behind it stays wrong, the next layer sums
    that over its inputs, and a channel that is never let through gets a shift that fits cut values alone, which other
    data then see. Without an activation both are one.
    """
    rectify = outcome.op.rectify
    if rectify is None:
        return bias_correction(outcome)
    channels = outcome.exact[0].shape[-1]
    total, weight, places = np.zeros(channels), np.zeros(channels), 0
    for exact, coarse in zip(outcome.exact, outcome.coarse, strict=True):
        y, z = (chunk.reshape(-1, chunk.shape[-1]) for chunk in (exact, coarse))
        counts = _slope(rectify, y).maximum(_slope(rectify, z)).square()
        total += ((y - z).double() * counts).sum(dim=0).numpy()
        weight += counts.sum(dim=0).numpy()
        places += len(y)
    shift = total / (weight + RARE * places)
    return Change(np.ones_like(shift), shift)


def _slope(rectify: Rectify, v: Tensor) -> Tensor:
    """Of the activation at v; 0 where it cuts."""
    import torch

    y = torch.where(v < 0, rectify.slope * v, v)
    slope = torch.where(v < 0, abs(rectify.slope), 1.0).double()
    return torch.where((y > rectify.lo) & (y < rectify.hi), slope, torch.zeros_like(slope))
