"""What converters of aten operators work with: operands, the call, and the table of converters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

import numpy as np

from subbyte.errors import GraphError
from subbyte.graph.ir import Shape
from subbyte.graph.ops import Op

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Value:
    """An activation: its name in the graph and its shape, BATCH first."""

    name: str
    shape: Shape

    @property
    def rank(self) -> int:
        """Number of axes, the batch counted."""
        return len(self.shape)

    def axis(self, dim: int) -> int:
        """A possibly negative torch dimension as an axis behind the batch.

        Raises:
            Unsupported: it is the batch.
        """
        axis = dim % self.rank
        if axis == 0:
            raise Unsupported("it works along the batch axis")
        return axis


@dataclass(frozen=True)
class Fixed:
    """A constant: a weight under the user's name, or what was computed from constants alone."""

    name: str
    tensor: torch.Tensor


@dataclass(frozen=True)
class Parts:
    """Consecutive pieces of a value along an axis (chunk, split, unbind); each becomes a node when it is used."""

    value: Value
    axis: int
    sizes: tuple[int, ...]
    squeeze: bool


class Unsupported(Exception):  # noqa: N818 - never reaches the user: collected, then reported together
    """Why one operator of the user's module has no counterpart here; empty where its name says enough."""


NO_BATCH = "its result has no batch axis in front, or another axis that depends on the batch"


class Builder(Protocol):
    """What ``Call`` needs of the graph that grows (see ``torch_graph.py``)."""

    def add_node(self, op: Op, inputs: Sequence[str], name: str, module: str) -> Value:
        """Append a node under a unique form of its name."""
        ...

    def add_constant(self, name: str, array: np.ndarray[Any, np.dtype[np.float32]]) -> str:
        """Store a constant under a unique form of its name, unless the same is there already."""
        ...


Operand: TypeAlias = Value | Fixed


@dataclass(frozen=True)
class Call:
    """One aten call with resolved arguments.

    Attributes:
        builder: takes the nodes.
        args: by the schema's argument names: Value, Fixed, Python numbers, lists of these, None.
        shape: of the result, BATCH first; () where it has none such (a tuple of results, no batch).
        meta: torch's own (fake) result.
        name: of the node that holds the result.
        module: the user's module path.
    """

    builder: Builder
    args: dict[str, Any]
    shape: Shape
    meta: Any
    name: str
    module: str

    def __getitem__(self, argument: str) -> Any:
        return self.args.get(argument)

    def value(self, argument: str = "self") -> Value:
        """The argument, which must be an activation."""
        found = self.args.get(argument)
        if isinstance(found, Value):
            return found
        raise Unsupported(f"its argument {argument!r} is a constant, and another one is not")

    def fixed(self, argument: str) -> Fixed:
        """The argument, which must be a constant."""
        found = self.args.get(argument)
        if isinstance(found, Fixed):
            return found
        raise Unsupported(f"its argument {argument!r} is computed from the input; only constants are possible there")

    def number(self, argument: str, default: float | None = None) -> float:
        """The argument as a float; constants of one element count."""
        found = self.args.get(argument)
        if found is None and default is not None:
            return default
        if isinstance(found, Fixed) and found.tensor.numel() == 1:
            return float(found.tensor)
        if isinstance(found, int | float):
            return float(found)
        raise Unsupported(f"its argument {argument!r} is no number known beforehand")

    def pair(self, argument: str, dims: int, default: Sequence[int] = ()) -> tuple[int, ...]:
        """An argument with one entry per spatial axis, where one entry stands for all."""
        found = self.args.get(argument)
        entries = tuple(found) if isinstance(found, list | tuple) else () if found is None else (found,)
        entries = entries or tuple(default)
        return tuple(int(e) for e in (entries * dims if len(entries) == 1 else entries))

    def known_shape(self) -> Shape:
        """Shape of the result, for converters that take it from torch."""
        if not self.shape:
            raise Unsupported(NO_BATCH)
        return self.shape

    def spatial(self, value: Value) -> int:
        """Number of spatial axes of a channels-first value, 1 or 2."""
        if value.rank in {3, 4}:
            return value.rank - 2
        raise Unsupported(f"its input has {value.rank} axes; batch, channels and one or two more are possible")

    def emit(self, op: Op, *inputs: Operand | str, part: str = "") -> Value:
        """Append a node; ``part`` names an inner step of a call that takes several.

        Raises:
            Unsupported: the operator cannot take these operands.
        """
        names = [self._constant(i) if isinstance(i, Fixed) else i if isinstance(i, str) else i.name for i in inputs]
        try:
            return self.builder.add_node(op, names, f"{self.name}.{part}" if part else self.name, self.module)
        except GraphError as error:
            raise Unsupported(f"{error.seen}; {error.rule}") from error

    def constant(self, array: Any, name: str) -> str:
        """Store a computed constant; ``name`` is its last part where it is the call's own."""
        return self.builder.add_constant(name, np.asarray(array, np.float32))

    def _constant(self, fixed: Fixed) -> str:
        return self.constant(to_numpy(fixed.tensor), fixed.name)


def to_numpy(tensor: torch.Tensor) -> np.ndarray[Any, np.dtype[np.float32]]:
    """A float32 copy: training the module later must not change the graph."""
    import torch

    return np.array(tensor.detach().to("cpu", torch.float32).numpy(), np.float32, order="C")


Result: TypeAlias = "Value | Parts | Sequence[Value | None]"
Converter: TypeAlias = Callable[[Call], Result]


class Table(dict[str, Converter]):
    """Converters by name of the aten operator without overload; in-place forms (``relu_``) go by the plain name."""

    def add(self, *names: str) -> Callable[[Converter], Converter]:
        """Decorator that enters a converter."""

        def enter(converter: Converter) -> Converter:
            self.update(dict.fromkeys(names, converter))
            return converter

        return enter
