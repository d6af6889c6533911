"""Things that benchmarks make and keep in ``build/bench``: exported networks, quantized peers, the roof program."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "build" / "bench"


def digest(parts: Iterable[bytes | str]) -> str:
    """A short name for some content."""
    state = hashlib.sha256()
    for part in parts:
        state.update(part.encode() if isinstance(part, str) else part)
        state.update(b"\0")
    return state.hexdigest()[:12]


@cache
def compressor() -> str:
    """Digest of subbyte's Python sources: models made by others of them are made anew."""
    sources = sorted((ROOT / "src" / "subbyte").rglob("*.py"))
    return digest(source.read_bytes() for source in sources)


def made(name: str, parts: Iterable[bytes | str], make: Callable[[Path], None]) -> Path:
    """The file of that name, made if it is not there; ``parts`` are all that it depends on.

    Args:
        name: with a suffix; the digest of the parts goes before it.
        parts: content, versions, choices.
        make: writes the file at the path it is given, which lies in a folder of its own.
    """
    stem, dot, suffix = name.rpartition(".")
    folder = FOLDER / f"{stem}-{digest(parts)}"
    target = folder / f"{stem}{dot}{suffix}"
    if not target.exists():
        folder.mkdir(parents=True, exist_ok=True)
        unfinished = folder / f"unfinished-{os.getpid()}{dot}{suffix}"
        make(unfinished)
        unfinished.replace(target)
    return target
