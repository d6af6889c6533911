"""Batch-norm re-estimation: channel means and spreads as the float layer has them."""

from __future__ import annotations

import numpy as np

from subbyte.quantization.methods.outcome import Change, Outcome

MOST = 2.0
"""Of a factor, up and down: a channel of which little is left would otherwise be mostly noise."""

DEAD = 1e-6
"""Of the largest deviation of any channel: what varies less is constant."""


def batch_norm_reestimation(outcome: Outcome) -> Change:
    """Give every channel the mean and the variance that the float layer's results have, behind the quantized prefix.

    It is what re-estimating the statistics of a batch norm under quantized weights does where the batch norm is
    folded: the normalised result has its old mean and variance again (Sun et al. 2019, "Hybrid 8-bit Floating Point
    (HFP8) Training and Inference for Deep Neural Networks", abstract: pre-trained networks keep their accuracy when
    batch-norm statistics are tuned anew).
    The factor goes into the scale of the channel's weights, the shift into its bias. Channels that are constant on
    either side get their mean alone, and so do all where scales are not free (one per tensor, or shift arithmetic).
    """
    wanted, got = outcome.wanted, outcome.got
    alive = np.minimum(wanted.deviation, got.deviation) > DEAD * wanted.deviation.max()
    ratio = np.where(alive, wanted.deviation, 1.0) / np.where(alive, got.deviation, 1.0)
    factor = np.clip(ratio, 1 / MOST, MOST) if outcome.scalable else np.ones_like(ratio)
    return Change(factor, wanted.mean - factor * got.mean)
