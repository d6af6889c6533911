"""What the corrections know of a layer whose codes are found, and what they may change about its results."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.graph.passes.links import End

if TYPE_CHECKING:
    import torch

    Chunks: TypeAlias = list[torch.Tensor]

Reals = npt.NDArray[np.float64]


class Moments(NamedTuple):
    """Mean and standard deviation of every channel, float64 [O]."""

    mean: Reals
    deviation: Reals


class Change(NamedTuple):
    """Results y become ``factor * y + shift``, both float64 [O]; factors are positive."""

    factor: Reals
    shift: Reals


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One layer behind the quantized prefix, its codes found.

    Attributes:
        op: the layer.
        exact: chunks of the float layer's results before its activation, channels last.
        coarse: the same of the quantized layer.
        weight: float64 reals that the codes stand for, output channel first.
        quantized: the reals of the codes.
        find_means: means of the float input's channels: from batch norms where they say so, else measured.
        scalable: whether every output channel has a scale of its own that may be multiplied by any number.
    """

    op: End
    exact: Chunks
    coarse: Chunks
    weight: Reals
    quantized: Reals
    find_means: Callable[[], Reals]
    scalable: bool

    @cached_property
    def wanted(self) -> Moments:
        """Of the float results."""
        return channel_moments(self.exact)

    @cached_property
    def got(self) -> Moments:
        """Of the quantized results."""
        return channel_moments(self.coarse)


Correction: TypeAlias = Callable[[Outcome], Change]
"""A step behind the weight methods."""


def channel_moments(chunks: Chunks) -> Moments:
    """Over everything but the channels, which come last; one chunk at a time is held in float64."""
    channels = chunks[0].shape[-1]
    count = sum(chunk.numel() for chunk in chunks) // channels
    mean, square = np.zeros(channels), np.zeros(channels)
    for chunk in chunks:
        mean += chunk.reshape(-1, channels).double().sum(dim=0).numpy() / count
    for chunk in chunks:
        square += np.square(chunk.reshape(-1, channels).double().numpy() - mean).sum(axis=0) / count
    return Moments(mean=mean, deviation=np.sqrt(square))
