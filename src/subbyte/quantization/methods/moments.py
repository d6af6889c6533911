"""What the weight methods know about a layer's data: second moments of its inputs and of its wanted results."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.graph.ops import geometry
from subbyte.graph.ops.conv import Conv
from subbyte.quantization.parts import Layer

if TYPE_CHECKING:
    import torch

    Chunks: TypeAlias = Sequence[torch.Tensor]

Reals = npt.NDArray[np.float64]

MOST_ROWS = 32768
"""Windows that are looked at, a seeded sample of all; more change no decimal of a result that matters."""


@dataclass(frozen=True, kw_only=True)
class Moments:
    """Centred second moments over the windows of a layer, by group of channels.

    Attributes:
        gram: [groups, K, K], mean of x x^T over quantized windows x, K in the order of the weights.
        cross: [groups, O / groups, K], mean of y x^T for the float results y.
        rows: number of windows.
    """

    gram: Reals
    cross: Reals
    rows: int

    @property
    def power(self) -> Reals:
        """Mean diagonal of each gram matrix [groups, 1, 1], positive: the unit of ridges and damping."""
        diagonal = np.diagonal(self.gram, axis1=1, axis2=2).mean(axis=1)
        return np.asarray(np.maximum(diagonal, 1e-9)[:, None, None])


def measure(op: Layer, weight_shape: tuple[int, ...], inputs: Chunks, results: Chunks, seed: int = 0) -> Moments:
    """The moments of one layer.

    Args:
        op: convolution (channels last) or linear layer.
        weight_shape: [O, kh, kw, C / groups] or [O, K].
        inputs: chunks of the quantized operand.
        results: chunks of the float layer's results before their activation, the same samples.
        seed: of the sampled windows.
    """
    groups = op.groups if isinstance(op, Conv) else 1
    k, outputs = math.prod(weight_shape[1:]), weight_shape[0] // groups
    gram, cross = np.zeros((groups, k, k)), np.zeros((groups, outputs, k))
    x_sum, y_sum = np.zeros((groups, 1, k)), np.zeros((groups, outputs, 1))
    rows, origin = 0, None
    for windows, wanted in _windows(op, weight_shape, inputs, results, seed):
        if origin is None:  # float32 sums of nearly centred numbers keep their digits
            origin = (windows.mean(dim=1, keepdim=True), wanted.mean(dim=1, keepdim=True))
        x = windows - origin[0]
        flipped = (wanted - origin[1]).transpose(1, 2)
        gram += (x.transpose(1, 2) @ x).double().numpy()
        cross += (flipped @ x).double().numpy()
        x_sum += x.sum(dim=1, keepdim=True).double().numpy()
        y_sum += flipped.sum(dim=2, keepdim=True).double().numpy()
        rows += x.shape[1]
    x_mean, y_mean = x_sum / rows, y_sum / rows
    gram = gram / rows - x_mean.transpose(0, 2, 1) * x_mean
    return Moments(gram=gram, cross=cross / rows - y_mean * x_mean, rows=rows)


def _windows(
    op: Layer, weight_shape: tuple[int, ...], inputs: Chunks, results: Chunks, seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Windows [groups, rows, K] and their results [groups, rows, O / groups], chunk by chunk."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    share = math.ceil(MOST_ROWS / len(inputs))
    groups = op.groups if isinstance(op, Conv) else 1
    for x, y in zip(inputs, results, strict=True):
        flat = y.reshape(-1, y.shape[-1])
        picked = torch.arange(len(flat))
        if len(flat) > share:
            picked = torch.randint(0, len(flat), (share,), generator=generator)
        windows = _cut(op, weight_shape, x, picked) if isinstance(op, Conv) else x.reshape(-1, x.shape[-1])[picked]
        yield (
            windows.reshape(len(picked), groups, -1).transpose(0, 1),
            flat[picked].reshape(len(picked), groups, -1).transpose(0, 1),
        )


def _cut(op: Conv, weight_shape: tuple[int, ...], x: torch.Tensor, picked: torch.Tensor) -> torch.Tensor:
    """The windows of some result pixels, numbered through [N, out_h, out_w]: [rows, groups, taps * C / groups]."""
    import torch
    from torch.nn import functional

    down, right = geometry.windows(op, x.shape[1:3], weight_shape[1:3])
    padded = functional.pad(x, (0, 0, *right.reach, *down.reach))
    column, row, sample = picked % right.out, picked // right.out % down.out, picked // (right.out * down.out)
    taps = [
        padded[sample, row * down.stride + i * down.dilation, column * right.stride + j * right.dilation]
        for i in range(down.kernel)
        for j in range(right.kernel)
    ]
    return torch.stack(taps, dim=1).reshape(len(picked), len(taps), op.groups, -1).transpose(1, 2)
