"""Matrix product with a constant whose operand gets one scale per row while the network runs (dynamic, per token)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np

from subbyte.arithmetic.bounds import prove_conv, worst_case
from subbyte.arithmetic.per_token import MOST_CODE, coded_rows
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.centred import centred, centred_tensor, interval, tensor, weight_integers
from subbyte.graph.ops.checks import arity, codes, fault, integer, ints
from subbyte.graph.ops.epilogue import infer_epilogue, rescale, rescale_tensor
from subbyte.graph.ops.exact import accumulator_dtype, matmul, product
from subbyte.graph.ops.linear import linear_macs, linear_shape
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op
from subbyte.graph.ops.results import clamped

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, IntType, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntLinearPerToken(Op):
    """Linear layer on rows scaled one by one; inputs x[N, ..., K], weight codes [O, K], bias, m, n[, m_neg, n_neg].

    ``acc = sum(W * coded_rows(x - z_x, largest))`` of ``arithmetic/per_token.py``, whose real value is
    ``acc * s_x * s_w / largest``, in int64; shift, bias and rescale as in ``IntLinear``. Sums of codes and weights fit
    int32, so that kernels multiply bytes.

    Attributes:
        lo: smallest stored result.
        hi: largest stored result.
        largest: code of a row's largest number, 1..255: 255 for operands of 8 bits, 15 for 4.
        pre_shift: of the sum.
    """

    name: ClassVar[str] = "int_linear_per_token"
    dialect: ClassVar[Dialect] = "integer"

    lo: int
    hi: int
    largest: int
    pre_shift: int = 0

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape with O as its last axis."""
        integer(self, "largest", 1, MOST_CODE)
        arity(self, operands, 5, 7)
        x = ints(self, operands, 0).shape
        weight = codes(self, operands, 1, 2)
        smallest, largest = weight.interval()
        if smallest < -128 or largest > 127:
            seen = f"weights of integers {smallest}..{largest}"
            raise fault(self, seen, "beside rows with scales of their own weights fit int8", "use a format that does")
        infer_epilogue(self, operands, weight.shape[0])
        return linear_shape(self, x, weight.shape)

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """lo, hi within the result's format; the proofs of the sum, of the scaled one and of the accumulator."""
        clamped(self, out)
        weight, bias = operands[1], operands[2]
        if isinstance(weight, QTensor) and isinstance(bias, np.ndarray):
            place, reach = f"operator {self.name!r}", coded_reach(ints(self, operands, 0), self.largest)
            prove_conv(weight.integers(), 0, self.largest, place=place)
            prove_conv(weight.integers(), -reach, reach, bias, place, self.pre_shift)

    def numpy(self, call: IntCall) -> Array:
        """One matrix product of what the rows have become."""
        sums = matmul(coded_rows(centred(call, 0), self.largest), weight_integers(call.inputs[1]).T)
        return rescale(call, sums, self.pre_shift, self.lo, self.hi)

    def torch_int(self, call: IntCall) -> Tensor:
        """The same product, carried in numbers that hold it exactly."""
        rows = coded_rows_tensor(centred_tensor(call, 0), self.largest)
        integers, kind = weight_integers(call.inputs[1]), call.types[0]
        assert kind is not None  # infer refuses a constant here
        reach = coded_reach(kind, self.largest)
        dtype = accumulator_dtype(int(worst_case(integers, -reach, reach).max()), rows.device)
        sums = product(rows.to(dtype), tensor(integers, rows).to(dtype).T).long()
        return rescale_tensor(call, sums, self.pre_shift, self.lo, self.hi)

    def macs(self, operands: Sequence[TensorType | Constant], out: Shape) -> int:
        """Results times K."""
        return linear_macs(operands[1].shape, out)


def coded_rows_tensor(x: Tensor, largest: int) -> Tensor:
    """``coded_rows`` on int64 tensors [..., K] of any device."""
    low = x.amin(dim=-1, keepdim=True)
    spread = x.amax(dim=-1, keepdim=True) - low
    q = (2 * (x - low) * largest + spread).div((2 * spread).clamp(min=1), rounding_mode="floor")
    return q * spread + largest * low


def coded_reach(kind: IntType, largest: int) -> int:
    """Largest magnitude of a number of ``coded_rows``."""
    return largest * max(abs(end) for end in interval(kind))
