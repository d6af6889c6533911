"""AdaRound's choice between two neighbours: a rectified sigmoid that is driven to 0 or 1."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch

from subbyte.distill.kernels import Kernel, start_reals
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.weights import fit_bias

if TYPE_CHECKING:
    from torch import Tensor

LOW, HIGH = -0.1, 1.1
"""Between which the sigmoid is stretched before it is clipped, so that it reaches 0 and 1 (equation 23)."""


class SoftKernel(Kernel):
    """Weights between the two values next to each real: ``below + h(v) (above - below)``; scales stay.

    Source: Nagel et al. 2020, "Up or Down? Adaptive Rounding for Post-Training Quantization", sections 3.3 and 3.4.

    Attributes:
        choice: v of every weight; starts where the weight is what the codes stand for.
        hard: whether h is rounded.
    """

    def __init__(self, layer: LayerWeights, device: torch.device | str, learn_scale: bool) -> None:
        super().__init__(layer, device, learn_scale=False)
        table = layer.weight.format.values
        integers = layer.weight.integers()
        self.zero = np.asarray(table[layer.weight.codes] - integers, np.float64)
        spread = layer.weight.scale.astype(np.float64).reshape(-1, *(1,) * (integers.ndim - 1))
        steps = start_reals(layer, inside=1.0) / spread + self.zero
        self.below = np.clip(np.searchsorted(table, steps, side="right") - 1, 0, len(table) - 2)
        low, high = table[self.below], table[self.below + 1]
        share = np.clip((steps - low) / (high - low), 0.01, 0.99)
        start = -np.log((HIGH - LOW) / (share - LOW) - 1)
        self.low = self._put((low - self.zero) * spread)
        self.gap = self._put((high - low) * spread)
        self.choice = self._put(start.astype(np.float32)).requires_grad_()
        self.hard = False

    def parameters(self) -> Sequence[Tensor]:
        """The choices alone."""
        return [self.choice]

    def h(self) -> Tensor:
        """0 for the value below, 1 for the one above."""
        if self.hard:
            return (self.choice >= 0).float()
        return (torch.sigmoid(self.choice) * (HIGH - LOW) + LOW).clamp(0.0, 1.0)

    def undecided(self, beta: float) -> Tensor:
        """Sum of ``1 - |2 h - 1|**beta``: 0 when every choice is made (eq. 24)."""
        return (1 - (2 * self.h() - 1).abs().pow(beta)).sum()

    def weight(self) -> Tensor:
        """Float32 weights, on the grid where hard."""
        return (self.low + self.h() * self.gap).float()

    def layer(self, s_x: float, swing: float, room: float = 1.0) -> LayerWeights:
        """The chosen codes; see ``room_for_bias``."""
        with torch.no_grad():
            up = self.choice.detach().cpu().numpy() >= 0
        tensor = replace(self.tensor, codes=(self.below + up).astype(np.uint8))
        tensor.check()
        reals = self.start.cpu().numpy()
        return LayerWeights(weight=fit_bias(reals, tensor, self.bias, s_x, room=room), bias=self.bias, reals=reals)
