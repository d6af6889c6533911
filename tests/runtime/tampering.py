"""Files that were changed on purpose and carry the digest of what they have become."""

from __future__ import annotations

import copy
import json
import random
import struct
import zlib
from typing import Any

from subbyte.names import canonical_json
from subbyte.runtime.container import seal
from subbyte.runtime.hints import HINTS

NASTY: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 255, 256, -32768, 65536, 2**31 - 1, 2**31, -(2**31) - 1, 2**62, 2**63, 2**64, 10**40,
    True, False, None, 0.0, 1.0, 1.5, -0.5, 1e300, "", "uint8", "int16", "int4", "bits4", "radix3", "int_conv", "conv",
    "concat", "image", "stem", "stem.weight", "channels_first", "0x1p-6", "0x0p+0", "inf", "nan",
    "-0x1p-6", "0x1p-1000", "\0", "a\x1b[2J", "</script>", "x\u202ey", "x" * 5000,
    [], [0], [1, 1], [0, 0], [None], [None, 1], [None, 2**31 - 1, 2**31 - 1], [None, 0], [-1, -1], [1] * 70, {},
    {"a": 1}, [[[[[[[[]]]]]]]],
)  # fmt: skip
"""Values put in place of honest ones."""


_HEAD = struct.Struct("<7sB32sII")


def split(data: bytes) -> tuple[dict[str, Any], bytes]:
    """(content, payload) of a whole file."""
    return json.loads(header(data)), data[_start(data) :]


def join(content: Any, payload: bytes) -> bytes:
    """The file of these parts, with the right lengths and digest."""
    return with_header(canonical_json(content), payload)


def with_header(text: str, payload: bytes) -> bytes:
    """The file of this header, with the right lengths and digest."""
    raw = text.encode("ascii", "backslashreplace")
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, HINTS)
    return with_packed(packer.compress(raw) + packer.flush(), len(raw), payload)


def with_packed(packed: bytes, length: int, payload: bytes, fill: bytes = b"\0") -> bytes:
    """The file of a header that is packed already and of any length that it is said to have."""
    head = _HEAD.pack(b"subbyte", 2, bytes(32), len(packed), length)
    return seal(head + packed + fill * (-(len(head) + len(packed)) % 8) + payload)


def header(data: bytes) -> str:
    """The header as text."""
    packed = _HEAD.unpack_from(data)[3]
    return zlib.decompressobj(-15, zdict=HINTS).decompress(data[_HEAD.size : _HEAD.size + packed]).decode()


def _start(data: bytes) -> int:
    packed = _HEAD.unpack_from(data)[3]
    return _HEAD.size + packed + -(_HEAD.size + packed) % 8


def tamper(data: bytes, seed: int) -> bytes:
    """A file with one to three changes in its entries, content, header text or tensor data."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        ways = (_in_content, _in_size, _in_text, _in_packed, _in_data)
        way = rng.choices(ways, weights=(6, 1, 1, 1, 3))[0]
        data = way(data, rng)
        if way in (_in_text, _in_packed):  # the header may be no JSON any more
            break
    return data


def _in_content(data: bytes, rng: random.Random) -> bytes:
    content, rest = split(data)
    _change(content, rng)
    return join(content, rest)


def _in_size(data: bytes, rng: random.Random) -> bytes:
    content, rest = split(data)
    if type(content.get("codes")) is int:
        content["codes"] += rng.choice((0, 0, 1, -1, 100, -(10**9)))
    rest = rest[: rng.randrange(len(rest) + 1)] if rng.random() < 0.5 else rest + bytes(rng.randrange(64))
    return join(content, rest)


def _in_text(data: bytes, rng: random.Random) -> bytes:
    text, rest = header(data), data[_start(data) :]
    at = rng.randrange(len(text))
    length = rng.randrange(1, 30)
    piece = rng.choice(
        ("", " ", "0", '"', "}", "{", "[", ",", '\\"', "\\u0000", "[" * 3000, "9" * 5000, text[at : at + length])
    )
    return with_header(text[:at] + piece + text[at + rng.choice((0, 0, length)) :], rest)


def _in_packed(data: bytes, rng: random.Random) -> bytes:
    """The packed header or its lengths."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4))):
        changed[rng.randrange(40, _start(data))] ^= 1 << rng.randrange(8)
    return seal(bytes(changed))


def _in_data(data: bytes, rng: random.Random) -> bytes:
    start = _start(data)
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 4, 64))):
        if start < len(changed):
            changed[rng.randrange(start, len(changed))] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
    return seal(bytes(changed))


def _change(tree: Any, rng: random.Random) -> None:
    """Change one place of a JSON tree."""
    spots = _spots(tree)
    if not spots:
        return
    holder, key = rng.choice(spots)
    action = rng.random()
    if action < 0.12:
        del holder[key]
    elif action < 0.2 and isinstance(holder, dict):
        holder[str(rng.choice(("extra", "dtype", "image", "\u202e", key + "2" if isinstance(key, str) else "k")))] = (
            holder[key]
        )
    elif action < 0.3:
        other, name = rng.choice(spots)
        holder[key], other[name] = copy.deepcopy(other[name]), copy.deepcopy(holder[key])
    elif action < 0.4 and isinstance(holder, list):
        holder.insert(key, copy.deepcopy(holder[key]))
    elif action < 0.65 and isinstance(holder[key], int):
        holder[key] += rng.choice((-1, 1, 2, 8, -256, 1 << 16))
    else:
        holder[key] = copy.deepcopy(rng.choice(NASTY))


def _spots(tree: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) in a tree."""
    found: list[tuple[Any, Any]] = []
    stack = [tree]
    while stack:
        holder = stack.pop()
        items = holder.items() if isinstance(holder, dict) else enumerate(holder)
        for key, value in items:
            found.append((holder, key))
            if isinstance(value, dict | list):
                stack.append(value)
    return found
