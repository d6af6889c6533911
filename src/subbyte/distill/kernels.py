"""One layer's weights and bias as parameters: rounded in the forward pass exactly as they will be stored."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from subbyte.distill.rounding import rounded, straight, weight_grid
from subbyte.formats.qtensor import QTensor
from subbyte.formats.quantize import requantize_with_scale
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.weights import affine_weight, fit_bias

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.arithmetic.requant import Arithmetic

Floats = npt.NDArray[np.float32]
Reals = npt.NDArray[np.float64]

START = 0.5
"""Share of the way from a value to where rounding turns to its neighbour, at which learning starts at most: error
feedback leaves many reals on the very edge of their codes' cells, and the first steps would undo its choices."""

PACE = 0.1
"""Of scales, steps and biases beside that of weights: all numbers of a channel or tensor depend on each of them."""


class Kernel:
    """A convolution's or linear layer's weights behind their rounding, and its bias.

    Weights are ``start + unit * change``: ``change`` is learned, in units of the channel's root mean square, so that
    one rate serves all channels of all layers. Reals start where the codes' cell has them nearest to what the codes
    stand for.

    Attributes:
        tensor: the codes at the start: format, zero points and axis stay.
        change: of the weights.
        growth: logarithm of the scales' change; None where scales stay.
        shift: of the bias, in units of ``swing``.
    """

    inside = START

    def __init__(self, layer: LayerWeights, device: torch.device | str, learn_scale: bool) -> None:
        self.tensor, self.bias = layer.weight, layer.bias
        self.device = device
        self.start = self._put(start_reals(layer, self.inside))
        flat = self.start.flatten(1).square().mean(dim=1).sqrt()
        unit = torch.where(flat > 0, flat, flat.max().clamp_min(1e-12))
        self.unit = unit.reshape(-1, *(1,) * (self.start.ndim - 1))
        self.scale = self._put(layer.weight.scale)
        spread = [-1 if i == layer.weight.axis and self.scale.ndim else 1 for i in range(self.start.ndim)]
        self.spread = spread if self.scale.ndim else [1] * self.start.ndim
        zero = self._put(layer.weight.zero_point).double().reshape(self.spread)
        self.grid = weight_grid(layer.weight.format, zero)
        self.count = self.start.numel() // max(1, self.scale.numel())
        self.change = torch.zeros_like(self.start, requires_grad=True)
        self.growth = torch.zeros_like(self.scale, requires_grad=True) if learn_scale else None
        self.bias_start = self._put(layer.bias)
        self.shift = torch.zeros(self.bias_start.shape, dtype=torch.float32, device=device, requires_grad=True)

    def _put(self, array: npt.NDArray[np.generic]) -> Tensor:
        return torch.tensor(array, device=self.device)

    def parameters(self) -> Sequence[Tensor]:
        """What is learned, the bias last."""
        return [p for p in (self.change, self.growth, self.shift) if p is not None]

    def reals(self) -> Tensor:
        """Float32 weights before rounding."""
        return self.start + self.unit * self.change

    def scales(self) -> Tensor:
        """Float32 scales, () or one per channel."""
        return self.scale if self.growth is None else self.scale * torch.exp(PACE * self.growth)

    def weight(self) -> Tensor:
        """Float32 weights as they will be stored; rounded in float64, as codes are taken."""
        scale = self.scales().double().reshape(self.spread)
        return rounded(self.reals().double(), scale, self.grid, self.count).float()

    def biases(self, s_x: Tensor, swing: float) -> Tensor:
        """Float32 biases, multiples of the accumulator's unit.

        Args:
            s_x: scale of the operand.
            swing: unit of ``shift``.
        """
        bias = self.bias_start + self.shift.double() * swing
        return straight(bias, s_x.detach().double() * self.scales().detach().double()).float()

    def layer(self, s_x: float, swing: float, room: float = 1.0) -> LayerWeights:
        """Codes through the ordinary road from reals to codes; see ``room_for_bias``."""
        with torch.no_grad():
            reals, scale = self.reals().cpu().numpy(), self.scales().cpu().numpy()
            bias = self.bias_start.cpu().numpy() + self.shift.double().cpu().numpy() * swing
        tensor = requantize_with_scale(reals, self.tensor, scale)
        return LayerWeights(weight=fit_bias(reals, tensor, bias, s_x, room=room), bias=bias, reals=reals)


class AffineKernel(Kernel):
    """A per-channel affine: its weights keep their value in integers, so they are learned without rounding."""

    def weight(self) -> Tensor:
        """Float32 [C]."""
        return self.reals().reshape(-1)

    def affine(self, arithmetic: Arithmetic, s_x: float, s_y: float, swing: float, room: float = 1.0) -> LayerWeights:
        """Codes of the affine."""
        with torch.no_grad():
            reals = self.reals().reshape(-1).cpu().numpy()
            bias = self.bias_start.cpu().numpy() + self.shift.double().cpu().numpy() * swing
        return LayerWeights(weight=affine_weight(reals, arithmetic, bias, s_x, s_y, room), bias=bias, reals=reals)


def start_reals(layer: LayerWeights, inside: float) -> Floats:
    """Float32 reals that have the layer's codes, as near as may be to the reals that the codes stand for.

    Args:
        layer: whose.
        inside: share of the way from a code's value to the edges of its cell that they may go.
    """
    tensor = layer.weight
    exact = tensor.dequantize()
    if layer.reals is None:
        return exact
    low, high = cell(tensor, inside)
    scale = tensor.scale.astype(np.float64).reshape(-1, *(1,) * (tensor.codes.ndim - 1))
    wanted = layer.reals.reshape(exact.shape) / scale
    return np.asarray(np.clip(wanted, low, high) * scale, dtype=np.float32)


def cell(tensor: QTensor, inside: float) -> tuple[Reals, Reals]:
    """Between which numbers of steps each weight keeps its code; beyond the outermost values nothing is learned."""
    table = tensor.format.values
    middles = (table[1:] + table[:-1]) / 2
    here, zero = table[tensor.codes], table[tensor.codes] - tensor.integers()
    ends = (np.concatenate([table[:1], middles]), np.concatenate([middles, table[-1:]]))
    low, high = (here - zero + inside * (edge[tensor.codes] - here) for edge in ends)
    return low, high
