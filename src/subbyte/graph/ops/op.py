"""What an operator is, and the registry of all of them."""

from __future__ import annotations

import dataclasses
from abc import ABC
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar

import numpy as np
import numpy.typing as npt

from subbyte.errors import GraphError, unknown_name
from subbyte.graph.ir import FloatType

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.graph.ir import Constant, Graph, IntType, Node, Shape, TensorType

Dialect = Literal["float", "integer", "both"]
Array = npt.NDArray[Any]


@dataclasses.dataclass(frozen=True, slots=True)
class IntCall:
    """What an integer operator is evaluated on.

    Attributes:
        inputs: in the operator's order the stored integers of the activations, batch first (arrays of their storage
            for ``numpy``, int64 tensors for ``torch_int``), and the constants as the graph holds them.
        types: for each input its IntType, or None where it is a constant.
        out: declared type of the result.
    """

    inputs: Sequence[Any]
    types: Sequence[IntType | None]
    out: IntType

    @staticmethod
    def of(graph: Graph, node: Node, env: Mapping[str, Any]) -> IntCall:
        """The call that a node of an integer graph makes, with its activations taken from ``env``."""
        kinds = [graph.types.get(name) for name in node.inputs]
        return IntCall(
            inputs=[graph.constants[n] if t is None else env[n] for n, t in zip(node.inputs, kinds, strict=True)],
            types=[None if t is None else _integer(t, node) for t in kinds],
            out=_integer(graph.types[node.output], node),
        )


def _integer(kind: TensorType, node: Node) -> IntType:
    if isinstance(kind, FloatType):
        raise GraphError(
            f"node {node.name!r} touches a float value",
            "an integer graph holds integers only",
            "lower the graph before running it in integers",
        )
    return kind


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

    def check(self, operands: Sequence[TensorType | Constant], out: TensorType) -> None:
        """Test what depends on the declared type of the result (ranges, scales, accumulator proofs).

        Called after ``infer`` has accepted the operands.

        Raises:
            GraphError: the declared type does not go with the operands or attributes.
            LoweringError: an accumulator can leave int32.
        """
        del operands, out

    def torch(self, *inputs: Tensor) -> Tensor:
        """Float meaning: differentiable, float32 in and out, batch first."""
        raise _undefined(self, "torch")

    def numpy(self, call: IntCall) -> Array:
        """Integer meaning, obvious and normative; returns stored integers of ``call.out.storage``."""
        raise _undefined(self, "numpy")

    def torch_int(self, call: IntCall) -> Tensor:
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
