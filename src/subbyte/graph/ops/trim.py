"""Trim of 8-bit codes to moving windows of few bits, in front of the layer that multiplies them (SPARQ)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.formats.trims import QUAD, Trim, get_trim, trimmed, trims
from subbyte.graph.ir import IntType
from subbyte.graph.ops.centred import tensor
from subbyte.graph.ops.checks import arity, choice, fault, integer, ints, sized
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.results import integer_result

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntTrim(Op):
    """``trimmed(q)`` over the last axis, see ``formats/trims.py``; input x (256 levels); the result keeps its codes.

    Attributes:
        trim: name of the trim.
        group: channels that the layer behind multiplies together; divides all channels.
    """

    name: ClassVar[str] = "int_trim"
    dialect: ClassVar[Dialect] = "integer"

    trim: str
    group: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape; under ``stc`` with four versions of every channel."""
        choice(self, "trim", [t.name for t in trims()])
        arity(self, operands, 1)
        x = ints(self, operands, 0)
        if x.storage != "uint8" or (x.lo, x.hi) != (0, 255):
            seen = f"an operand of format {x.format.name!r} with {x.lo}..{x.hi} stored as {x.storage}"
            raise fault(self, seen, "trims take codes of 8 bits, 0..255", "keep the operand in uint8")
        channels = x.shape[-1] if len(x.shape) > 1 else None
        if channels is None:
            raise fault(self, "an operand without channels", "the last axis holds channels", "reshape it before")
        if channels % integer(self, "group", 1, channels):
            rule = f"the group divides the operand's {channels} channels"
            raise fault(self, f"a group of {self.group} channels", rule, "correct the group")
        return sized(self, (*x.shape[:-1], channels * self._trim.versions))

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result has the operand's scale, zero point and format."""
        x, declared = ints(self, operands, 0), integer_result(self, out)
        if (x.scale, x.zero_point, x.lo, x.hi) != (declared.scale, declared.zero_point, declared.lo, declared.hi):
            seen = f"scale {x.scale} and zero point {x.zero_point} become {declared.scale} and {declared.zero_point}"
            raise fault(self, seen, "a trim keeps scale, zero point and range", "declare the operand's type")

    def numpy(self, call: IntCall) -> Array:
        """The definition itself."""
        codes = np.asarray(call.inputs[0], dtype=np.uint8)
        return stored(trimmed(codes, self._trim, call.out.zero_point, self.group), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """The same codes from tables."""
        x: Tensor = call.inputs[0]
        return trimmed_tensor(x, self._trim, call.out.zero_point, self.group)

    @property
    def _trim(self) -> Trim:
        return get_trim(self.trim)


def trimmed_tensor(x: Tensor, trim: Trim, zero_point: int, group: int) -> Tensor:
    """What ``trimmed`` gives, on int64 tensors [..., C] of any device."""
    import torch

    tables = tensor(trim.tables(zero_point), x)
    if trim.shared:
        size = (x - zero_point).abs()
        largest = _units(size, x.shape[-1], trim.shared).amax(dim=-1, keepdim=True)
        reach = torch.tensor([2 ** (trim.window.bits + s) - 1 for s in trim.window.shifts], device=x.device)
        which = torch.bucketize(largest, reach).expand(*largest.shape[:-1], trim.shared)
        which = which.flatten(-3)[..., : x.shape[-1]]
        return tables[which, x]
    if trim.pairing == "none":
        return tables[0][x]
    alone, wide = tables[0][x], tables[1][x]
    if trim.pairing == "pairs":
        return torch.where(_partner(x - zero_point, group, 2, 1) == 0, wide, alone)
    seen = [torch.where(_partner(x - zero_point, group, QUAD, k) == 0, wide, alone) for k in range(1, QUAD)]
    return torch.stack([*seen, wide], dim=-1).flatten(-2)


def _units(x: Tensor, length: int, unit: int) -> Tensor:
    """[..., C / length, units, unit], zeros behind the end of every ``length`` channels."""
    from torch.nn import functional

    parts = x.reshape(*x.shape[:-1], x.shape[-1] // length, length)
    return functional.pad(parts, (0, -length % unit)).reshape(*parts.shape[:-1], -(-length // unit), unit)


def _partner(x: Tensor, length: int, unit: int, step: int) -> Tensor:
    turned = _units(x, length, unit).roll(-step, dims=-1)
    return turned.flatten(-2)[..., :length].flatten(-2)


def trimmed_type(x: IntType, trim: Trim) -> IntType:
    """Type of a trimmed value."""
    return replace(x, shape=(*x.shape[:-1], (x.shape[-1] or 1) * trim.versions))
