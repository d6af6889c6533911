"""Average over windows: float, and integer with one multiplier per distinct divisor."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import prove_sum
from subbyte.arithmetic.requant import requantize
from subbyte.graph.ops import exact, geometry
from subbyte.graph.ops.centred import centred, centred_tensor, interval, tensor
from subbyte.graph.ops.checks import arity, array, boolean, fault, floats, ints, parameters, sized
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import clamped

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class AvgPool(Op):
    """As ONNX ``AveragePool`` and ``torch.nn.AvgPool1d/2d``; input x.

    Attributes:
        kernel: cells per spatial axis.
        stride: per spatial axis.
        padding: in front of each spatial axis, then behind each.
        ceil_mode: whether a last partial window counts.
        count_include_pad: whether cells of the padding count in the divisor (cells behind it never do).
        layout: "channels_first" or "channels_last".
    """

    name: ClassVar[str] = "avg_pool"
    dialect: ClassVar[Dialect] = "float"

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] = (0, 0, 0, 0)
    ceil_mode: bool = False
    count_include_pad: bool = False
    layout: str = "channels_first"

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """One result per window and channel."""
        boolean(self, "count_include_pad")
        arity(self, operands, 1)
        x = floats(self, operands, 0)
        geometry.spatial_rank(self, len(x))
        channels = x[geometry.channel_axis(self, self.layout, len(x))]
        axes = geometry.windows(self, geometry.spatial_sizes(self, x, self.layout))
        geometry.never_empty(self, axes)
        return sized(self, geometry.result_shape(x, self.layout, channels or 0, [a.out for a in axes]))

    def torch(self, *inputs: Tensor) -> Tensor:
        """Sums over zeros as padding, divided window by window."""
        import torch
        from torch.nn import functional

        x = geometry.to_channels_first(inputs[0], self.layout)
        axes = geometry.windows(self, tuple(x.shape[2:]))
        counts = torch.tensor(_grid(_counts(axes, include_pad=self.count_include_pad)), device=x.device)
        x = functional.pad(x, geometry.torch_padding(axes))
        flat = (1,) if len(axes) == 1 else ()
        x = x.unsqueeze(2) if flat else x
        y = functional.avg_pool2d(x, (*flat, *self.kernel), (*flat, *self.stride), divisor_override=1)
        y = geometry.crop(y.squeeze(2) if flat else y, axes) / counts.to(x.dtype)
        return geometry.from_channels_first(y, self.layout)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntAvgPool(Op):
    """Average of stored integers, channels last; inputs x[N, H, W, C], divisors, m, n: int32[D] each.

    ``acc`` is the sum of X = q - zero_point over the window's cells inside the input; (m, n) are those beside the
    window's divisor; ``clip(z + ((acc * m + 2**(n - 1)) >> n), lo, hi)``. Divisors ascend and hold every one that
    occurs.

    Attributes:
        kernel: (rows, columns).
        stride: (rows, columns).
        padding: (top, left, bottom, right).
        ceil_mode: whether a last partial window counts.
        count_include_pad: whether cells of the padding count in the divisor.
        lo: smallest stored result.
        hi: largest stored result.
    """

    name: ClassVar[str] = "int_avg_pool"
    dialect: ClassVar[Dialect] = "integer"

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    ceil_mode: bool
    count_include_pad: bool
    lo: int
    hi: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """One result per window and channel."""
        boolean(self, "count_include_pad")
        arity(self, operands, 4)
        x = ints(self, operands, 0).shape
        geometry.spatial_rank(self, len(x), (2,))
        axes = geometry.windows(self, geometry.spatial_sizes(self, x, "channels_last"))
        geometry.never_empty(self, axes)
        known = array(self, operands, 1, "int32", (None,))
        parameters(self, operands, 2, len(known))
        needed = _distinct(_counts(axes, include_pad=self.count_include_pad))
        if np.any(np.diff(known.astype(np.int64)) <= 0) or not set(needed) <= set(known.tolist()):
            seen = f"divisors {known.tolist()[:8]} where {list(needed)[:8]} occur"
            raise fault(self, seen, "divisors ascend and hold every one that occurs", "take them from divisors()")
        return sized(self, (x[0], *(a.out for a in axes), x[3]))

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """lo, hi within the result's format; the sum over a window fits int32."""
        clamped(self, out)
        prove_sum(math.prod(self.kernel), *interval(ints(self, operands, 0)), f"operator {self.name!r}")

    def numpy(self, call: IntCall) -> Array:
        """Sum over the kernel's taps, then the rescale of each window's divisor."""
        x = centred(call, 0)
        axes = geometry.windows(self, x.shape[1:3])
        x = np.pad(x, ((0, 0), *(a.reach for a in axes), (0, 0)))
        acc = np.zeros((len(x), axes[0].out, axes[1].out, x.shape[-1]), dtype=np.int64)
        for _, (rows, columns) in geometry.taps(axes):
            acc += x[:, rows, columns]
        m, n = self._multipliers(call, axes)
        return stored(requantize(acc, m, n, call.out.zero_point, self.lo, self.hi), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """The same sums in int64."""
        from torch.nn import functional

        x = centred_tensor(call, 0)
        axes = geometry.windows(self, tuple(x.shape[1:3]))
        x = functional.pad(x, [0, 0, *geometry.torch_padding(axes)])
        acc = x.new_zeros((x.shape[0], axes[0].out, axes[1].out, x.shape[-1]))
        for _, (rows, columns) in geometry.taps(axes):
            acc += x[:, rows, columns]
        m, n = (tensor(p, x) for p in self._multipliers(call, axes))
        return exact.requantize(acc, m, n, call.out.zero_point, self.lo, self.hi)

    def _multipliers(self, call: IntCall, axes: Sequence[geometry.Axis]) -> tuple[Array, Array]:
        """Multiplier and shift of every window, [rows, columns, 1]."""
        divisors, m, n = (np.asarray(p, dtype=np.int64) for p in call.inputs[1:])
        grid = _grid(_counts(axes, include_pad=self.count_include_pad))[..., np.newaxis]
        index = np.searchsorted(divisors, grid)
        return m[index], n[index]


def divisors(op: AvgPool, x: Shape) -> tuple[int, ...]:
    """The distinct divisors of an operand of that shape, ascending: what ``IntAvgPool`` wants."""
    axes = geometry.windows(op, geometry.spatial_sizes(op, x, op.layout))
    return _distinct(_counts(axes, include_pad=op.count_include_pad))


def _counts(axes: Sequence[geometry.Axis], *, include_pad: bool) -> list[npt.NDArray[np.int64]]:
    """For each axis the cells of each window that count in the divisor."""
    return [a.padded() if include_pad else a.inside() for a in axes]


def _grid(counts: Sequence[npt.NDArray[np.int64]]) -> npt.NDArray[np.int64]:
    """Divisor of every window: the product over the axes."""
    grid = np.ones((), dtype=np.int64)
    for c in counts:
        grid = np.multiply.outer(grid, c)
    return np.asarray(grid)


def _distinct(counts: Sequence[npt.NDArray[np.int64]]) -> tuple[int, ...]:
    """Divisors that occur, ascending; from the few distinct counts per axis, so huge outputs cost nothing."""
    return tuple(int(d) for d in np.unique(_grid([np.unique(c) for c in counts])))
