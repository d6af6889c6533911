"""Too little calibration data is said, with what it implies."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import NamedTuple

SHOWN = 5
"""Layers named in a warning; the rest is counted."""


class CalibrationWarning(UserWarning):
    """The calibration data do not determine what is computed from them."""


class Scarce(NamedTuple):
    """A layer whose weights have more inputs than there are windows of data."""

    name: str
    windows: int
    fan_in: int


def warn_scarce(found: Sequence[Scarce], samples: int) -> None:
    """One warning for all layers of a network; none where nothing is scarce.

    Args:
        found: layers with fewer windows (samples times positions) than inputs.
        samples: that were used.
    """
    if not found:
        return
    shown = ", ".join(f"{s.name} ({s.windows} windows, {s.fan_in} inputs)" for s in found[:SHOWN])
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    enough = max(-(-s.fan_in * samples // s.windows) for s in found)
    warnings.warn(
        f"{samples} calibration samples are too few for {shown}{more}: with fewer windows than inputs their second "
        f"moments are singular, ridge and damping decide in their place, and weights may fit the samples rather than "
        f"the data; give at least {enough} samples, or leave refit, rescale, gptq, descent and inq out of the methods",
        CalibrationWarning,
        stacklevel=3,
    )
