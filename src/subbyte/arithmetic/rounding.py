"""Named roundings of reals to integers, one registry.

Rescaling inside a network never comes here: it is integer arithmetic with one rule (``requant.py``). These roundings
turn real weights and inputs into codes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError, unknown_name

Reals: TypeAlias = npt.NDArray[np.float64]
Seed: TypeAlias = "int | np.random.Generator | None"


def _half_up(x: Reals) -> Reals:
    below = np.floor(x)
    # x - below is exact, whereas floor(x + 0.5) is wrong for the largest double under 0.5.
    return below + (x - below >= 0.5)


def _half_away(x: Reals) -> Reals:
    return np.copysign(_half_up(np.abs(x)), x)


def _keep_nonzero(x: Reals) -> Reals:
    nearest = np.rint(x)
    return np.where((nearest == 0) & (x != 0), np.copysign(1.0, x), nearest)


NEAREST: MappingProxyType[str, Callable[[Reals], Reals]] = MappingProxyType(
    {"half_even": np.rint, "half_up": _half_up, "half_away": _half_away}
)
"""Roundings to the nearest value, which differ in ties alone, by name."""

DETERMINISTIC: MappingProxyType[str, Callable[[Reals], Reals]] = MappingProxyType(
    {**NEAREST, "floor": np.floor, "ceil": np.ceil, "keep_nonzero": _keep_nonzero}
)
"""Roundings that need no seed, by name."""

ROUNDINGS: tuple[str, ...] = (*DETERMINISTIC, "stochastic")
"""Every name that ``round_reals`` takes."""


def check_rounding(rounding: str, seed: Seed, known: Sequence[str] = ROUNDINGS) -> None:
    """Refuse a rounding that is not known, and stochastic rounding without a seed.

    Raises:
        FormatError: with the nearest names, or a request for a seed.
    """
    if rounding not in known:
        raise FormatError(*unknown_name("rounding", rounding, known))
    if rounding == "stochastic" and seed is None:
        raise FormatError(
            "stochastic rounding was called without a seed",
            "every random choice is seeded, so that results can be reproduced",
            "pass seed=0, or a numpy.random.Generator to draw on",
        )


def uniforms(seed: Seed, shape: tuple[int, ...]) -> Reals:
    """Random reals in [0, 1) of a shape; a Generator is advanced, an integer seed starts a new one."""
    return np.random.default_rng(seed).random(shape)


def round_reals(x: npt.ArrayLike, rounding: str = "half_even", seed: Seed = None) -> Reals:
    """Reals to the nearest or a neighbouring integer, float64, same shape; -0.0 becomes 0.0.

    Args:
        x: reals, finite.
        rounding: ``half_even`` (ties to the even integer), ``half_up`` (ties towards +infinity), ``half_away`` (ties
            away from zero), ``floor``, ``ceil``; ``keep_nonzero``: half_even, but only 0 becomes 0, what else would
            becomes 1 or -1; or ``stochastic``: up with a probability equal to the fraction, so the expectation is x.
        seed: integer or Generator; needed by ``stochastic`` alone.

    Raises:
        FormatError: unknown rounding, or stochastic without a seed.
    """
    check_rounding(rounding, seed)
    reals = np.asarray(x, dtype=np.float64)
    if rounding == "stochastic":
        below = np.floor(reals)
        return below + (uniforms(seed, reals.shape) < reals - below) + 0.0
    return DETERMINISTIC[rounding](reals) + 0.0
