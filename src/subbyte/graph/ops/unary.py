"""Smooth functions of one number; lowering turns them into tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, final

import numpy as np
import numpy.typing as npt

from subbyte.graph.ops.checks import arity, choice, fault, floats, real
from subbyte.graph.ops.op import Dialect, Op, register_op

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Shape, TensorType

Reals = npt.NDArray[np.float64]

FUNCTIONS = ("sigmoid", "tanh", "hard_sigmoid", "hard_swish", "silu", "gelu", "gelu_tanh", "exp")


@final
@register_op
@dataclass(frozen=True, kw_only=True)
class Unary(Op):
    """``y = function(x)`` element-wise.

    hard_sigmoid is ``clip(alpha * x + beta, 0, 1)`` with params (alpha, beta), hard_swish is
    ``x * clip(x / 6 + 0.5, 0, 1)``, silu ``x * sigmoid(x)``; gelu uses the error function, gelu_tanh the tanh formula
    of Hendrycks and Gimpel 2016, "Gaussian Error Linear Units", section 2.

    Attributes:
        function: one of FUNCTIONS.
        params: of the function, () for all but hard_sigmoid.
    """

    name: ClassVar[str] = "unary"
    dialect: ClassVar[Dialect] = "float"

    function: str
    params: tuple[float, ...] = ()

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """The operand's shape."""
        choice(self, "function", FUNCTIONS)
        expected = 2 if self.function == "hard_sigmoid" else 0
        if type(self.params) is not tuple or len(self.params) != expected:
            seen = f"{self.function} with params {self.params!r}"
            raise fault(self, seen, f"it has a tuple of {expected} parameters", "correct params")
        for parameter in self.params:
            real(self, "params", parameter)
        arity(self, operands, 1)
        return floats(self, operands, 0)

    def torch(self, *inputs: Tensor) -> Tensor:
        """Through torch's own function where it has one."""
        from torch.nn import functional

        (x,) = inputs
        match self.function:
            case "hard_sigmoid":
                alpha, beta = self.params
                return (alpha * x + beta).clamp(0, 1)
            case "hard_swish":
                return functional.hardswish(x)
            case "silu":
                return functional.silu(x)
            case "gelu":
                return functional.gelu(x)
            case "gelu_tanh":
                return functional.gelu(x, approximate="tanh")
            case "sigmoid":
                return x.sigmoid()
            case "tanh":
                return x.tanh()
            case _:
                return x.exp()

    def reals(self, x: Reals) -> Reals:
        """The same function of float64 numbers in NumPy, from which tables are made."""
        if self.function == "hard_sigmoid":
            alpha, beta = self.params
            return np.clip(alpha * x + beta, 0.0, 1.0)
        return _REALS[self.function](x)


def _sigmoid(x: Reals) -> Reals:
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * x)))  # no overflow at either end


def _gelu(x: Reals) -> Reals:
    erf = np.vectorize(math.erf, otypes=[np.float64])
    return np.asarray(0.5 * x * (1.0 + erf(x / math.sqrt(2.0))))


def _gelu_tanh(x: Reals) -> Reals:
    return np.asarray(0.5 * x * (1.0 + np.tanh(math.sqrt(2.0 / math.pi) * (x + 0.044715 * x**3))))


_REALS: dict[str, Callable[[Reals], Reals]] = {
    "sigmoid": _sigmoid,
    "tanh": np.tanh,
    "hard_swish": lambda x: x * np.clip(x / 6.0 + 0.5, 0.0, 1.0),
    "silu": lambda x: x * _sigmoid(x),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "exp": np.exp,
}
