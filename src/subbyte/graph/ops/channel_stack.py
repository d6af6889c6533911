"""Convolutions that stay within their channel, one behind the other in 32 bits, renormalised together at the end.

Nets without scales (see ``linear_norm.py``) that see with convolutions compute one channel after the other, from the
image to its last few numbers: a channel never meets another one, so a microcontroller needs memory for one of them.
Between the stages numbers keep 32 bits, because any shift that the sample decides would pull channels apart; they lose
a fixed number of bits instead. Only the numbers behind the last stage are shortened together, to what a linear layer of
such a chain reads. It is one operator because nothing else reads activations of 32 bits.

Source: BitNetMCU's documentation of its convolutional nets; layers, shifts and order are written down from it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, NamedTuple, final

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import prove_stack
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.centred import centred, centred_tensor, interval, tensor, weight_integers
from subbyte.graph.ops.checks import arity, codes, fault, integer, integers, ints, sized
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.renormalise import (
    INT16,
    check_renormalised,
    check_weights,
    renormalised,
    renormalised_tensor,
)

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType

MOST_STAGES = 16

MOST_SIDE = 255
"""Of windows: int16 weights of one, all of a sign, then sum up to 2**31 at most."""

_CHUNK = 2**22
"""Numbers of all channels that the reference holds at once."""


class Stage(NamedTuple):
    """One convolution and what follows it.

    Attributes:
        kernel: side of its square window.
        shift: bits that positive sums lose, rounded down; negative ones become 0.
        pool: side of the squares of which the largest number stays; 1: all stay.
        sums: rows and columns of its sums.
        left: rows and columns behind the maxima.
    """

    kernel: int
    shift: int
    pool: int
    sums: tuple[int, int]
    left: tuple[int, int]


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntChannelStack(Op):
    """Stages of convolution, ReLU, shift and maximum, every channel by itself; inputs x[N, H, W], codes [C, K].

    Each channel starts from the same image ``x - z_x``; a row of codes holds the channel's square windows of all
    stages, row by row, one behind the other. A stage is ``max(sum w v, 0) >> shift`` without padding, then the maximum
    of each square of pool x pool numbers that lies inside. The numbers of all channels, [N, C * h * w] with those of a
    channel side by side, are renormalised (``renormalise.py``).

    Attributes:
        kernels: side of each stage's window.
        shifts: bits that each stage's sums lose.
        pools: side of each stage's squares; 1 for none.
        hi: largest stored result, 1 or more; 127 for 8-bit activations.
    """

    name: ClassVar[str] = "int_channel_stack"
    dialect: ClassVar[Dialect] = "integer"

    kernels: tuple[int, ...]
    shifts: tuple[int, ...]
    pools: tuple[int, ...]
    hi: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """(batch, channels times the numbers that are left of each)."""
        integer(self, "hi", 1, INT16[1])
        count = len(self.kernels) if type(self.kernels) is tuple else 1
        count = min(max(count, 1), MOST_STAGES)
        integers(self, "kernels", count, 1, MOST_SIDE)
        integers(self, "shifts", count, 0, 31)
        integers(self, "pools", count, 1, MOST_SIDE)
        arity(self, operands, 2)
        x = ints(self, operands, 0).shape
        weight = codes(self, operands, 1, 2)
        check_weights(self, weight)
        depth = sum(k * k for k in self.kernels)
        if len(x) != 3 or weight.shape[1] != depth:
            seen = f"an image {list(x)} and weights {list(weight.shape)}"
            rule = f"images are [batch, rows, columns], weights of windows {list(self.kernels)} [channels, {depth}]"
            raise fault(self, seen, rule, "reshape the image; give each channel its windows one behind the other")
        left = x[1:]
        for stage in self._stages(x):
            if min(stage.left) < 1:
                seen = f"a window of {stage.kernel} and squares of {stage.pool} on {left[0]} x {left[1]} numbers"
                raise fault(self, seen, "one result is left of every stage", "leave out stages or take a larger image")
            sized(self, (None, *stage.sums, weight.shape[0]), "stage")
            left = stage.left
        return sized(self, (None, weight.shape[0] * math.prod(d or 1 for d in left)))

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result holds 0..hi with zero point 0; the proof of every stage's sums."""
        check_renormalised(self, out, self.hi)
        self.largest_sums(operands)

    def largest_sums(self, operands: Sequence[TensorType | Constant]) -> npt.NDArray[np.int64]:
        """Of each channel in any stage, in magnitude, once they are proved to fit int32."""
        weight = operands[1]
        assert isinstance(weight, QTensor)  # infer refuses anything else
        windows = self._windows(weight_integers(weight))
        return prove_stack(windows, self.shifts, *interval(ints(self, operands, 0)), f"operator {self.name!r}")

    def numpy(self, call: IntCall) -> Array:
        """All channels side by side, stage by stage."""
        x, windows = centred(call, 0), self._windows(weight_integers(call.inputs[1]))
        step = max(1, _CHUNK // (x[0].size * len(windows[0])))
        parts = [self._channels(x[i : i + step], windows) for i in range(0, len(x), step)]
        return stored(renormalised(np.concatenate(parts), self.hi), call.out.storage)

    def _channels(self, x: npt.NDArray[np.int64], windows: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
        channels = len(windows[0])
        v = np.repeat(x[..., None], channels, axis=-1)
        for window, (kernel, shift, pool, sums, left) in zip(windows, self._stages(x.shape), strict=True):
            acc = np.zeros((len(x), *sums, channels), np.int64)
            for i, j in np.ndindex(kernel, kernel):
                acc += v[:, i : i + sums[0], j : j + sums[1]] * window[:, i, j]
            kept = (np.maximum(acc, 0) >> shift)[:, : left[0] * pool, : left[1] * pool]
            v = kept.reshape(len(x), left[0], pool, left[1], pool, channels).max(axis=(2, 4))
        return v.transpose(0, 3, 1, 2).reshape(len(x), math.prod(v.shape[1:]))

    def torch_int(self, call: IntCall) -> Tensor:
        """The same sums of taps on int64 tensors."""
        import torch

        x = centred_tensor(call, 0)
        windows = self._windows(weight_integers(call.inputs[1]))
        v = x.unsqueeze(1)
        for window, (kernel, shift, pool, (rows, columns), _) in zip(windows, self._stages(x.shape), strict=True):
            taps = tensor(window, x)[..., None, None]
            acc = torch.zeros((len(x), len(window), rows, columns), dtype=torch.long, device=x.device)
            for i, j in np.ndindex(kernel, kernel):
                acc += v[..., i : i + rows, j : j + columns] * taps[:, i, j]
            v = (acc.clamp(min=0) >> shift).unfold(2, pool, pool).unfold(3, pool, pool).amax((-2, -1))
        return renormalised_tensor(v.flatten(1), self.hi)

    def macs(self, operands: Sequence[TensorType | Constant], out: Shape) -> int:
        """Sums of every stage times the numbers of its window, in every channel."""
        x, weight = ints(self, operands, 0).shape, operands[1].shape
        return (weight[0] or 1) * sum(math.prod(s.sums) * s.kernel**2 for s in self._stages(x))

    def _stages(self, x: Sequence[int | None]) -> Iterator[Stage]:
        """Of an image [N, H, W]."""
        rows, columns = (d or 1 for d in x[1:])
        for kernel, shift, pool in zip(self.kernels, self.shifts, self.pools, strict=True):
            sums = rows - kernel + 1, columns - kernel + 1
            rows, columns = sums[0] // pool, sums[1] // pool
            yield Stage(kernel, shift, pool, sums, (rows, columns))

    def _windows(self, weight: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """[C, kernel, kernel] of each stage."""
        ends = np.cumsum([k * k for k in self.kernels])[:-1]
        parts = np.split(weight, ends, axis=1)
        return [part.reshape(-1, k, k) for part, k in zip(parts, self.kernels, strict=True)]
