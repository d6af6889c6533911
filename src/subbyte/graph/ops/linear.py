"""Matrix product with a constant: float and integer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

from subbyte.arithmetic.bounds import worst_case
from subbyte.graph.ops.centred import centred, centred_tensor, interval, tensor, weight_integers
from subbyte.graph.ops.checks import arity, array, codes, fault, floats, ints, sized
from subbyte.graph.ops.epilogue import check_epilogue, infer_epilogue, rescale, rescale_tensor
from subbyte.graph.ops.exact import accumulator_dtype, matmul, product
from subbyte.graph.ops.op import Array, Dialect, IntCall, Op, register_op
from subbyte.graph.ops.rectify import Rectify, rectified, validate_fused

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Linear(Op):
    """``x @ weight.T + bias``; inputs x[N, ..., K], weight[O, K][, bias[O]].

    Attributes:
        rectify: activation applied to the result.
    """

    name: ClassVar[str] = "linear"
    dialect: ClassVar[Dialect] = "float"

    rectify: Rectify | None = None

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape with O as its last axis."""
        validate_fused(self, self.rectify)
        arity(self, operands, 2, 3)
        x = floats(self, operands, 0)
        weight = array(self, operands, 1, "float32", (None, None))
        if len(operands) == 3:
            array(self, operands, 2, "float32", (weight.shape[0],))
        return linear_shape(self, x, weight.shape)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through ``torch.nn.functional.linear``."""
        from torch.nn import functional

        x, weight, *bias = inputs
        return rectified(self.rectify, functional.linear(x, weight, bias[0] if bias else None))

    def macs(self, operands: Sequence[TensorType | Constant], out: Shape) -> int:
        """Results times K."""
        return linear_macs(operands[1].shape, out)


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class IntLinear(Op):
    """Linear layer on stored integers; inputs x[N, ..., K], weight codes [O, K], bias, m, n[, m_neg, n_neg].

    Accumulator and rescale as in ``IntConv``.

    Attributes:
        lo: smallest stored result.
        hi: largest stored result.
        pre_shift: of the sum of products; above 0 they are summed in int64.
    """

    name: ClassVar[str] = "int_linear"
    dialect: ClassVar[Dialect] = "integer"

    lo: int
    hi: int
    pre_shift: int = 0

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape with O as its last axis."""
        arity(self, operands, 5, 7)
        x = ints(self, operands, 0, coded=True).shape
        weight = codes(self, operands, 1, 2).shape
        infer_epilogue(self, operands, weight[0])
        return linear_shape(self, x, weight)

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """lo, hi within the result's format, and the proof of accumulator and sum."""
        check_epilogue(self, operands, out, self.pre_shift)

    def numpy(self, call: IntCall) -> Array:
        """One matrix product."""
        acc = matmul(centred(call, 0), weight_integers(call.inputs[1]).T)
        return rescale(call, acc, self.pre_shift, self.lo, self.hi)

    def torch_int(self, call: IntCall) -> Tensor:
        """The same product, carried in floats that hold it exactly."""
        x = centred_tensor(call, 0)
        integers = weight_integers(call.inputs[1])
        kind = call.types[0]
        assert kind is not None  # infer refuses a constant here
        dtype = accumulator_dtype(int(worst_case(integers, *interval(kind)).max()), x.device)
        acc = product(x.to(dtype), tensor(integers, x).to(dtype).T).long()
        return rescale_tensor(call, acc, self.pre_shift, self.lo, self.hi)

    def macs(self, operands: Sequence[TensorType | Constant], out: Shape) -> int:
        """Results times K."""
        return linear_macs(operands[1].shape, out)


def linear_shape(op: Op, x: Shape, weight: tuple[int, ...]) -> Shape:
    """Shape of x[N, ..., K] times weight[O, K]; GraphError where they do not fit."""
    if len(x) < 2 or x[-1] != weight[1]:
        seen = f"an activation {list(x)} meets weights {list(weight)}"
        raise fault(op, seen, "the last axis has as many entries as a weight row", "transpose or flatten before")
    return sized(op, (*x[:-1], weight[0]))


def linear_macs(weight: Sequence[int | None], out: Shape) -> int:
    """Multiply-accumulates of a sample: results times K."""
    return math.prod(d for d in (weight[1], *out[1:]) if d is not None)
