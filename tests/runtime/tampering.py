"""Files that were changed on purpose and carry the digest of what they have become."""

from __future__ import annotations

import copy
import json
import random
from typing import Any

from subbyte.names import canonical_json
from subbyte.runtime.container import seal

NASTY: tuple[Any, ...] = (
    0, 1, -1, 2, 3, 7, 255, 256, -32768, 65536, 2**31 - 1, 2**31, -(2**31) - 1, 2**62, 2**63, 2**64, 10**40,
    True, False, None, 0.0, 1.0, 1.5, -0.5, 1e300, "", "uint8", "int16", "int4", "bits4", "radix3", "int_conv", "conv",
    "concat", "image", "stem", "stem.weight", "channels_first", "0x1p-6", "0x0p+0", "inf", "nan",
    "-0x1p-6", "0x1p-1000", "\0", "a\x1b[2J", "</script>", "x\u202ey", "x" * 5000,
    [], [0], [1, 1], [0, 0], [None], [None, 1], [None, 2**31 - 1, 2**31 - 1], [None, 0], [-1, -1], [1] * 70, {},
    {"a": 1}, [[[[[[[[]]]]]]]],
)  # fmt: skip
"""Values put in place of honest ones."""


def split(data: bytes) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """(tensor entries, content, tensor data) of a whole file."""
    length = int.from_bytes(data[:8], "little")
    outer = json.loads(data[8 : 8 + length])
    content = json.loads(outer.pop("__metadata__")["subbyte"])
    return outer, content, data[8 + length :]


def join(outer: dict[str, Any], content: Any, data: bytes) -> bytes:
    """The file of these parts, with the right length and digest."""
    metadata = {"sha256": "0" * 64, "subbyte": canonical_json(content)}
    first = '{"__metadata__":' + canonical_json(metadata)
    return with_header(first + ("," + canonical_json(outer)[1:] if outer else "}"), data)


def with_header(text: str, data: bytes) -> bytes:
    """The file of this header, with the right length and digest."""
    raw = text.encode("ascii", "backslashreplace")
    raw += b" " * (-len(raw) % 8)
    return seal(len(raw).to_bytes(8, "little") + raw + data)


def header(data: bytes) -> str:
    """The header as text, without padding."""
    length = int.from_bytes(data[:8], "little")
    return data[8 : 8 + length].decode().rstrip(" ")


def tamper(data: bytes, seed: int) -> bytes:
    """A file with one to three changes in its entries, content, header text or tensor data."""
    rng = random.Random(seed)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        way = rng.choices((_in_content, _in_entries, _in_text, _in_data), weights=(6, 2, 1, 3))[0]
        data = way(data, rng)
        if way is _in_text:  # the header may be no JSON any more
            break
    return data


def _in_content(data: bytes, rng: random.Random) -> bytes:
    outer, content, rest = split(data)
    _change(content, rng)
    return join(outer, content, rest)


def _in_entries(data: bytes, rng: random.Random) -> bytes:
    outer, content, rest = split(data)
    _change(outer, rng)
    if rng.random() < 0.3:
        rest = rest[: rng.randrange(len(rest) + 1)] if rng.random() < 0.5 else rest + bytes(rng.randrange(64))
    return join(outer, content, rest)


def _in_text(data: bytes, rng: random.Random) -> bytes:
    text, rest = header(data), data[8 + int.from_bytes(data[:8], "little") :]
    prefix = text.index('"subbyte"')
    at = rng.randrange(prefix, len(text))
    length = rng.randrange(1, 30)
    piece = rng.choice(
        ("", " ", "0", '"', "}", "{", "[", ",", '\\"', "\\u0000", "[" * 3000, "9" * 5000, text[at : at + length])
    )
    return with_header(text[:at] + piece + text[at + rng.choice((0, 0, length)) :], rest)


def _in_data(data: bytes, rng: random.Random) -> bytes:
    start = 8 + int.from_bytes(data[:8], "little")
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
