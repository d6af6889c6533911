"""Convolution over one or two spatial axes: float, and integer in channels-last layout."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import worst_case
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops import geometry
from subbyte.graph.ops.centred import centred, centred_tensor, interval, tensor, weight_integers
from subbyte.graph.ops.checks import MAX_DIM, arity, array, codes, fault, floats, integer, ints, sized
from subbyte.graph.ops.epilogue import check_epilogue, infer_epilogue, rescale, rescale_tensor
from subbyte.graph.ops.exact import accumulator_dtype, matmul, product
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op
from subbyte.graph.ops.rectify import Rectify, rectified, validate_fused

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType

_CHUNK = 2**22
"""Numbers of the padded input that the reference holds at once."""


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Conv(Op):
    """Cross-correlation as in ONNX ``Conv`` and ``torch.nn.Conv1d/2d``; inputs x, weight[, bias].

    channels_first: x[N, C, *S], weight[O, C/groups, *K]; channels_last: x[N, *S, C], weight[O, *K, C/groups].

    Attributes:
        stride: per spatial axis.
        dilation: per spatial axis.
        padding: zeros in front of each spatial axis, then behind each: (left, right) or (top, left, bottom, right).
        groups: of channels that do not mix.
        layout: "channels_first" or "channels_last".
        rectify: activation applied to the result.
    """

    name: ClassVar[str] = "conv"
    dialect: ClassVar[Dialect] = "float"

    stride: tuple[int, ...] = (1, 1)
    dilation: tuple[int, ...] = (1, 1)
    padding: tuple[int, ...] = (0, 0, 0, 0)
    groups: int = 1
    layout: str = "channels_first"
    rectify: Rectify | None = None

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """Shape of the result in the operand's layout."""
        validate_fused(self, self.rectify)
        arity(self, operands, 2, 3)
        x = floats(self, operands, 0)
        spatial = geometry.spatial_rank(self, len(x))
        channel = geometry.channel_axis(self, self.layout, len(x))
        weight = array(self, operands, 1, "float32", (None,) * (spatial + 2))
        taps = weight.shape[2:] if channel == 1 else weight.shape[1:-1]
        per_group = weight.shape[1] if channel == 1 else weight.shape[-1]
        _check_groups(self, self.groups, x[channel], per_group, weight.shape[0])
        if len(operands) == 3:
            array(self, operands, 2, "float32", (weight.shape[0],))
        axes = geometry.windows(self, geometry.spatial_sizes(self, x, self.layout), taps)
        return sized(self, geometry.result_shape(x, self.layout, weight.shape[0], [a.out for a in axes]))

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.nn.functional.conv1d/2d``."""
        from torch.nn import functional

        x, weight, *rest = inputs
        bias = rest[0] if rest else None
        x, weight = (geometry.to_channels_first(t, self.layout) for t in (x, weight))
        rank = len(self.stride)
        before, after = self.padding[:rank], self.padding[rank:]
        if before != after:
            x = functional.pad(x, [p for pair in zip(before[::-1], after[::-1], strict=True) for p in pair])
            before = (0,) * rank
        conv = functional.conv1d if rank == 1 else functional.conv2d
        y = conv(x, weight, bias, self.stride, before, self.dilation, self.groups)
        return rectified(self.rectify, geometry.from_channels_first(y, self.layout))

    def macs(self, operands: Sequence[TensorType | Constant], out: Shape) -> int:
        """Results times weights of one output channel."""
        return _macs(operands[1].shape, out)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntConv(Op):
    """Convolution of stored integers, channels last; inputs x, weight codes, bias, m, n[, m_neg, n_neg].

    x[N, H, W, C]; weight QTensor [O, kh, kw, C/groups]; the others int32[O]. With X = q - zero_point (0 in the padding)
    and W the weight's integers, ``acc = bias + sum W * X`` in int32, then one rescale per channel:
    ``clip(z + ((acc * m + 2**(n - 1)) >> n), lo, hi)``; where acc < 0, (m_neg, n_neg) if present (leaky ReLU).
    With a pre_shift p above 0 the sum is taken in int64, and ``acc = ((sum + 2**(p - 1)) >> p) + bias``.

    Attributes:
        stride: (vertical, horizontal).
        dilation: (vertical, horizontal).
        padding: (top, left, bottom, right).
        groups: of channels that do not mix.
        lo: smallest stored result.
        hi: largest stored result.
        pre_shift: of the sum of products; above 0 they are summed in int64.
    """

    name: ClassVar[str] = "int_conv"
    dialect: ClassVar[Dialect] = "integer"

    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    padding: tuple[int, ...]
    groups: int
    lo: int
    hi: int
    pre_shift: int = 0

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """(batch, rows, columns, output channels)."""
        arity(self, operands, 5, 7)
        x = ints(self, operands, 0, coded=True).shape
        geometry.spatial_rank(self, len(x), (2,))
        weight = codes(self, operands, 1, 4).shape
        _check_groups(self, self.groups, x[3], weight[3], weight[0])
        infer_epilogue(self, operands, weight[0])
        axes = geometry.windows(self, geometry.spatial_sizes(self, x, "channels_last"), weight[1:3])
        return sized(self, (x[0], *(a.out for a in axes), weight[0]))

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """lo, hi within the result's format, and the proof of accumulator and sum."""
        check_epilogue(self, operands, out, self.pre_shift)

    def numpy(self, call: IntCall) -> Array:
        """One matrix product per kernel tap, summed."""
        x, weight = centred(call, 0), weight_integers(call.inputs[1])
        axes = self._axes(call, weight.shape)
        reach = ((0, 0), *(a.reach for a in axes), (0, 0))
        size = math.prod(d + sum(r) for d, r in zip(x.shape[1:], reach[1:], strict=True))
        step = max(1, _CHUNK // size)
        parts = [self._accumulate(np.pad(x[i : i + step], reach), weight, axes) for i in range(0, max(len(x), 1), step)]
        return rescale(call, np.concatenate(parts), self.pre_shift, self.lo, self.hi)

    def _accumulate(
        self, padded: npt.NDArray[np.int64], weight: npt.NDArray[np.int64], axes: Sequence[geometry.Axis]
    ) -> npt.NDArray[np.int64]:
        outputs, _, _, per_group = weight.shape
        shape = (len(padded), axes[0].out, axes[1].out, outputs)
        acc = np.zeros((self.groups, math.prod(shape[:3]), outputs // self.groups), dtype=np.int64)
        kernels = weight.reshape(self.groups, -1, *weight.shape[1:])
        for (i, j), (rows, columns) in geometry.taps(axes):
            patch = padded[:, rows, columns].reshape(-1, self.groups, per_group)
            acc += matmul(patch.transpose(1, 0, 2), kernels[:, :, i, j].transpose(0, 2, 1))
        return acc.transpose(1, 0, 2).reshape(shape)

    def torch_int(self, call: IntCall) -> Tensor:
        """The same sum of taps, carried in floats that hold it exactly."""
        from torch.nn import functional

        x = centred_tensor(call, 0)
        constant: QTensor = call.inputs[1]
        integers = weight_integers(constant)
        kind = call.types[0]
        assert kind is not None  # infer refuses a constant here
        dtype = accumulator_dtype(int(worst_case(integers, *interval(kind)).max()), x.device)
        axes = self._axes(call, integers.shape)
        padded = functional.pad(x, [0, 0, *geometry.torch_padding(axes)]).to(dtype)
        kernels = tensor(integers, x).to(dtype).reshape(self.groups, -1, *integers.shape[1:])
        shape = (x.shape[0], axes[0].out, axes[1].out, integers.shape[0])
        acc = padded.new_zeros((self.groups, math.prod(shape[:3]), integers.shape[0] // self.groups))
        for (i, j), (rows, columns) in geometry.taps(axes):
            patch = padded[:, rows, columns].reshape(-1, self.groups, integers.shape[3])
            acc += product(patch.transpose(0, 1), kernels[:, :, i, j].transpose(1, 2))
        return rescale_tensor(call, acc.long().transpose(0, 1).reshape(shape), self.pre_shift, self.lo, self.hi)

    def _axes(self, call: IntCall, weight: tuple[int, ...]) -> tuple[geometry.Axis, ...]:
        return geometry.windows(self, call.inputs[0].shape[1:3], weight[1:3])

    def macs(self, operands: Sequence[TensorType | Constant], out: Shape) -> int:
        """Results times weights of one output channel."""
        return _macs(operands[1].shape, out)


def _check_groups(op: Op, groups: int, channels: int | None, per_group: int, outputs: int) -> None:
    integer(op, "groups", 1, MAX_DIM)
    if channels != groups * per_group or outputs % groups:
        seen = f"{channels} channels in {groups} groups, weights [{outputs}, {per_group} per group]"
        rule = "channels = groups * weight channels per group, and groups divide the output channels"
        raise fault(op, seen, rule, "correct groups or the weight's shape")


def _macs(weight: Sequence[int | None], out: Shape) -> int:
    return math.prod(d for d in (*weight[1:], *out[1:]) if d is not None)
