"""What passes from one weight method to the next."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.formats.qtensor import QTensor
from subbyte.quantization.methods.moments import Moments

Reals = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One layer on the quantized prefix.

    Attributes:
        find_moments: measures the layer's data; called once, by the first method that asks.
        find_scales: (weights, importance or None) to the nearest codes under freshly chosen scales.
        least_scale: down to which scales may move, shaped like them; None where they stay as they were chosen.
    """

    find_moments: Callable[[], Moments]
    find_scales: Callable[[npt.NDArray[np.float32], Reals | None], QTensor]
    least_scale: Reals | None = None

    @cached_property
    def moments(self) -> Moments:
        """The layer's data."""
        return self.find_moments()


@dataclass(frozen=True, kw_only=True)
class State:
    """The layer's weights as far as the methods have come.

    Attributes:
        weight: float32 reals that the codes stand for, output channel first.
        tensor: the codes.
    """

    weight: npt.NDArray[np.float32]
    tensor: QTensor


Method: TypeAlias = Callable[[Problem, State], State]
"""One step."""
