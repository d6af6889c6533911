"""Constants of integer graphs as the payload of a model file, and back.

The payload is the codes of all quantized tensors in the order in which the nodes read them, each packed by its format's
rule, and behind them all other constants in the same order: scales (the bits of their float32), zero points, biases,
tables, each in the fewest bits that hold it (``integers.py``). Multipliers that a layer's scales tell are not there
(``ratios.py``).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from subbyte.arithmetic.requant import ARITHMETICS
from subbyte.errors import FormatError, SubbyteError
from subbyte.formats.groups import MOST_SIZE, Groups, group_count
from subbyte.formats.packing import get_packing
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Constant, Graph, IntType, Node
from subbyte.graph.ops.op import attributes
from subbyte.runtime import integers
from subbyte.runtime.attributes import decode_float, encode_float
from subbyte.runtime.container import MAX_RANK, broken, exact_keys, shown, whole_numbers
from subbyte.runtime.described import Formats, checked_name, dims, mapping, without
from subbyte.runtime.native_plan import OPERANDS
from subbyte.runtime.ratios import Ratio, find_ratio, tells

Array = npt.NDArray[Any]

_STORED: Final = ("uint8", "int8", "int16", "int32")
"""Element types of integer constants in memory."""

_WEIGHT = 1
_PAIRS: Final = (3, 5)
"""Where a layer's multipliers stand, each followed by the shifts: those of sums, and those of negative sums."""

_LAYERS = ("int_conv", "int_linear", "int_linear_per_token")
_KEYS: Final[Mapping[str, tuple[set[str], set[str]]]] = {
    "format": ({"format", "shape", "scale"}, {"axis", "zero", "group"}),
    "ratio": ({"ratio"}, {"times", "moved"}),
    "bits": ({"bits", "shape"}, {"as"}),
}
"""By the key that tells a description's kind: the keys that it has, and those that it may have beside ``name``."""


@dataclass(frozen=True, slots=True)
class Part:
    """What a constant, or one aspect of it, takes in the payload.

    Attributes:
        node: that reads it first.
        constant: its name.
        role: ``codes``, ``scale``, ``group_scale``, ``zero``, or what the operand is to the operator: ``bias``, ``m``,
            ``table``, ...
        format: of the codes; ``ratio`` where scales tell it; else bits per value.
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
    """Describes constants at their first use and collects their bytes.

    Args:
        graph: verified.
        formats: takes up the formats in use.
    """

    def __init__(self, graph: Graph, formats: Formats) -> None:
        self.graph = graph
        self.formats = formats
        self.parts: list[Part] = []
        self._seen: set[str] = set()
        self._codes: list[bytes] = []
        self._integers: list[bytes] = []

    @property
    def codes_bytes(self) -> int:
        """Bytes of all packed codes."""
        return sum(map(len, self._codes))

    def payload(self) -> bytes:
        """Codes, then everything else."""
        return b"".join([*self._codes, *self._integers])

    def operands(self, node: Node) -> list[Any]:
        """The node's inputs: names of values and of constants met before, descriptions of new constants."""
        ratios = self._ratios(node)
        return [self._operand(node, position, ratios.get(position)) for position in range(len(node.inputs))]

    def _operand(self, node: Node, position: int, told: dict[str, Any] | None) -> Any:
        name = node.inputs[position]
        if name in self.graph.types or name in self._seen:
            return name
        self._seen.add(name)
        constant = self.graph.constants[name]
        if told is not None:
            entry = told
            self.parts.append(Part(node.name, name, operand_role(node.op.name, position), "ratio", constant.shape, 0))
        elif isinstance(constant, QTensor):
            entry = self._weight(node, name, constant)
        else:
            bits = self._add(node, name, operand_role(node.op.name, position), constant)
            entry = {"shape": list(constant.shape), "bits": bits, "as": constant.dtype.name}
            entry = without(entry, {"as": "int32"})
        return without({"name": name, **entry}, {"name": usual_name(node.name, node.op.name, position)})

    def _ratios(self, node: Node) -> dict[int, dict[str, Any]]:
        """Descriptions, by position, of multipliers and shifts that scales tell."""
        x, out = (self.graph.types.get(v) for v in (node.inputs[0], node.output))
        weight = self.graph.constants.get(node.inputs[_WEIGHT]) if node.op.name in _LAYERS else None
        if not isinstance(weight, QTensor) or not isinstance(x, IntType) or not isinstance(out, IntType):
            return {}
        found: dict[int, dict[str, Any]] = {}
        beside: tuple[Array, Array] | None = None
        held = attributes(node.op)
        unit = 2.0 ** held["pre_shift"] / held.get("largest", 1)
        for at in (p for p in _PAIRS if p + 1 < len(node.inputs)):
            names = node.inputs[at : at + 2]
            m, n = map(self.graph.constants.get, names)
            assert isinstance(m, np.ndarray)
            assert isinstance(n, np.ndarray)
            new = len({*names}) == 2 and all(i not in self._seen and node.inputs.count(i) == 1 for i in names)
            ratio = find_ratio(weight, (x.scale, out.scale), m, n, beside, unit) if new else None
            if ratio is not None:
                moved = [v for pair in ratio.moved for v in pair]
                told = {"ratio": ratio.arithmetic, "times": encode_float(ratio.times), "moved": moved}
                found[at] = without(told, {"times": encode_float(1.0), "moved": []})
                found[at + 1] = {"ratio": ratio.arithmetic}
            beside = (m, n)
        return found

    def _weight(self, node: Node, name: str, weight: QTensor) -> dict[str, Any]:
        packed = get_packing(weight.format.packing).pack(weight.codes, weight.format.levels)
        self._codes.append(packed)
        self.parts.append(Part(node.name, name, "codes", weight.format.name, weight.shape, len(packed)))
        entry = {"format": self.formats.name(weight.format), "shape": list(weight.shape), "axis": weight.axis}
        each = weight.scale.ndim == 1
        entry["scale"] = self._scales(node, name, weight.scale) if each else encode_float(float(weight.scale))
        if weight.groups is not None:
            entry["group"] = self._group(node, name, weight.groups)
        if weight.zero_point.any():
            several = weight.zero_point.ndim > 0
            entry["zero"] = self._add(node, name, "zero", weight.zero_point) if several else int(weight.zero_point)
        return without(entry, {"axis": 0})

    def _scales(self, node: Node, name: str, scale: npt.NDArray[np.float32]) -> list[int]:
        """Store the bits of float32 scales, less the zeros that all end with; returns (bits, least[, zeros])."""
        held = scale.view(np.int32)
        either = int(np.bitwise_or.reduce(held))
        zeros = (either & -either).bit_length() - 1
        entry = self._add(node, name, "scale", held >> zeros)
        return [*entry, zeros] if zeros else entry

    def _group(self, node: Node, name: str, groups: Groups) -> list[int]:
        """Store group scales, powers of two as their logarithms; returns (size, whether they are, bits, least)."""
        held = np.log2(groups.scale).astype(np.int32) if groups.powers else groups.scale
        return [groups.size, int(groups.powers), *self._add(node, name, "group_scale", held)]

    def _add(self, node: Node, name: str, role: str, values: Array) -> list[int]:
        """Store integers; returns (bits, least)."""
        bits, least = integers.span(values)
        raw = integers.pack(values, bits, least)
        self._integers.append(raw)
        self.parts.append(Part(node.name, name, role, f"{bits} bits", values.shape, len(raw)))
        return [bits, least]


class Reader:
    """Takes constants from a payload where nodes describe them.

    Args:
        payload: of the file.
        codes: how many of its bytes are codes.
        formats: of the file.
    """

    def __init__(self, payload: memoryview, codes: int, formats: Formats) -> None:
        self.constants: dict[str, Constant] = {}
        self._formats = formats
        self._codes, self._integers = payload[:codes], payload[codes:]

    def finish(self) -> None:
        """Refuse bytes that no constant took."""
        if left := len(self._codes) + len(self._integers):
            raise broken(f"{left} bytes belong to no constant", "constants fill the payload")

    def operands(self, raw: Sequence[Any], node: str, op: str, scales: tuple[float, float] | None) -> tuple[str, ...]:
        """Names of a node's inputs; the constants described there are known from now on.

        Args:
            raw: the inputs as the file holds them.
            node: name.
            op: name of the operator.
            scales: of the node's first input and of its result; None where it has no such input.
        """
        place = f"node {shown(node)}"
        names: list[str] = []
        shifts: Array | None = None
        for position, entry in enumerate(raw):
            if isinstance(entry, str):
                names.append(checked_name(entry, place))
                continue
            kind, described = _entry(entry, place)
            name = checked_name(described.get("name", usual_name(node, op, position)), place)
            if name in self.constants:
                raise broken(f"constant {shown(name)} is described twice", "a constant is described once", place)
            where = f"constant {shown(name)}"
            if kind == "ratio" and position in _PAIRS and op in _LAYERS:
                weight = self.constants.get(names[_WEIGHT])
                self.constants[name], shifts = _multipliers(described, weight, scales, where)
            elif kind == "ratio":
                if shifts is None or position - 1 not in _PAIRS:
                    raise broken("shifts without multipliers", "scales tell both, or neither", where)
                self.constants[name], shifts = shifts, None
            else:
                self.constants[name] = (
                    self._weight(described, where) if kind == "format" else self._array(described, where)
                )
            names.append(name)
        return tuple(names)

    def _array(self, entry: Mapping[str, Any], place: str) -> Array:
        dtype = entry.get("as", "int32")
        if not isinstance(dtype, str) or dtype not in _STORED:
            raise broken(f"the element type {shown(dtype)}", f"it is one of {', '.join(_STORED)}", place)
        shape = dims(entry["shape"], place)
        return self._take(entry["bits"], math.prod(shape), dtype, place).reshape(shape)

    def _weight(self, entry: Mapping[str, Any], place: str) -> QTensor:
        format = self._formats[entry["format"]]
        shape = dims(entry["shape"], place)
        axis = whole_numbers([entry.get("axis", 0)], place, 0, MAX_RANK)[0]
        if format.levels > 256 or axis >= len(shape):
            seen = f"format {format.name!r} has {format.levels} levels, axis {axis} of {len(shape)}"
            raise broken(seen, "codes of constants are bytes, and their axis is one of theirs", place)
        packing, count = get_packing(format.packing), math.prod(shape)
        raw, self._codes = self._cut(self._codes, packing.size(count), place)
        codes = packing.unpack(raw, count, format.levels)
        scale = self._scale(entry["scale"], shape[axis], place)
        groups = self._group(entry["group"], shape, place) if "group" in entry else None
        tensor = QTensor(
            codes=codes.reshape(shape).astype(np.uint8, copy=False),
            format=format,
            scale=scale,
            zero_point=self._zero(entry, (scale if groups is None else groups.scale).shape, place),
            axis=axis,
            groups=groups,
        )
        try:
            tensor.check()
        except SubbyteError as error:
            raise FormatError(error.seen, error.rule, error.remedy, place) from error
        return tensor

    def _group(self, raw: Any, shape: tuple[int, ...], place: str) -> Groups:
        size, powers = whole_numbers(raw[:2] if isinstance(raw, list) else raw, place, 0, MOST_SIZE, count=2)
        if size < 1 or powers > 1 or len(shape) < 2:
            seen = f"groups {shown(raw)} of weights {list(shape)}"
            raise broken(seen, f"a group of 1..{MOST_SIZE} weights, then 0 or 1, of inputs behind channels", place)
        count = group_count(shape, size)
        held = self._take(raw[2:], shape[0] * count, "int32", place).reshape(shape[0], count)
        if powers and not (held.min() >= 0 and held.max() < 16):
            raise broken(f"logarithms {held.min()}..{held.max()} of group scales", "they lie in 0..15", place)
        return Groups(size=size, scale=np.left_shift(1, held).astype(np.int32) if powers else held)

    def _zero(self, entry: Mapping[str, Any], shape: tuple[int, ...], place: str) -> Array:
        if shape and "zero" in entry:
            return self._take(entry["zero"], math.prod(shape), "int32", place).reshape(shape)
        zero = 0 if shape else whole_numbers([entry.get("zero", 0)], place, -(2**31), 2**31 - 1)[0]
        return np.full(shape, zero, np.int32)

    def _scale(self, raw: Any, channels: int, place: str) -> npt.NDArray[np.float32]:
        if not isinstance(raw, str):
            few = whole_numbers(raw, place, -(2**31), 2**31 - 1)
            zeros = few[2] if len(few) == 3 else 0
            held = self._take(list(few[: max(2, len(few) - 1)]), channels, "int32", place).astype(np.int64)
            if not 0 <= zeros < 31 or held.min() <= 0 or int(held.max()) << zeros >= 2**31:
                raise broken(f"scales {held.min()}..{held.max()} behind {zeros} zeros", "scales are positive", place)
            return (held << zeros).astype(np.int32).view(np.float32)
        with np.errstate(over="ignore"):
            return np.array(decode_float(raw, place), np.float32)

    def _take(self, raw: Any, count: int, dtype: str, place: str) -> Array:
        """The next integers of the payload."""
        bits, least = whole_numbers(raw, place, -(2**31), 2**31 - 1, count=2)
        limits = np.iinfo(dtype)
        if not (1 <= bits <= integers.WIDEST and limits.min <= least <= limits.max):
            rule = f"integers are stored in 1..{integers.WIDEST} bits, above a least value that {dtype} holds"
            raise broken(f"{bits} bits above {least}", rule, place)
        data, self._integers = self._cut(self._integers, integers.size(count, bits), place)
        try:
            values = integers.unpack(data, count, bits, least)
        except SubbyteError as error:
            raise FormatError(error.seen, error.rule, error.remedy, place) from error
        if int(values.max()) > limits.max:
            raise broken(f"values {values.min()}..{values.max()}", f"values fit {dtype}", place)
        return values.astype(dtype)

    def _cut(self, data: memoryview, size: int, place: str) -> tuple[bytes, memoryview]:
        if size > len(data):
            raise broken(f"{size} bytes of {len(data)} that are left", "constants lie inside the payload", place)
        return bytes(data[:size]), data[size:]


def operand_role(op: str, position: int) -> str:
    """What an operand is to its operator: ``weight``, ``bias``, ``m``, ..., or its position."""
    return OPERANDS.get(op, {}).get(position, str(position))


def usual_name(node: str, op: str, position: int) -> str:
    """The name that a constant has unless the file gives another: its node's and its role's."""
    return f"{node}.{operand_role(op, position)}"


def _entry(raw: Any, place: str) -> tuple[str, dict[str, Any]]:
    """(kind, description) of a constant."""
    entry = mapping(raw, place)
    kind = next((k for k in _KEYS if k in entry), "bits")
    needed, optional = _KEYS[kind]
    exact_keys(entry, needed | ((optional | {"name"}) & set(entry)), place)
    return kind, entry


def _multipliers(
    entry: Mapping[str, Any], weight: Constant | None, scales: tuple[float, float] | None, place: str
) -> tuple[Array, Array]:
    """(m, n) as the layer's scales tell them."""
    arithmetic = entry["ratio"]
    if not isinstance(weight, QTensor) or not tells(weight) or scales is None or arithmetic not in ARITHMETICS:
        rule = "multipliers follow from the scales of a layer's input, weight and result, in a known arithmetic"
        raise broken(f"a ratio in {shown(arithmetic)}", rule, place)
    times = decode_float(entry.get("times", encode_float(1.0)), place)
    flat = whole_numbers(entry.get("moved", []), place, -(2**31), 2**31 - 1)
    channels, changes = flat[::2], flat[1::2]
    if len(flat) % 2 or any(not 0 <= c < weight.shape[0] for c in channels) or len(set(channels)) < len(channels):
        raise broken(f"the moved multipliers {shown(list(flat))}", "each is a channel and a change", place)
    ratio = Ratio(arithmetic, times, tuple(zip(channels, changes, strict=True)))
    try:
        return ratio.pairs(weight, scales)
    except SubbyteError as error:
        raise type(error)(error.seen, error.rule, error.remedy, error.place or place) from error
