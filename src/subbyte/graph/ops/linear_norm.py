"""Linear layers without bias whose results are renormalised at run time by a power of two, sample by sample.

Nets that are trained so (BitNetMCU's ``ReLUNorm``) store no scale anywhere: of each sample the largest accumulator
decides by how many bits all of them are shifted. That is legal in a chain alone, where nothing adds a number of a known
scale, no bias and no other branch, because from the first layer on nobody knows what real number a code stands for. The
last layer answers with the position of its largest accumulator, which no scale changes.

A sample without a positive accumulator is all zeros here; in the device's C a shift by 32 would be undefined.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.bounds import prove_conv, worst_case
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.centred import centred, centred_tensor, interval, tensor, weight_integers
from subbyte.graph.ops.checks import arity, codes, fault, integer, ints, sized
from subbyte.graph.ops.exact import accumulator_dtype, matmul
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op, stored
from subbyte.graph.ops.renormalise import (
    INT16,
    check_renormalised,
    check_weights,
    renormalised,
    renormalised_tensor,
)
from subbyte.graph.ops.results import fixed

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntLinearNorm(Op):
    """ReLU of a linear layer, as many bits shorter as its largest accumulator asks; inputs x[N, ..., K], codes [O, K].

    ``acc = sum w (x - z_x)``, renormalised (``renormalise.py``) by the largest of the O accumulators.

    Attributes:
        hi: largest stored result, 1 or more; 127 for 8-bit activations.
    """

    name: ClassVar[str] = "int_linear_norm"
    dialect: ClassVar[Dialect] = "integer"

    hi: int

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape with O as its last axis."""
        integer(self, "hi", 1, INT16[1])
        x, outputs = _shapes(self, operands)
        return sized(self, (*x[:-1], outputs))

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """The result holds 0..hi with zero point 0; the accumulator proof."""
        check_renormalised(self, out, self.hi)
        _prove(self, operands)

    def numpy(self, call: IntCall) -> Array:
        """The formula, sample by sample."""
        return stored(renormalised(_accumulators(call), self.hi), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """The same on int64 tensors."""
        return renormalised_tensor(_accumulator_tensor(call), self.hi)

    def macs(self, operands: Sequence[TensorType | Constant], out: Shape) -> int:
        """Results times K."""
        return _product(operands[1].shape[1], *out[1:])


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntLinearArgmax(Op):
    """Position of the largest accumulator of a linear layer, the first on ties; inputs x[N, ..., K], codes [O, K].

    The result is int16 with scale 1, as of ``argmax``: no stored number could tell all accumulators apart.
    """

    name: ClassVar[str] = "int_linear_argmax"
    dialect: ClassVar[Dialect] = "integer"

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape without its last axis."""
        x, outputs = _shapes(self, operands)
        if outputs > INT16[1] + 1:
            raise fault(self, f"{outputs} outputs", "positions fit int16", "split the layer")
        return sized(self, x[:-1])

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """Positions are int16 with scale 1 and zero point 0; the accumulator proof."""
        fixed(self, out, 1.0, 0, (operands[1].shape[0] or 1) - 1)
        _prove(self, operands)

    def numpy(self, call: IntCall) -> Array:
        """Of the accumulators."""
        return stored(_accumulators(call).argmax(axis=-1), call.out.storage)

    def torch_int(self, call: IntCall) -> Tensor:
        """Of the accumulators; torch does not say which of several it takes, so the first is looked for."""
        import torch

        acc = _accumulator_tensor(call)
        places = torch.arange(acc.shape[-1], device=acc.device)
        return torch.where(acc == acc.amax(dim=-1, keepdim=True), places, acc.shape[-1]).amin(dim=-1)

    def macs(self, operands: Sequence[TensorType | Constant], out: Shape) -> int:
        """Rows times O times K."""
        return _product(*operands[1].shape, *out[1:])


def _shapes(op: Op, operands: Sequence[TensorType | Constant]) -> tuple[Shape, int]:
    arity(op, operands, 2)
    x = ints(op, operands, 0).shape
    weight = codes(op, operands, 1, 2)
    check_weights(op, weight)
    if len(x) < 2 or x[-1] != weight.shape[1]:
        seen = f"an activation {list(x)} meets weights {list(weight.shape)}"
        raise fault(op, seen, "the last axis has as many entries as a weight row", "transpose or flatten before")
    return x, weight.shape[0]


def _prove(op: Op, operands: Sequence[TensorType | Constant]) -> None:
    weight = operands[1]
    assert isinstance(weight, QTensor)  # infer refuses anything else
    prove_conv(weight.integers(), *interval(ints(op, operands, 0)), None, f"operator {op.name!r}")


def _accumulators(call: IntCall) -> npt.NDArray[np.int64]:
    return matmul(centred(call, 0), weight_integers(call.inputs[1]).T)


def _accumulator_tensor(call: IntCall) -> Tensor:
    x, integers, kind = centred_tensor(call, 0), weight_integers(call.inputs[1]), call.types[0]
    assert kind is not None  # infer refuses a constant here
    dtype = accumulator_dtype(int(worst_case(integers, *interval(kind)).max()), x.device)
    return (x.to(dtype) @ tensor(integers, x).to(dtype).T).long()


def _product(*dims: int | None) -> int:
    return math.prod(d for d in dims if d is not None)
