"""The network as data: frozen values, nodes and graphs, shared by the float and the integer dialect.

A tensor of the float dialect holds float32 reals. A tensor of the integer dialect holds *stored integers* q with
``real = scale * (q - zero_point)``. For formats that span at most 255 q is the table value minus the smallest table
value (``q = table[code] - table[0]``), so it is unsigned and, for uniform step-1 formats, equal to the code. Where at
most 256 values lie farther apart (small floats, codebooks) q is the code itself, the zero point is the code of 0, and
``real = scale * (table[q] - table[zero_point])``. Either way stored integers order like their reals.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from subbyte.errors import GraphError
from subbyte.formats.format import Format
from subbyte.formats.qtensor import QTensor

if TYPE_CHECKING:
    from subbyte.graph.ops.op import Op  # operators import this module, so it must not import them

BATCH = None
"""The symbolic leading dimension: every activation has it first, no constant has it."""

Dim: TypeAlias = int | None
Shape: TypeAlias = tuple[Dim, ...]
Storage = Literal["uint8", "int16", "int32"]
Constant: TypeAlias = "npt.NDArray[np.generic] | QTensor"


@dataclass(frozen=True, slots=True, kw_only=True)
class FloatType:
    """Reals in float32; ``shape[0]`` is BATCH.

    Attributes:
        shape: with the batch axis.
        domain: of an input: smallest and largest real that it holds, where somebody declared them.
    """

    shape: Shape
    domain: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class IntType:
    """Stored integers standing for reals: ``real = scale * (q - zero_point)``, or of codes as said above.

    Attributes:
        shape: ``shape[0]`` is BATCH.
        format: which table values are legal; fixes the storage.
        scale: positive, exactly representable in float32.
        zero_point: in stored units.
    """

    shape: Shape
    format: Format
    scale: float
    zero_point: int

    @property
    def storage(self) -> Storage:
        """The NumPy dtype that holds the stored integers."""
        return self.format.storage

    @property
    def lo(self) -> int:
        """Smallest legal stored integer."""
        return self.format.stored_lo

    @property
    def hi(self) -> int:
        """Largest legal stored integer."""
        return self.format.stored_hi


TensorType: TypeAlias = FloatType | IntType


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One operator application.

    Attributes:
        name: unique in the graph; the user's own name where there is one.
        op: operator with its attributes.
        inputs: names of values or constants, in the operator's order.
        output: name of the one value produced.
        module: the user's module path or file node, for errors and reports.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    output: str
    module: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Nodes in execution order over named values; immutable, checked by ``verify``.

    Attributes:
        name: of the model.
        inputs: names of values fed by the user, in order.
        outputs: names of values returned, in order.
        types: type of every value (inputs and node outputs); constants are not in it.
        constants: arrays and quantized tensors by name.
        nodes: topologically ordered.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    types: Mapping[str, TensorType]
    constants: Mapping[str, Constant] = field(default_factory=dict)
    nodes: tuple[Node, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "types", MappingProxyType(dict(self.types)))
        object.__setattr__(self, "constants", MappingProxyType(dict(self.constants)))

    def producer(self, value: str) -> Node | None:
        """The node that makes a value; None for graph inputs and constants."""
        return next((n for n in self.nodes if n.output == value), None)

    def consumers(self, value: str) -> tuple[Node, ...]:
        """Nodes that read a value, in execution order."""
        return tuple(n for n in self.nodes if value in n.inputs)

    def operand(self, name: str) -> TensorType | Constant:
        """Type of a value or the constant itself, which is what operators infer from."""
        if name in self.types:
            return self.types[name]
        if name in self.constants:
            return self.constants[name]
        raise GraphError(
            f"name {name!r} is used but not defined",
            "every operand is a graph input, a node's output or a constant",
            "define it before its first use",
            f"graph {self.name!r}",
        )

    def activations(self, node: Node) -> tuple[str, ...]:
        """The node's inputs that are values, constants left out."""
        return tuple(i for i in node.inputs if i in self.types)

    def evolve(self, **changes: object) -> Graph:
        """A copy with some fields replaced."""
        return replace(self, **changes)  # type: ignore[arg-type]

    def __reduce__(self) -> tuple[partial[Graph], tuple[()]]:
        """Pickled as its parts: read-only views of dicts cannot be. Worker processes get graphs so."""
        parts = {f.name: getattr(self, f.name) for f in fields(self)}
        return partial(Graph, **{**parts, "types": dict(self.types), "constants": dict(self.constants)}), ()

    def __iter__(self) -> Iterator[Node]:
        return iter(self.nodes)


def float_shape(operand: TensorType | Constant) -> Shape:
    """Shape of a value's type or of a constant."""
    return tuple(operand.shape)
