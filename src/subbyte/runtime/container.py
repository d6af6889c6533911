"""The outer shell of a .subbyte file: a fixed beginning with a digest, a packed header, the payload; knows no graphs.

Layout: ``subbyte`` and the version as a byte, the SHA-256 of the file with these 32 bytes as zeros, the lengths of the
packed header and of its text (uint32, little endian), the packed header (raw deflate), zeros up to a multiple of 8,
the payload. The digest is checked before anything is unpacked or parsed. It shows damage, not authorship.
"""

from __future__ import annotations

import hashlib
import json
import struct
import zlib
from collections import Counter
from collections.abc import Mapping
from typing import Any, Final

from subbyte.errors import ModelFileError
from subbyte.names import canonical_json
from subbyte.runtime.hints import HINTS

VERSION: Final = 2
MAX_TEXT: Final = 1 << 23
"""Most bytes of a header's text: a few packed bytes could else become gigabytes."""

MAX_RANK = 8
MAX_DEPTH = 16
"""Most levels of brackets in a header."""

_MAGIC = b"subbyte"
_HEAD = struct.Struct("<7sB32sII")
_DIGEST = slice(8, 40)
_ZEROS = bytes(32)
_ALIGNMENT = 8
_FIRST_VERSION = b'{"__metadata__":{"sha256":"'
"""What stood behind the first 8 bytes of files of version 1."""


def header_text(content: Mapping[str, Any]) -> bytes:
    """The one text of a header.

    Raises:
        ModelFileError: it is too long.
    """
    text = canonical_json(content).encode("ascii")
    if len(text) > MAX_TEXT:
        raise broken(f"a header would take {len(text)} bytes", f"headers take at most {MAX_TEXT} bytes")
    return text


def assemble(text: bytes, payload: bytes) -> bytes:
    """The whole file of a header's text and a payload."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, HINTS)
    packed = packer.compress(text) + packer.flush()
    head = _HEAD.pack(_MAGIC, VERSION, _ZEROS, len(packed), len(text))
    return seal(head + packed + _padding(len(packed)) + payload)


def seal(data: bytes) -> bytes:
    """The file with the digest that belongs to it."""
    return data[: _DIGEST.start] + _digest(data) + data[_DIGEST.stop :]


def take_apart(data: bytes) -> tuple[bytes, dict[str, Any], memoryview]:
    """(text of the header, the same parsed, payload) of a file, after every check that needs no knowledge of graphs.

    Raises:
        ModelFileError: another version, a wrong digest or length, or a header that is no JSON.
    """
    if len(data) < _HEAD.size:
        raise broken(f"it has {len(data)} bytes", f"the smallest file has more than {_HEAD.size}")
    magic, version, digest, packed, length = _HEAD.unpack_from(data)
    _check_version(data, magic, version)
    if digest != _digest(data):
        seen = "the SHA-256 in the file is not that of its content"
        raise broken(seen, "a file that is whole has the digest it was written with")
    start = _HEAD.size + packed + len(_padding(packed))
    if start > len(data) or length > MAX_TEXT:
        rule = f"both parts of the header lie in the file of {len(data)} bytes, and its text has at most {MAX_TEXT}"
        raise broken(f"the header's lengths are given as {packed} and {length}", rule)
    if data[_HEAD.size + packed : start] != _padding(packed):
        raise broken("the bytes behind the header are not zero", f"zeros fill it up to a multiple of {_ALIGNMENT}")
    text = _unpacked(data[_HEAD.size : _HEAD.size + packed], length)
    return text, parse_json(text, "the header"), memoryview(data)[start:]


def check_canonical(text: bytes, payload: memoryview, expected_text: bytes, expected_payload: bytes) -> None:
    """Refuse a file that is not, byte for byte, what its meaning would be written as."""
    for what, found, expected in (("header", text, expected_text), ("payload", payload, expected_payload)):
        if bytes(found) != expected:  # memory views are compared one by one
            pairs = enumerate(zip(found, expected, strict=False))
            at = next((i for i, (a, b) in pairs if a != b), min(len(found), len(expected)))
            raise broken(
                f"byte {at} of the {what} differs from how this model is written",
                "a model has exactly one header and payload: sorted keys, no blanks, fewest bits, nothing unused",
            )


def _check_version(data: bytes, magic: bytes, version: int) -> None:
    old = data[8 : 8 + len(_FIRST_VERSION)] == _FIRST_VERSION
    if magic != _MAGIC and not old:
        raise broken(f"it begins with {data[:8]!r}", f"a .subbyte file begins with {_MAGIC!r} and its version")
    if old or version != VERSION:
        raise ModelFileError(
            f"the file has version {1 if old else version}",
            f"this program reads version {VERSION}",
            "use the program that wrote the file, or quantize the network again with this one",
        )


def _digest(data: bytes) -> bytes:
    found = hashlib.sha256(data[: _DIGEST.start])
    found.update(_ZEROS)
    found.update(memoryview(data)[_DIGEST.stop :])
    return found.digest()


def _padding(packed: int) -> bytes:
    return bytes(-(_HEAD.size + packed) % _ALIGNMENT)


def _unpacked(packed: bytes, length: int) -> bytes:
    """The header's text; never more than one byte beyond its length is unpacked."""
    unpacker = zlib.decompressobj(-15, zdict=HINTS)
    try:
        text = unpacker.decompress(packed, length + 1)
    except zlib.error as error:
        raise broken(f"the header cannot be unpacked: {error}", "the header is packed by deflate") from error
    if len(text) != length or not unpacker.eof or unpacker.unused_data:
        rule = f"its length is given as {length}, and nothing is behind it"
        raise broken(f"the header unpacks to {len(text)} bytes or more, or ends early", rule)
    return text


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


def whole_numbers(value: Any, place: str, lo: int, hi: int, count: int | None = None) -> tuple[int, ...]:
    """The value as a tuple, after a check that it is a list of (so many) integers in lo..hi."""
    good = isinstance(value, list) and all(type(v) is int and lo <= v <= hi for v in value)
    if not good or (count is not None and len(value) != count):
        many = "" if count is None else f"{count} "
        raise broken(f"the entry {shown(value)}", f"this is a list of {many}integers in {lo}..{hi}", place)
    return tuple(value)


def broken(seen: str, rule: str, place: str = "") -> ModelFileError:
    """The error of a bad file; the caller raises it."""
    return ModelFileError(seen, rule, "write the file again with q.save; do not edit or cut it", place)
