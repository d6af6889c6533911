"""Maximum over windows; on integers the order of the codes is the order of the reals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ops import geometry
from subbyte.graph.ops.checks import arity, sized, value
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import moved

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType

_NEVER = -(2**31)
"""Below every stored integer: padding never wins."""


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class MaxPool(Op):
    """As ONNX ``MaxPool`` and ``torch.nn.MaxPool1d/2d``; padding never wins; input x.

    Attributes:
        kernel: cells per spatial axis.
        stride: per spatial axis.
        dilation: per spatial axis.
        padding: in front of each spatial axis, then behind each.
        ceil_mode: whether a last partial window counts.
        layout: "channels_first" or "channels_last".
    """

    name: ClassVar[str] = "max_pool"
    dialect: ClassVar[Dialect] = "both"

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0, 0, 0)
    ceil_mode: bool = False
    layout: str = "channels_first"

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """One result per window and channel."""
        arity(self, operands, 1)
        x = value(self, operands, 0).shape
        geometry.spatial_rank(self, len(x))
        channels = x[geometry.channel_axis(self, self.layout, len(x))]
        axes = geometry.windows(self, geometry.spatial_sizes(self, x, self.layout))
        geometry.never_empty(self, axes)
        return sized(self, geometry.result_shape(x, self.layout, channels or 0, [a.out for a in axes]))

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result keeps the operand's quantization."""
        moved(self, operands, out)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.nn.functional.max_pool1d/2d`` over minus infinity as padding."""
        from torch.nn import functional

        x = geometry.to_channels_first(inputs[0], self.layout)
        axes = geometry.windows(self, tuple(x.shape[2:]))
        x = functional.pad(x, geometry.torch_padding(axes), value=-math.inf)
        pool = functional.max_pool1d if len(axes) == 1 else functional.max_pool2d
        y = geometry.crop(pool(x, self.kernel, self.stride, 0, self.dilation), axes)
        return geometry.from_channels_first(y, self.layout)

    def numpy(self, call: IntCall) -> Array:
        """Maximum over the kernel's taps, one after the other."""
        x = np.asarray(call.inputs[0], dtype=np.int64)
        if self.layout == "channels_first":
            x = np.moveaxis(x, 1, -1)
        axes = geometry.windows(self, x.shape[1:-1])
        x = np.pad(x, ((0, 0), *(a.reach for a in axes), (0, 0)), constant_values=_NEVER)
        y = np.full((len(x), *(a.out for a in axes), x.shape[-1]), _NEVER, dtype=np.int64)
        for _, cells in geometry.taps(axes):
            y = np.maximum(y, x[(slice(None), *cells)])
        if self.layout == "channels_first":
            y = np.moveaxis(y, -1, 1)
        return stored(y, call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """The same maxima."""
        from torch.nn import functional

        x = geometry.to_channels_first(call.inputs[0], self.layout)
        axes = geometry.windows(self, tuple(x.shape[2:]))
        x = functional.pad(x, geometry.torch_padding(axes), value=_NEVER)
        whole = (slice(None), slice(None))
        windows = [x[whole + cells] for _, cells in geometry.taps(axes)]
        y = windows[0]
        for other in windows[1:]:
            y = y.maximum(other)
        return geometry.from_channels_first(y, self.layout)
