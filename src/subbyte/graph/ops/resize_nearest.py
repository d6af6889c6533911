"""Nearest-neighbour change of the spatial size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.graph.ops import geometry
from subbyte.graph.ops.checks import MAX_DIM, arity, integers, sized, value
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op
from subbyte.graph.ops.results import moved

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class ResizeNearest(Op):
    """Row i of the result is row ``i * rows_in // rows_out``, and so for columns.

    As ONNX ``Resize`` with mode nearest, asymmetric coordinates and rounding down; ``torch.nn.Upsample`` is the same
    up to the rounding of its float scale.

    Attributes:
        size: (rows, columns) of the result.
        layout: "channels_first" or "channels_last".
    """

    name: ClassVar[str] = "resize_nearest"
    dialect: ClassVar[Dialect] = "both"

    size: tuple[int, int]
    layout: str = "channels_first"

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape with the new rows and columns."""
        arity(self, operands, 1)
        x = value(self, operands, 0).shape
        geometry.spatial_rank(self, len(x), (2,))
        size = integers(self, "size", 2, 1, MAX_DIM)
        channels = x[geometry.channel_axis(self, self.layout, len(x))]
        return sized(self, geometry.result_shape(x, self.layout, channels or 0, size))

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result keeps the operand's quantization."""
        moved(self, operands, out)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Rows, then columns picked by index."""
        import torch

        (x,) = inputs
        for axis, out in zip(self._axes(), self.size, strict=True):
            x = x.index_select(axis, torch.arange(out, device=x.device) * x.shape[axis] // out)
        return x

    def numpy(self, call: IntCall) -> Array:
        """Of stored integers."""
        x = np.asarray(call.inputs[0])
        for axis, out in zip(self._axes(), self.size, strict=True):
            x = np.take(x, np.arange(out) * x.shape[axis] // out, axis=axis)
        return x

    def torch_int(self, call: IntCall) -> Tensor:
        """Of stored integers."""
        return self.torch(*call.inputs)

    def _axes(self) -> tuple[int, int]:
        return (2, 3) if self.layout == "channels_first" else (1, 2)
