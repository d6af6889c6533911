"""Constants of integer graphs as the tensors of a model file, and back.

A quantized tensor is ``codes/<name>`` (packed by its format's rule), ``scale/<name>`` unless its layer's multipliers
say the same, and ``zero/<name>`` unless all zero points are 0. All other constants are integers, in the narrowest
element type that holds them; those of one element type lie one after the other in ``integers/<type>``, in the order in
which the nodes read them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError, SubbyteError
from subbyte.formats.packing import get_packing
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Constant, Graph, IntType, Node
from subbyte.runtime.container import DTYPES, MAX_RANK, broken, exact_keys, integers, shown
from subbyte.runtime.described import Formats, checked_name, dims, mapping, without
from subbyte.runtime.native_plan import OPERANDS

Array = npt.NDArray[Any]

CODES, SCALE, ZERO, INTEGERS = "codes/", "scale/", "zero/", "integers/"
_NARROW: Final[Mapping[str, str]] = {"U8": "uint8", "I8": "int8", "I16": "int16", "I32": "int32"}
"""Element types of integer constants, in the order in which the first that fits is taken."""

_WEIGHT, _M, _N = 1, 3, 4
_LAYERS = ("int_conv", "int_linear")


@dataclass(frozen=True, slots=True)
class Part:
    """What a constant, or one aspect of it, takes in the file.

    Attributes:
        node: that reads it first.
        constant: its name.
        role: ``codes``, ``scale``, ``zero`` or ``integers``.
        format: of the codes, or the element type.
        shape: of the constant, or of the scales and zero points.
        nbytes: size in the file.
    """

    node: str
    constant: str
    role: str
    format: str
    shape: tuple[int, ...]
    nbytes: int


class Writer:
    """Describes constants at their first use and collects their tensors.

    Args:
        graph: verified.
        formats: takes up the formats in use.
    """

    def __init__(self, graph: Graph, formats: Formats) -> None:
        self.graph = graph
        self.formats = formats
        self.parts: list[Part] = []
        self._seen: set[str] = set()
        self._tensors: dict[str, Array] = {}
        self._integers: dict[str, list[Array]] = {}

    def operands(self, node: Node) -> list[Any]:
        """The node's inputs: names of values and of constants met before, descriptions of new constants."""
        return [self._operand(node, position) for position in range(len(node.inputs))]

    def tensors(self) -> dict[str, Array]:
        """All tensors of the file by key."""
        joined = {INTEGERS + kind: np.concatenate(arrays) for kind, arrays in self._integers.items()}
        return {**self._tensors, **joined}

    def _operand(self, node: Node, position: int) -> Any:
        name = node.inputs[position]
        if name in self.graph.types or name in self._seen:
            return name
        self._seen.add(name)
        constant = self.graph.constants[name]
        entry = self._weight if isinstance(constant, QTensor) else self._array
        return without(
            {"name": name, **entry(node, name, constant)}, {"name": usual_name(node.name, node.op.name, position)}
        )

    def _array(self, node: Node, name: str, constant: Any) -> dict[str, Any]:
        kind, narrow = _narrow(constant)
        self._integers.setdefault(kind, []).append(narrow.reshape(-1))
        self.parts.append(Part(node.name, name, "integers", kind, narrow.shape, narrow.nbytes))
        return without({kind: list(narrow.shape), "as": constant.dtype.name}, {"as": "int32"})

    def _weight(self, node: Node, name: str, weight: Any) -> dict[str, Any]:
        packed = get_packing(weight.format.packing).pack(weight.codes, weight.format.levels)
        self._add(node, name, CODES, weight.format.name, np.frombuffer(packed, dtype=np.uint8), weight.shape)
        if not _goes_without_saying(self.graph, node, name, weight):
            self._add(node, name, SCALE, "F32", weight.scale, weight.scale.shape)
        if weight.zero_point.any():
            kind, zero = _narrow(weight.zero_point)
            self._add(node, name, ZERO, kind, zero, zero.shape)
        entry = {"format": self.formats.name(weight.format), "shape": list(weight.shape), "axis": weight.axis}
        return without(entry, {"axis": 0})

    def _add(self, node: Node, name: str, role: str, format: str, array: Array, shape: tuple[int, ...]) -> None:
        self._tensors[role + name] = array
        self.parts.append(Part(node.name, name, role[:-1], format, shape, array.nbytes))


class Reader:
    """Takes constants from tensors where nodes describe them.

    Args:
        tensors: of the file by key; those that no description claims are the caller's to refuse.
        formats: of the file.
    """

    def __init__(self, tensors: Mapping[str, Array], formats: Formats) -> None:
        self.constants: dict[str, Constant] = {}
        self._tensors = tensors
        self._formats = formats
        self._taken = dict.fromkeys(_NARROW, 0)

    def operands(self, raw: Sequence[Any], node: str, op: str, scales: tuple[float, float] | None) -> tuple[str, ...]:
        """Names of a node's inputs; the constants described there are known from now on.

        Args:
            raw: the inputs as the file holds them.
            node: name.
            op: name of the operator.
            scales: of the node's first input and of its result; None where it has no such input.
        """
        place = f"node {shown(node)}"
        entries = [entry if isinstance(entry, str) else self._entry(entry, place) for entry in raw]
        names = [
            checked_name(e if isinstance(e, str) else e.get("name", usual_name(node, op, i)), place)
            for i, e in enumerate(entries)
        ]
        new = [(name, e) for name, e in zip(names, entries, strict=True) if isinstance(e, dict)]
        for name, _ in new:
            if [n for n, _ in new].count(name) > 1 or name in self.constants:
                raise broken(f"constant {shown(name)} is described twice", "a constant is described once", place)
        for name, entry in new:
            if "format" not in entry:
                self.constants[name] = self._array(entry, f"constant {shown(name)}")
        told = _told(scales, *(self.constants.get(n) for n in names[_M : _N + 1])) if op in _LAYERS else None
        for name, entry in new:
            if "format" in entry:
                first = told if names.index(name) == _WEIGHT else None
                self.constants[name] = self._weight(name, entry, first, f"constant {shown(name)}")
        return tuple(names)

    def _entry(self, raw: Any, place: str) -> dict[str, Any]:
        entry = mapping(raw, place)
        kinds = [k for k in _NARROW if k in entry]
        keys = {"format", "shape", "axis"} if "format" in entry else {*kinds[:1], "as"}
        exact_keys({"name": "", "axis" if "format" in entry else "as": "", **entry}, {"name", *keys}, place)
        return entry

    def _array(self, entry: Mapping[str, Any], place: str) -> Array:
        kind = next((k for k in _NARROW if k in entry), None)
        if kind is None:
            raise broken(f"it is {shown(entry)}", f"a constant has a format or one of {', '.join(_NARROW)}", place)
        dtype = entry.get("as", "int32")
        if not isinstance(dtype, str) or dtype not in _NARROW.values():
            raise broken(f"the element type {shown(dtype)}", f"it is one of {', '.join(_NARROW.values())}", place)
        shape, start = dims(entry[kind], place), self._taken[kind]
        end = self._taken[kind] = start + math.prod(shape)
        pool = self._tensor(INTEGERS + kind, place)
        if pool.ndim != 1 or pool.dtype != np.dtype(DTYPES[kind]) or end > len(pool):
            rule = f"{INTEGERS}{kind} is a row of {kind} that holds every constant"
            raise broken(f"elements {start}..{end} of {pool.dtype}{list(pool.shape)}", rule, place)
        return _widen(pool[start:end].reshape(shape), dtype, place)

    def _weight(self, name: str, entry: Mapping[str, Any], told: Array | None, place: str) -> QTensor:
        format = self._formats[entry["format"]]
        shape = dims(entry["shape"], place)
        packed = self._tensor(CODES + name, place)
        scale = told if told is not None and SCALE + name not in self._tensors else self._tensor(SCALE + name, place)
        zero = self._tensors.get(ZERO + name, np.zeros(scale.shape, dtype=np.int32))
        if packed.dtype != np.uint8 or packed.ndim != 1 or scale.dtype != np.float32:
            raise broken(f"codes {packed.dtype}, scales {scale.dtype}", "codes are U8 of rank 1 and scales F32", place)
        if format.levels > 256:
            raise broken(f"format {format.name!r} has {format.levels} levels", "codes of constants are bytes", place)
        codes = get_packing(format.packing).unpack(packed.tobytes(), math.prod(shape), format.levels)
        tensor = QTensor(
            codes=codes.reshape(shape).astype(np.uint8, copy=False),
            format=format,
            scale=scale.astype(np.float32),
            zero_point=_widen(zero, "int32", place),
            axis=integers([entry.get("axis", 0)], place, 0, MAX_RANK)[0],
        )
        try:
            tensor.check()
        except SubbyteError as error:
            raise FormatError(error.seen, error.rule, error.remedy, place) from error
        return tensor

    def _tensor(self, key: str, place: str) -> Array:
        if key not in self._tensors:
            raise broken(f"tensor {key!r} is missing", "each constant has its tensors in the file", place)
        return self._tensors[key]


def usual_name(node: str, op: str, position: int) -> str:
    """The name that a constant has unless the file gives another: its node's and its role's."""
    return f"{node}.{OPERANDS.get(op, {}).get(position, position)}"


def _goes_without_saying(graph: Graph, node: Node, name: str, weight: QTensor) -> bool:
    """Whether the layer's multipliers give exactly the weight's scales."""
    x, out = graph.types.get(node.inputs[0]), graph.types[node.output]
    if node.op.name not in _LAYERS or node.inputs.index(name) != _WEIGHT or weight.axis != 0:
        return False
    if not isinstance(x, IntType) or not isinstance(out, IntType):
        return False
    told = _told((x.scale, out.scale), *(graph.constants.get(n) for n in node.inputs[_M : _N + 1]))
    return told is not None and np.array_equal(told, weight.scale)


def _told(scales: tuple[float, float] | None, *multipliers: Constant | None) -> Array | None:
    """Scales of a layer's weights, ``m * 2**-n * s_out / s_in`` in float64, as float32; None where they say nothing."""
    arrays = [a for a in multipliers if isinstance(a, np.ndarray) and a.dtype == np.int32 and a.ndim == 1]
    if scales is None or len(arrays) != 2 or arrays[0].shape != arrays[1].shape:
        return None
    m, n = (a.astype(np.int64) for a in arrays)
    if np.any(m <= 0) or np.any(n < 0) or np.any(n > 62):
        return None
    with np.errstate(all="ignore"):
        told = (np.ldexp(m.astype(np.float64), -n) * scales[1] / scales[0]).astype(np.float32)
    return told if np.all(np.isfinite(told)) and np.all(told > 0) else None


def _narrow(array: Array) -> tuple[str, Array]:
    """The first element type of ``_NARROW`` that holds all these integers, and the same integers in it."""
    lo, hi = int(array.min()), int(array.max())
    kinds = ((kind, np.iinfo(dtype)) for kind, dtype in _NARROW.items())
    kind, limits = next((k, i) for k, i in kinds if i.min <= lo and hi <= i.max)
    return kind, array.astype(limits.dtype)


def _widen(array: Array, dtype: str, place: str) -> Array:
    if array.dtype.kind not in "iu":
        raise broken(f"{array.dtype} is to become {dtype}", "integer constants are stored as integers", place)
    limits = np.iinfo(dtype)
    if int(array.min()) < limits.min or int(array.max()) > limits.max:
        raise broken(f"values {array.min()}..{array.max()}", f"values fit {dtype}", place)
    return array.astype(dtype)
