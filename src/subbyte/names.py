"""Names come from users' files, so every sink treats them as hostile: one rule for what may be stored and shown.

A name is *printable* if Python calls each of its characters printable: no control characters (terminal escapes,
NUL, line ends), no invisible format characters (right-to-left overrides, zero-width joiners), no lone surrogates and
no blanks other than the space. ``repr`` escapes the same set, so ``{name!r}`` in messages is safe too.
"""

from __future__ import annotations

import json
from typing import Any

MAX_NAME = 4096
"""Longest name, in characters, that a model file holds."""


def printable(text: str) -> str:
    r"""The text with each unprintable character written as its escape (``\x1b``, ``\u202e``)."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in text)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: keys sorted, no blanks, ASCII only, and ``<``, ``>``, ``&`` escaped.

    The escapes keep a name such as ``</script>`` inert wherever the text is pasted.

    Raises:
        ValueError: the value holds NaN or infinity.
        TypeError: the value holds something that JSON cannot say.
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return inert(text)


def inert(json_text: str) -> str:
    """JSON text with ``<``, ``>`` and ``&``, which occur only inside strings, as escapes."""
    return json_text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
