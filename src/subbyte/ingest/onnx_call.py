"""What converters of ONNX operators work with: one node with its operands, the graph that grows, the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.errors import GraphError, IngestError
from subbyte.graph.ir import Constant, Dim, FloatType, Node, Shape, TensorType
from subbyte.graph.ops import Op
from subbyte.ingest.onnx_fold import WORLDS, Static, batch_entries

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Activation:
    """A value computed from the inputs.

    Attributes:
        name: in the file and in the graph.
        shape: BATCH first.
        integral: whether the file holds it as integers (argmax); the graph holds the same numbers as reals.
    """

    name: str
    shape: Shape
    integral: bool = False


Operand: TypeAlias = Activation | Static


@dataclass
class Builder:
    """The graph that grows.

    Attributes:
        fixed_batch: leading length of the inputs where the file fixes it; it is the batch all the same.
        operands: every name of the file that is known so far.
        reserved: all names of the file, which invented names avoid.
    """

    fixed_batch: int | None
    reserved: set[str]
    operands: dict[str, Operand] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    constants: dict[str, Constant] = field(default_factory=dict)
    nodes: list[Node] = field(default_factory=list)
    node_names: set[str] = field(default_factory=set)

    def add_value(self, name: str, shape: Shape, *, integral: bool = False) -> Activation:
        """Declare an activation."""
        self.types[name] = FloatType(shape=shape)
        value = Activation(name, shape, integral)
        self.operands[name] = value
        return value

    def invent(self, name: str) -> str:
        """A name for something that the file does not name."""
        return _free(name, {*self.reserved, *self.types, *self.constants})

    def add_constant(self, name: str, array: Floats) -> str:
        """Store a constant under its name, or with a number behind it where that holds other numbers."""
        held = self.constants.get(name)
        if isinstance(held, np.ndarray) and held.shape == array.shape and np.array_equal(held, array):
            return name
        if held is not None:
            name = self.invent(name)
        self.constants[name] = array
        return name


def _free(name: str, taken: set[str]) -> str:
    result, number = name, 1
    while result in taken:
        result, number = f"{name}_{number}", number + 1
    return result


@dataclass(frozen=True)
class Call:
    """One node of the file with its operands.

    Attributes:
        builder: takes the nodes.
        kind: the operator's name.
        name: of the node; the name of its first output where it has none.
        opset: version of the standard operators.
        attributes: by name, strings decoded.
        operands: in order, None where left out.
        outputs: names, "" where left out.
        place: for errors.
    """

    builder: Builder
    kind: str
    name: str
    opset: int
    attributes: dict[str, Any]
    operands: tuple[Operand | None, ...]
    outputs: tuple[str, ...]
    place: str

    def fail(self, seen: str, rule: str, remedy: str) -> IngestError:
        """The error of this node; the caller raises it."""
        return IngestError(seen, rule, remedy, self.place)

    # ------------------------------------------------------------------ operands

    def has(self, index: int) -> bool:
        """Whether the operand is given."""
        return index < len(self.operands) and self.operands[index] is not None

    def value(self, index: int = 0) -> Activation:
        """The operand, which must be an activation."""
        found = self.operands[index] if self.has(index) else None
        if isinstance(found, Activation):
            return found
        rule = f"operand {index} of {self.kind} is computed from the inputs"
        raise self.fail(f"operand {index} is a constant", rule, "move constants to the other operand, or fold them")

    def static(self, index: int) -> Static:
        """The operand, which must be known before any sample."""
        found = self.operands[index] if self.has(index) else None
        if isinstance(found, Static):
            return found
        seen = f"operand {index} is {'computed from the inputs' if found else 'missing'}"
        raise self.fail(seen, f"operand {index} of {self.kind} is a constant", "fix it when exporting the model")

    def array(self, index: int) -> Array:
        """A constant operand that does not depend on the batch."""
        static = self.static(index)
        if not static.fixed:
            seen = f"operand {index} ({static.name!r}) depends on the batch size"
            raise self.fail(seen, "constants are the same for every batch", "export with a dynamic batch axis")
        return static.array

    def floats(self, index: int) -> Floats:
        """A constant operand as float32, finite."""
        return self.finite(self.as_float32(self.array(index), self.static(index).name), self.static(index).name)

    def sizes(self, index: int) -> tuple[Dim, ...]:
        """A constant vector of integers, None where an entry is the batch."""
        static = self.static(index)
        entries = batch_entries(static)
        if entries is None:
            seen = f"operand {index} ({static.name!r}) holds {static.worlds[0].reshape(-1)[:8].tolist()} for a batch of"
            seen = f"{seen} {WORLDS[0]} and {static.worlds[1].reshape(-1)[:8].tolist()} for {WORLDS[1]}"
            raise self.fail(seen, "a size is a number or the batch itself", "keep the batch as an axis of its own")
        return entries

    def integers(self, index: int) -> tuple[int, ...]:
        """A constant vector of integers, none of which is the batch."""
        entries = self.sizes(index)
        known = tuple(e for e in entries if e is not None)
        if len(known) != len(entries):
            raise self.fail(f"operand {index} holds the batch size", "it is known beforehand", "fix it when exporting")
        return known

    def scalar(self, index: int, default: float) -> float:
        """A constant operand of one element, or the default where it is left out."""
        if not self.has(index):
            return default
        array = self.array(index)
        if array.size != 1 or array.dtype.kind in "OSU":
            seen = f"operand {index} is {array.dtype}{list(array.shape)}"
            raise self.fail(seen, f"operand {index} of {self.kind} is one number", "correct the model")
        return float(array.reshape(-1)[0])

    def as_float32(self, array: Array, name: str) -> Floats:
        """The array in float32 (float16 and bfloat16 convert exactly, float64 and integers only if they do)."""
        if array.dtype == np.float32:
            return np.ascontiguousarray(array).reshape(array.shape)
        if array.dtype.kind not in "biuf" and array.dtype.name != "bfloat16":
            seen = f"{name!r} has the type {array.dtype}"
            raise self.fail(seen, "constants are real numbers", "export the model in float32")
        with np.errstate(over="ignore", invalid="ignore"):
            result = array.astype(np.float32)
            kept = np.array_equal(result.astype(array.dtype), array, equal_nan=array.dtype.kind == "f")
        if array.dtype.itemsize > 2 and not kept:
            seen = f"{name!r} is {array.dtype} with numbers that float32 does not hold"
            raise self.fail(seen, "weights and constants are float32 or convert exactly", "export the model in float32")
        return result

    def finite(self, array: Floats, name: str) -> Floats:
        """The array, if it holds neither NaN nor infinity and is not empty."""
        wrong = np.argwhere(~np.isfinite(array))
        if array.size == 0 or wrong.size or (array.ndim == 0 and not np.isfinite(array)):
            where = [int(i) for i in wrong[0]] if wrong.size else []
            seen = f"{name!r} is empty" if array.size == 0 else f"{name!r} holds {array[tuple(where)]} at {where}"
            raise self.fail(seen, "weights and constants are finite", "repair the model; look for overflow in training")
        return array

    # ------------------------------------------------------------------ attributes

    def attribute(self, name: str, default: Any) -> Any:
        """The attribute, or the default where it is left out; onnx's checker has seen that its type is right."""
        return self.attributes.get(name, default)

    def vector(self, name: str, default: Sequence[int]) -> tuple[int, ...]:
        """An attribute of integers."""
        return tuple(int(v) for v in self.attributes.get(name, default))

    def axis(self, axis: int, rank: int) -> int:
        """A possibly negative axis as one behind the batch."""
        if not -rank <= axis < rank or axis % rank == 0:
            seen = f"axis {axis} of a tensor of {rank} axes"
            raise self.fail(seen, f"{self.kind} works on an axis behind the batch", "keep the batch as the first axis")
        return axis % rank

    def only_first_output(self) -> None:
        """Refuse further results (masks, indices, training statistics)."""
        if any(self.outputs[1:]):
            seen = f"output {next(filter(None, self.outputs[1:]))!r} of {self.kind} is used"
            raise self.fail(seen, "only its first output has a counterpart", "export the model for inference")

    # ------------------------------------------------------------------ results

    def constant(self, name: str, array: Floats) -> str:
        """Store a constant after a test that it is finite; its name in the graph."""
        return self.builder.add_constant(name, self.finite(array, name))

    def emit(self, op: Op, *inputs: str, output: str | None = None, integral: bool = False) -> Activation:
        """Append a node.

        Args:
            op: the operator.
            inputs: names of activations and stored constants.
            output: name of the result; the node's first output if left out, an invented one if "".
            integral: see ``Activation``.

        Raises:
            IngestError: the operator cannot take these operands.
        """
        builder = self.builder
        result = self.outputs[0] if output is None else output or builder.invent(f"{self.outputs[0]}:{op.name}")
        try:
            shape = op.infer([builder.types[i] if i in builder.types else builder.constants[i] for i in inputs])
        except GraphError as error:
            raise self.fail(error.seen, error.rule, error.remedy) from error
        name = _free(self.name if result == self.outputs[0] else result, builder.node_names)
        builder.node_names.add(name)
        builder.nodes.append(Node(name=name, op=op, inputs=inputs, output=result, module=self.name))
        return builder.add_value(result, shape, integral=integral)


Converter: TypeAlias = Callable[[Call], None]


class Table(dict[str, Converter]):
    """Converters by name of the standard operator."""

    def add(self, *names: str) -> Callable[[Converter], Converter]:
        """Decorator that enters a converter."""

        def enter(converter: Converter) -> Converter:
            self.update(dict.fromkeys(names, converter))
            return converter

        return enter
