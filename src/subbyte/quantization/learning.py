"""What the learned methods may spend, and how they learn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from subbyte.errors import RecipeError


@dataclass(frozen=True, kw_only=True)
class Learning:
    """Settings of ``distill``, ``adaround`` and ``block_reconstruction``.

    Attributes:
        steps: of the optimizer, end to end; 0 leaves everything as it was.
        layer_steps: of the optimizer, for each layer or block.
        batch_size: samples in a step.
        rate: of learning: the largest change of a weight in one step of Adam, relative to its channel's root mean
            square; steps and biases move relative to their size. It falls to 0 as half a cosine.
        temperature: by which scores are divided before they become probabilities.
        match: weight of the scores' squared error, relative to their variance, beside the divergence.
        features: weight of the relative squared error of values inside the network.
        blend: share of samples that are mixed with another sample; the float network answers for the mixture too.
        held_out: share of the samples that is not learned from and decides which state is kept.
        optimizer: ``adam`` or ``sgd``.
        device: of torch, where learning runs.
        journal: file that keeps finished layers and blocks, so that an interrupted run goes on behind them.

    Raises:
        RecipeError: a value that means nothing.
    """

    steps: int = 300
    layer_steps: int = 400
    batch_size: int = 32
    rate: float = 0.01
    temperature: float = 2.0
    match: float = 0.1
    features: float = 0.1
    blend: float = 0.5
    held_out: float = 0.15
    optimizer: Literal["adam", "sgd"] = "adam"
    device: str = "cpu"
    journal: str | Path | None = None

    def __post_init__(self) -> None:
        for name, low, high in _BOUNDS:
            value = getattr(self, name)
            if not isinstance(value, int | float) or not math.isfinite(value) or not low <= value <= high:
                raise RecipeError(
                    f"{name} is {value!r}", f"{name} lies in {low:g}..{high:g}", f"correct {name}", _PLACE
                )
        for name in ("steps", "layer_steps", "batch_size"):
            if not isinstance(getattr(self, name), int):
                raise RecipeError(f"{name} is {getattr(self, name)!r}", f"{name} is whole", f"correct {name}", _PLACE)
        if self.optimizer not in OPTIMIZERS:
            raise RecipeError(
                f"optimizer {self.optimizer!r} is unknown", f"it is one of {', '.join(OPTIMIZERS)}", "use adam", _PLACE
            )

    def learned(self, samples: int) -> int:
        """How many of the calibration samples are learned from; the ones behind them are held out."""
        return samples - max(LEAST // 4, round(self.held_out * samples))


LEAST = 16
"""Samples without which nothing can be learned and judged."""

OPTIMIZERS = ("adam", "sgd")
_PLACE = "settings of learned methods"
_MOST = 10.0**9
_BOUNDS = (
    ("steps", 0, _MOST),
    ("layer_steps", 0, _MOST),
    ("batch_size", 1, _MOST),
    ("rate", 1e-9, 1.0),
    ("temperature", 0.01, 100.0),
    ("match", 0.0, _MOST),
    ("features", 0.0, _MOST),
    ("blend", 0.0, 1.0),
    ("held_out", 0.01, 0.5),
)
"""Name, least and most."""
