"""What an operator is, and the registry of all of them."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from subbyte.errors import GraphError, unknown_name

if TYPE_CHECKING:
    import torch

    from subbyte.graph.ir import Constant, IntType, Shape, TensorType

Dialect = Literal["float", "integer", "both"]
Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class IntCall:
    """What an integer operator is evaluated on.

    Attributes:
        inputs: stored integers of the activations (batch first) and the constants, in the operator's order.
        types: for each input its IntType, or None where it is a constant.
        out: declared type of the result.
    """

    inputs: Sequence[Any]
    types: Sequence[IntType | None]
    out: IntType


class Op(ABC):
    """An operator with its attributes: a frozen dataclass of ints, floats, strings, bools and tuples of them.

    Subclasses are final. A float operator gives ``infer`` and ``torch``; an integer one ``infer``, ``numpy`` and
    ``torch_int``; movement operators (dialect "both") all of them. Executors look nowhere else for meaning.
    """

    name: ClassVar[str]
    dialect: ClassVar[Dialect]

    def infer(self, operands: Sequence[TensorType | Constant]) -> Shape:
        """Output shape from the operands' types; raises GraphError where they do not fit."""
        raise _undefined(self, "infer")

    def torch(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Float meaning: differentiable, float32 in and out, batch first."""
        raise _undefined(self, "torch")

    def numpy(self, call: IntCall) -> Array:
        """Integer meaning, obvious and normative; returns stored integers of ``call.out.storage``."""
        raise _undefined(self, "numpy")

    def torch_int(self, call: IntCall) -> torch.Tensor:
        """The same integers as ``numpy`` from torch (int64 tensors in and out), exact on any device."""
        raise _undefined(self, "torch_int")

    def macs(self, operands: Sequence[TensorType | Constant], out: Shape) -> int:
        """Multiply-accumulates per sample; 0 for operators that multiply nothing."""
        del operands, out
        return 0


def _undefined(op: Op, what: str) -> GraphError:
    return GraphError(
        f"operator {op.name!r} has no {what} meaning",
        f"it belongs to the {op.dialect} dialect",
        "run the graph on an executor of that dialect",
    )


_REGISTRY: dict[str, type[Op]] = {}
_OpT = TypeVar("_OpT", bound=type[Op])


def register_op(cls: _OpT) -> _OpT:
    """Class decorator that makes an operator known by its name."""
    if cls.name in _REGISTRY:
        raise ValueError(f"operator {cls.name} registered twice")
    _REGISTRY[cls.name] = cls
    return cls


def op_class(name: str) -> type[Op]:
    """The operator class of a name; GraphError with the nearest names if unknown."""
    if name not in _REGISTRY:
        raise GraphError(*unknown_name("operator", name, _REGISTRY))
    return _REGISTRY[name]


def op_names() -> list[str]:
    """Names of all operators, sorted."""
    return sorted(_REGISTRY)


def attributes(op: Op) -> dict[str, Any]:
    """The operator's attributes as plain JSON-able values."""
    return {f.name: getattr(op, f.name) for f in dataclasses.fields(op)}  # type: ignore[arg-type]


def stored(array: Array, storage: str) -> Array:
    """Integers cast to a storage dtype after a check that nothing is lost (a wrong kernel must not wrap silently)."""
    result = array.astype(storage)
    if not np.array_equal(result, array):
        raise GraphError(
            f"values {array.min()}..{array.max()} leave {storage}",
            "an operator's result fits its storage",
            "report this as a defect of the operator",
        )
    return result
