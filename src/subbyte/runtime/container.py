"""The outer shell of a .subbyte file: a safetensors file with a checked header and a digest; knows bytes, not graphs.

Layout: 8 bytes little-endian header length, the header (JSON, padded with blanks to a multiple of 8), the tensors
without gaps. The header starts with the SHA-256 at a fixed place, ``{"__metadata__":{"sha256":"<64 hex>","subbyte":``,
so that damage is found before anything is parsed. The digest covers the whole file with its own 64 digits as zeros. It
shows damage, not authorship.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from subbyte.errors import ModelFileError
from subbyte.names import canonical_json

Array = npt.NDArray[Any]

DTYPES: Final[Mapping[str, str]] = {"F32": "<f4", "I32": "<i4", "I16": "<i2", "I8": "|i1", "U8": "|u1"}
"""Element types by their safetensors name, widest first, which is the order of tensors in the file."""

MAX_HEADER = 1 << 26
MAX_RANK = 8
MAX_DEPTH = 16
"""Most levels of brackets in a header."""

_PREFIX = b'{"__metadata__":{"sha256":"'
_DIGEST = slice(8 + len(_PREFIX), 8 + len(_PREFIX) + 64)
_MAGIC = b'","subbyte":"'
_ZEROS = b"0" * 64


@dataclass(frozen=True, slots=True)
class Stored:
    """A tensor as it lies in the file.

    Attributes:
        key: its name there.
        dtype: one of ``DTYPES``.
        shape: lengths of its axes.
        nbytes: size.
    """

    key: str
    dtype: str
    shape: tuple[int, ...]
    nbytes: int


def describe(key: str, array: Array) -> Stored:
    """The entry of an array of one of the stored element types."""
    names = [name for name, code in DTYPES.items() if np.dtype(code) == array.dtype.newbyteorder("<")]
    return Stored(key, names[0], array.shape, array.nbytes)


def ordered(entries: Sequence[Stored]) -> list[Stored]:
    """The entries in file order: wide elements first, so that each tensor is aligned, then by key."""
    wide = {name: -np.dtype(code).itemsize for name, code in DTYPES.items()}
    return sorted(entries, key=lambda e: (wide[e.dtype], e.key))


def header_bytes(entries: Sequence[Stored], content: Mapping[str, Any]) -> bytes:
    """Length field and header of a file with these tensors, in file order, and this content; the digest is zeros."""
    outer: dict[str, Any] = {}
    start = 0
    for entry in entries:
        end = start + entry.nbytes
        outer[entry.key] = {"data_offsets": [start, end], "dtype": entry.dtype, "shape": list(entry.shape)}
        start = end
    metadata = {"sha256": _ZEROS.decode(), "subbyte": canonical_json(content)}
    # "__metadata__" comes first whatever the keys are, because the digest has a fixed place.
    first = '{"__metadata__":' + canonical_json(metadata)
    text = first + ("," + canonical_json(outer)[1:] if outer else "}")
    raw = text.encode("ascii")
    raw += b" " * (-len(raw) % 8)
    if len(raw) > MAX_HEADER:
        raise broken(f"a header would take {len(raw)} bytes", f"headers take at most {MAX_HEADER} bytes")
    return len(raw).to_bytes(8, "little") + raw


def assemble(arrays: Mapping[str, Array], content: Mapping[str, Any]) -> bytes:
    """The whole file: the same arrays and content give the same bytes."""
    entries = ordered([describe(key, array) for key, array in arrays.items()])
    data = (arrays[e.key].astype(DTYPES[e.dtype], copy=False).tobytes() for e in entries)
    blank = header_bytes(entries, content) + b"".join(data)
    return seal(blank)


def seal(data: bytes) -> bytes:
    """The file with the digest that belongs to it."""
    digest = hashlib.sha256(data[: _DIGEST.start])
    digest.update(_ZEROS)
    digest.update(memoryview(data)[_DIGEST.stop :])
    return data[: _DIGEST.start] + digest.hexdigest().encode() + data[_DIGEST.stop :]


def take_apart(data: bytes) -> tuple[dict[str, Array], dict[str, Any]]:
    """Tensors (views of ``data``) and content of a file, after every check that needs no knowledge of graphs.

    Raises:
        ModelFileError: wrong digest, header, key, type, shape or offset.
    """
    length = _check_shell(data)
    outer = parse_json(data[8 : 8 + length].rstrip(b" "), "the header")
    metadata = exact_keys(outer.pop("__metadata__"), {"sha256", "subbyte"}, "__metadata__")
    if not isinstance(metadata["subbyte"], str):
        raise broken("the content is not text", "the content is JSON in a string", "__metadata__")
    content = parse_json(metadata["subbyte"].encode("utf-8", "surrogatepass"), "the content")
    return _tensors(outer, memoryview(data)[8 + length :]), content


def check_canonical(data: bytes, expected_header: bytes) -> None:
    """Refuse a file whose header is not, byte for byte, the one that its meaning would be written as."""
    zeroed = data[: _DIGEST.start] + _ZEROS + data[_DIGEST.stop : len(expected_header)]
    if zeroed != expected_header:
        at = next((i for i, (a, b) in enumerate(zip(zeroed, expected_header, strict=False)) if a != b), len(zeroed))
        raise broken(
            f"byte {at} of the header differs from how this model is written",
            "a model has exactly one header: sorted keys, no blanks, narrowest integers, nothing unused",
        )


def _check_shell(data: bytes) -> int:
    """The header's length, after the tests on raw bytes: sizes, fixed beginning, digest."""
    if len(data) < _DIGEST.stop + len(_MAGIC):
        raise broken(f"it has {len(data)} bytes", f"the smallest file has more than {_DIGEST.stop}")
    length = int.from_bytes(data[:8], "little")
    fixed = data[8 : _DIGEST.start] == _PREFIX and data[_DIGEST.stop :].startswith(_MAGIC)
    if not fixed:
        raise broken(f"it begins with {data[8:32]!r}", "a .subbyte file begins with its metadata and digest")
    if length > min(len(data) - 8, MAX_HEADER) or length % 8:
        rule = f"it is a multiple of 8, at most {MAX_HEADER}, and inside the file of {len(data)} bytes"
        raise broken(f"the header's length is given as {length}", rule)
    if seal(data) != data:
        seen = "the SHA-256 in the file is not that of its content"
        raise broken(seen, "a file that is whole has the digest it was written with")
    return length


def _tensors(outer: Mapping[str, Any], data: memoryview) -> dict[str, Array]:
    result: dict[str, Array] = {}
    end = 0
    for key, raw in sorted(outer.items(), key=lambda item: _start(*item)):
        place = f"tensor {shown(key)}"
        dtype = raw["dtype"]
        shape = integers(raw["shape"], place, 0, 2**40)
        start, stop = integers(raw["data_offsets"], place, 0, len(data))
        if dtype not in DTYPES or len(shape) > MAX_RANK:
            raise broken(f"dtype {shown(dtype)}, rank {len(shape)}", f"dtypes are {', '.join(DTYPES)}", place)
        size = math.prod(shape) * np.dtype(DTYPES[dtype]).itemsize  # unbounded integers: nothing wraps
        if start != end or stop - start != size or size == 0:
            raise broken(
                f"offsets {start}..{stop} after {end} for {size} bytes", "tensors follow each other, none empty", place
            )
        flat = np.frombuffer(data[start:stop], dtype=DTYPES[dtype])
        result[key] = flat.reshape(shape)
        end = stop
    if end != len(data):
        raise broken(f"{len(data) - end} bytes belong to no tensor", "tensors fill the file")
    return result


def _start(key: str, raw: Any) -> int:
    place = f"tensor {shown(key)}"
    entry = exact_keys(raw, {"dtype", "shape", "data_offsets"}, place)
    offsets = integers(entry["data_offsets"], place, 0, 2**62)
    if len(offsets) != 2 or not isinstance(entry["dtype"], str):
        raise broken("its entry is malformed", "an entry has a dtype in words and two offsets", place)
    return offsets[0]


def parse_json(raw: bytes, what: str) -> dict[str, Any]:
    """A JSON object; duplicate keys, NaN, endless numbers and deep nesting are refused."""
    try:
        value = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
    except ModelFileError:
        raise
    except (ValueError, RecursionError) as error:
        raise broken(f"{what} is no JSON: {error}", "headers are JSON of moderate depth") from error
    if not isinstance(value, dict):
        raise broken(f"{what} is {shown(value)}", "headers are JSON objects")
    _check_depth(value, what)
    return value


def _check_depth(tree: Any, what: str) -> None:
    level = [tree]
    for _ in range(MAX_DEPTH):
        branches = [b for b in level if isinstance(b, dict | list)]
        if not branches:
            return
        level = [v for b in branches for v in (b.values() if isinstance(b, dict) else b)]
    raise broken(f"{what} has more than {MAX_DEPTH} levels", "headers are JSON of moderate depth")


def shown(value: Any) -> str:
    """A parsed JSON value as errors show it: short, and inert on a terminal."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        twice = Counter(k for k, _ in pairs).most_common(1)[0][0]
        raise broken(f"key {shown(twice)} occurs twice", "keys of an object differ")
    return result


def _no_constant(text: str) -> Any:
    raise broken(f"the number {shown(text)}", "numbers are finite")


def exact_keys(value: Any, keys: set[str], place: str) -> dict[str, Any]:
    """The value, after a check that it is an object with exactly these keys."""
    if not isinstance(value, dict):
        raise broken(f"it is {shown(value)}", "this is an object", place)
    for key in sorted(keys ^ set(value)):
        seen = f"key {shown(key)} is {'missing' if key in keys else 'unknown'}"
        raise broken(seen, f"the keys are {', '.join(sorted(keys))}", place)
    return value


def integers(value: Any, place: str, lo: int, hi: int) -> tuple[int, ...]:
    """The value as a tuple, after a check that it is a list of integers in lo..hi."""
    if not isinstance(value, list) or not all(type(v) is int and lo <= v <= hi for v in value):
        raise broken(f"the entry {shown(value)}", f"this is a list of integers in {lo}..{hi}", place)
    return tuple(value)


def broken(seen: str, rule: str, place: str = "") -> ModelFileError:
    """The error of a bad file; the caller raises it."""
    return ModelFileError(seen, rule, "write the file again with q.save; do not edit or cut it", place)
