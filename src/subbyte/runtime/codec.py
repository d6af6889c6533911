"""Integer graphs as the content and arrays of a model file, and back; knows graphs, not bytes on disk.

Constants: ``array/<name>`` holds a plain array in the narrowest integers that hold its values; a quantized tensor is
``codes/<name>`` (packed by its format's rule), ``scale/<name>`` and, unless all are 0, ``zero/<name>``. The content
leaves out what goes without saying: plain constants of int32, and a node's output and module where they are its name.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import FormatError, SubbyteError
from subbyte.formats.format import Format
from subbyte.formats.packing import get_packing
from subbyte.formats.qtensor import QTensor
from subbyte.formats.registry import resolve_format
from subbyte.graph.ir import Constant, Graph, IntType, Node, Shape
from subbyte.names import MAX_NAME
from subbyte.runtime.attributes import decode_float, decode_op, encode_float, encode_op
from subbyte.runtime.container import MAX_RANK, broken, exact_keys, integers, shown

Array = npt.NDArray[Any]

ARRAY, CODES, SCALE, ZERO = "array/", "codes/", "scale/", "zero/"
_NARROW = ("uint8", "int8", "int16", "int32")
_USUAL = "int32"
_MAX_DIM = 2**31 - 1


def encode(graph: Graph) -> tuple[dict[str, Any], dict[str, Array]]:
    """(content, arrays) of a verified integer graph."""
    formats: dict[str, Format] = {}
    arrays: dict[str, Array] = {}
    values = {name: _encode_type(kind, formats) for name, kind in graph.types.items() if isinstance(kind, IntType)}
    described = {name: _encode_constant(name, c, formats, arrays) for name, c in graph.constants.items()}
    constants = {name: entry for name, entry in described.items() if entry != _USUAL}
    content = {
        "formats": {name: _encode_format(f) for name, f in formats.items()},
        "graph": {
            "name": graph.name,
            "inputs": list(graph.inputs),
            "outputs": list(graph.outputs),
            "values": values,
            "constants": constants,
            "nodes": [_encode_node(node) for node in graph],
        },
    }
    return content, arrays


def decode(content: Mapping[str, Any], arrays: Mapping[str, Array]) -> Graph:
    """The graph of ``encode``'s result; arrays that no constant claims are the caller's to refuse.

    Raises:
        SubbyteError: something is malformed; whether the graph makes sense is ``verify``'s question.
    """
    formats = {_name(name, "formats"): _decode_format(name, raw) for name, raw in _object(content["formats"]).items()}
    keys = {"name", "inputs", "outputs", "values", "constants", "nodes"}
    raw = exact_keys(content["graph"], keys, "graph")
    values = _object(raw["values"])
    plain = {key.removeprefix(ARRAY): _USUAL for key in arrays if key.startswith(ARRAY)}
    constants = {**plain, **_object(raw["constants"])}
    if not isinstance(raw["nodes"], list):
        raise broken("nodes are no list", "nodes are a list in execution order", "graph")
    return Graph(
        name=_name(raw["name"], "graph", empty=True),
        inputs=_names(raw["inputs"], "inputs"),
        outputs=_names(raw["outputs"], "outputs"),
        types={_name(n, "values"): _decode_type(n, v, formats) for n, v in values.items()},
        constants={_name(n, "constants"): _decode_constant(n, c, formats, arrays) for n, c in constants.items()},
        nodes=tuple(_decode_node(node, i) for i, node in enumerate(raw["nodes"])),
    )


def _encode_format(format: Format) -> dict[str, Any]:
    uniform = format.uniform
    values = [format.lo, format.hi] if uniform else [int(v) for v in format.table]
    return {"packing": format.packing, "consecutive" if uniform else "table": values}


def _decode_format(name: str, raw: Any) -> Format:
    place = f"format {shown(name)}"
    entry = _object(raw)
    kind = "consecutive" if "consecutive" in entry else "table"
    exact_keys(entry, {"packing", kind}, place)
    values = integers(entry[kind], place, -(2**15), 2**15 - 1)
    packing = entry["packing"]
    if not isinstance(packing, str) or not packing or (kind == "consecutive" and len(values) != 2):
        raise broken(
            f"it is {shown(raw)}", "a format has a packing and a table, or the ends of a consecutive one", place
        )
    table = range(values[0], values[1] + 1) if kind == "consecutive" else values
    try:
        return resolve_format(name, table, packing)
    except FormatError as error:
        raise FormatError(error.seen, error.rule, error.remedy, error.place or place) from error


def _note(format: Format, formats: dict[str, Format]) -> str:
    if formats.setdefault(format.name, format) != format:
        raise FormatError(
            f"two different formats are named {format.name!r}",
            "a format's name has one table and one packing in a model",
            "rename one of them",
        )
    return format.name


def _encode_type(kind: IntType, formats: dict[str, Format]) -> dict[str, Any]:
    return {
        "shape": list(kind.shape),
        "format": _note(kind.format, formats),
        "scale": encode_float(kind.scale),
        "zero_point": int(kind.zero_point),
    }


def _decode_type(name: str, raw: Any, formats: Mapping[str, Format]) -> IntType:
    place = f"value {shown(name)}"
    entry = exact_keys(raw, {"shape", "format", "scale", "zero_point"}, place)
    shape = entry["shape"]
    if not isinstance(shape, list) or shape[:1] != [None]:
        raise broken(f"the shape {shown(shape)}", "shapes of values begin with null, the batch", place)
    dims: Shape = (None, *_dims(shape[1:], place))
    zero = integers([entry["zero_point"]], place, -(2**31), 2**31 - 1)[0]
    scale = decode_float(entry["scale"], place)
    return IntType(shape=dims, format=_used(entry["format"], formats, place), scale=scale, zero_point=zero)


def _used(name: Any, formats: Mapping[str, Format], place: str) -> Format:
    if not isinstance(name, str) or name not in formats:
        raise broken(f"the format {shown(name)} is not described", "formats in use stand in the file", place)
    return formats[name]


def _dims(raw: Any, place: str) -> tuple[int, ...]:
    dims = integers(raw, place, 1, _MAX_DIM)
    if len(dims) > MAX_RANK:
        raise broken(f"rank {len(dims)}", f"ranks are at most {MAX_RANK}", place)
    return dims


def _encode_constant(
    name: str, constant: Constant, formats: dict[str, Format], arrays: dict[str, Array]
) -> dict[str, Any] | str:
    if not isinstance(constant, QTensor):
        arrays[ARRAY + name] = _narrow(constant)
        return constant.dtype.name
    packed = get_packing(constant.format.packing).pack(constant.codes, constant.format.levels)
    arrays[CODES + name] = np.frombuffer(packed, dtype=np.uint8)
    arrays[SCALE + name] = constant.scale
    if constant.zero_point.any():
        arrays[ZERO + name] = _narrow(constant.zero_point)
    return {
        "format": _note(constant.format, formats),
        "shape": list(constant.shape),
        "axis": constant.axis,
    }


def _narrow(array: Array) -> Array:
    """The same integers in the first dtype of ``_NARROW`` that holds them all."""
    lo, hi = int(array.min()), int(array.max())
    fits = (np.iinfo(d) for d in _NARROW)
    return array.astype(next(i.dtype for i in fits if i.min <= lo and hi <= i.max))


def _decode_constant(name: str, raw: Any, formats: Mapping[str, Format], arrays: Mapping[str, Array]) -> Constant:
    place = f"constant {shown(name)}"
    if isinstance(raw, str):
        return _widen(_array(arrays, ARRAY + name, place), raw, place)
    entry = exact_keys(raw, {"format", "shape", "axis"}, place)
    format = _used(entry["format"], formats, place)
    shape = _dims(entry["shape"], place)
    packed = _array(arrays, CODES + name, place)
    scale = _array(arrays, SCALE + name, place)
    zero = arrays.get(ZERO + name, np.zeros(scale.shape, dtype=np.int32))
    if packed.dtype != np.uint8 or packed.ndim != 1 or scale.dtype != np.float32:
        raise broken(f"codes {packed.dtype}, scales {scale.dtype}", "codes are U8 of rank 1 and scales F32", place)
    codes = get_packing(format.packing).unpack(packed.tobytes(), math.prod(shape), format.levels)
    tensor = QTensor(
        codes=codes.reshape(shape).astype(np.uint8, copy=False),
        format=format,
        scale=scale.astype(np.float32),
        zero_point=_widen(zero, "int32", place),
        axis=integers([entry["axis"]], place, 0, MAX_RANK)[0],
    )
    if format.levels > 256:
        raise broken(f"format {format.name!r} has {format.levels} levels", "codes of constants are bytes", place)
    try:
        tensor.check()
    except SubbyteError as error:
        raise FormatError(error.seen, error.rule, error.remedy, place) from error
    return tensor


def _array(arrays: Mapping[str, Array], key: str, place: str) -> Array:
    if key not in arrays:
        raise broken(f"tensor {key!r} is missing", "each constant has its tensors in the file", place)
    return arrays[key]


def _widen(array: Array, dtype: str, place: str) -> Array:
    if dtype not in _NARROW or array.dtype.kind not in "iu":
        rule = f"integer constants are {', '.join(_NARROW)}"
        raise broken(f"{array.dtype} is to become {shown(dtype)}", rule, place)
    limits = np.iinfo(dtype)
    if int(array.min()) < limits.min or int(array.max()) > limits.max:
        raise broken(f"values {array.min()}..{array.max()}", f"values fit {dtype}", place)
    return array.astype(dtype)


def _encode_node(node: Node) -> dict[str, Any]:
    entry = {"name": node.name, "op": node.op.name, "attributes": encode_op(node.op), "inputs": list(node.inputs)}
    others = {"output": node.output, "module": node.module}
    return entry | {key: name for key, name in others.items() if name != node.name}


def _decode_node(raw: Any, index: int) -> Node:
    keys = {"name", "op", "attributes", "inputs", "output", "module"}
    usual = dict.fromkeys(("output", "module"), _object(raw).get("name"))
    entry = exact_keys({**usual, **raw}, keys, f"node {index}")
    name = _name(entry["name"], f"node {index}")
    place = f"node {shown(name)}"
    return Node(
        name=name,
        op=decode_op(entry["op"], entry["attributes"], place),
        inputs=_names(entry["inputs"], place),
        output=_name(entry["output"], place),
        module=_name(entry["module"], place, empty=True),
    )


def _object(raw: Any) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise broken(f"it is {shown(raw)}", "this is an object")
    return raw


def _names(raw: Any, place: str) -> tuple[str, ...]:
    if not isinstance(raw, list):
        raise broken(f"it is {shown(raw)}", "this is a list of names", place)
    return tuple(_name(n, place) for n in raw)


def _name(raw: Any, place: str, *, empty: bool = False) -> str:
    if not isinstance(raw, str) or not raw.isprintable() or not (empty or raw) or len(raw) > MAX_NAME:
        rule = f"names are 1..{MAX_NAME} printable characters: no control, invisible or right-to-left marks"
        raise broken(f"the name {shown(raw)}", rule, place)
    return raw
