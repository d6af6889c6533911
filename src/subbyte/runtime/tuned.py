"""Which choices were fastest on this machine: a file that ``subbyte bench --tune`` writes and engines read.

The file may be deleted at any time. It lies in the user's cache folder (``$XDG_CACHE_HOME/subbyte`` or what the system
has for it), is named after the CPU, and is ignored where CPU, instruction sets or engine are not those it was made
with. The environment variable ``SUBBYTE_TUNE=off`` makes engines leave it alone.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
import warnings
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import subbyte
from subbyte import _native
from subbyte.errors import RunError, SubbyteError, unknown_name
from subbyte.files import atomic_write, read_file
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops.op import attributes
from subbyte.runtime.choices import Choice

Winners: TypeAlias = Mapping[str, Choice]
"""By layer (see ``layer_key``) the ways that differ from the usual ones."""

VARIABLE = "SUBBYTE_TUNE"
VERSION = 1
MOST_BYTES = 16 << 20
CPU_FACTS = ("model name", "cpu family", "model", "stepping", "cache size", "CPU implementer", "CPU part")


class TuningWarning(UserWarning):
    """What was remembered about this machine cannot be used; the engine chooses by itself."""


def enabled() -> bool:
    """Whether engines use what was remembered.

    Raises:
        RunError: the environment variable is neither on nor off.
    """
    value = os.environ.get(VARIABLE, "")
    if value not in {"", "on", "off"}:
        raise RunError(*unknown_name("state of tuning", value, ["on", "off"]), f"environment variable {VARIABLE}")
    return value != "off"


def folder() -> Path:
    """Where the file lies; the folder may not exist yet."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    if Path(given).is_absolute():
        return Path(given) / "subbyte"
    home = Path(os.path.expanduser("~"))  # noqa: PTH111 - unlike Path.home it does not fail where there is none
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "subbyte" / "Cache"
    return home / ("Library/Caches" if sys.platform == "darwin" else ".cache") / "subbyte"


def path() -> Path:
    """The file of this CPU."""
    return folder() / f"tune-{hashlib.sha256(cpu().encode()).hexdigest()[:12]}.json"


@cache
def cpu() -> str:
    """What tells this CPU from others."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf8", errors="replace").splitlines()
    except OSError:
        lines = []
    facts = dict(reversed([(k.strip(), v.strip()) for k, _, v in (line.partition(":") for line in lines)]))
    known = [facts[name] for name in CPU_FACTS if name in facts]
    return " / ".join(known) or f"{platform.machine()} {platform.processor()}"


@cache
def machine() -> dict[str, Any]:
    """What the file is good for: this CPU, the instruction sets in use here, and this very engine."""
    engine = hashlib.sha256(read_file(str(_native.__file__))).hexdigest()[:16]
    return {"cpu": cpu(), "isas": _native.available_isas(), "engine": f"{subbyte.__version__} {engine}"}


def layer_key(graph: Graph, node: Node) -> str:
    """What decides how long a layer takes: operator, attributes, shapes and ranges of operand, weight and result."""
    plain = {k: v for k, v in attributes(node.op).items() if k not in {"lo", "hi"}}
    words = [node.op.name, *(f"{k}={v}" for k, v in sorted(plain.items()))]
    words += [_text(graph, name) for name in (*node.inputs, node.output) if name in graph.types]
    for weight in (graph.constants.get(name) for name in node.inputs):
        if isinstance(weight, QTensor):
            levels = f"{weight.format.levels} of {weight.format.lo}..{weight.format.hi}"
            grouped = "" if weight.groups is None else " in groups"  # which are multiplied as bytes
            words.append(f"weight {list(weight.codes.shape)} {levels}{grouped}")
    return "; ".join(words)


def _text(graph: Graph, name: str) -> str:
    kind = graph.types[name]
    assert isinstance(kind, IntType)
    codes = " codes" if kind.format.coded else ""  # which other kernels multiply
    return f"{list(kind.shape[1:])} {kind.storage}{codes} {kind.lo}..{kind.hi}"


def choices(graph: Graph, isa: str) -> dict[str, Choice]:
    """What was remembered for the layers of a graph, by node; empty where nothing was, or where it is switched off."""
    if not enabled() or not folder().is_dir():
        return {}
    known = winners(isa)
    if not known:
        return {}
    found = {n.name: known.get(layer_key(graph, n), {}) for n in graph if any(i in graph.constants for i in n.inputs)}
    return {name: choice for name, choice in found.items() if choice}


def winners(isa: str) -> Winners:
    """What was remembered for an instruction set; empty where there is no file or it is of no use here."""
    layers: Mapping[str, Winners] = _read().get("layers", {})
    return layers.get(isa, {})


def remember(isa: str, found: Winners) -> Path:
    """Add winners to the file, in place of older ones of the same layers; returns its path.

    Raises:
        SubbyteError: the file cannot be written.
    """
    target = path()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TuningWarning)  # what is no use is written over
        layers = dict(_read().get("layers", {}))
    layers[isa] = {**layers.get(isa, {}), **{key: dict(choice) for key, choice in found.items()}}
    content = {"version": VERSION, "machine": machine(), "layers": layers}
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SubbyteError(
            f"cannot make the folder {str(target.parent)!r}: {error.strerror or error}",
            "the user's cache folder can be written",
            "set XDG_CACHE_HOME to a folder that can",
            f"folder {str(target.parent)!r}",
        ) from error
    atomic_write(target, (json.dumps(content, indent=1, sort_keys=True) + "\n").encode())
    return target


_LAST: dict[str, tuple[tuple[int, int, int], dict[str, Any]]] = {}
"""The content of each path as it was last read, with what tells whether it has changed since."""


def _read() -> dict[str, Any]:
    """The file's content if it holds for this machine, else nothing; a defect is warned of once."""
    target = path()
    try:
        facts = target.stat()
    except OSError:
        return {}
    stamp = (facts.st_mtime_ns, facts.st_size, facts.st_ino)
    known = _LAST.get(str(target))
    if known is None or known[0] != stamp:
        known = _LAST[str(target)] = stamp, _parsed(target, facts.st_size)
    return known[1]


def _parsed(target: Path, size: int) -> dict[str, Any]:
    try:
        if size > MOST_BYTES:
            raise ValueError(f"{size} bytes")
        content = json.loads(read_file(target))
        if not isinstance(content, dict) or content.get("version") != VERSION or not _sound(content.get("layers")):
            raise ValueError("not what subbyte bench --tune writes")
    except (OSError, ValueError, RecursionError) as error:
        warnings.warn(f"{target} is ignored ({error}); delete it, or tune again", TuningWarning, stacklevel=2)
        return {}
    return content if content.get("machine") == machine() else {}


def _sound(layers: object) -> bool:
    """Whether these are choices by layer by instruction set; whether they are possible is for the engine to say."""
    return isinstance(layers, dict) and all(
        isinstance(of_isa, dict)
        and all(isinstance(c, dict) and all(isinstance(way, str) for way in c.values()) for c in of_isa.values())
        for of_isa in layers.values()
    )
