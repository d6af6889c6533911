"""Empirical bias correction: channel means as the float layer has them."""

from __future__ import annotations

import numpy as np

from subbyte.quantization.methods.outcome import Change, Outcome


def bias_correction(outcome: Outcome) -> Change:
    """Shift every channel to the float layer's mean, behind the quantized prefix.

    Source: Nagel et al. 2019, "Data-Free Quantization", section 4.2 and appendix D, the empirical form.
    """
    shift = outcome.wanted.mean - outcome.got.mean
    return Change(np.ones_like(shift), shift)
