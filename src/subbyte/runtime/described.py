"""Formats and names as a model file describes them, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from subbyte.arithmetic.bounds import MOST_WEIGHT
from subbyte.errors import FormatError
from subbyte.formats.format import Format
from subbyte.formats.packing import default_packing
from subbyte.formats.registry import resolve_format
from subbyte.names import MAX_NAME
from subbyte.runtime.container import MAX_RANK, broken, exact_keys, shown, whole_numbers

_MAX_DIM = 2**31 - 1


class Formats:
    """The formats of one model by name; each name has one table and one packing."""

    def __init__(self) -> None:
        self._known: dict[str, Format] = {}

    @staticmethod
    def read(raw: Any) -> Formats:
        """The formats that a file describes."""
        result = Formats()
        for name, entry in mapping(raw, "formats").items():
            result._known[checked_name(name, "formats")] = _read_format(name, entry)
        return result

    def name(self, format: Format) -> str:
        """The format's name, which from now on belongs to it."""
        if self._known.setdefault(format.name, format) != format:
            raise FormatError(
                f"two different formats are named {format.name!r}",
                "a format's name has one table and one packing in a model",
                "rename one of them",
            )
        return format.name

    def __getitem__(self, name: Any) -> Format:
        if not isinstance(name, str) or name not in self._known:
            raise broken(f"the format {shown(name)} is not described", "formats in use stand in the file")
        return self._known[name]

    def described(self) -> dict[str, Any]:
        """JSON values by name."""
        return {name: _describe_format(f) for name, f in self._known.items()}


def _describe_format(format: Format) -> dict[str, Any]:
    uniform = format.uniform
    values = [format.lo, format.hi] if uniform else [int(v) for v in format.table]
    entry: dict[str, Any] = {"consecutive" if uniform else "table": values}
    return entry if format.packing == default_packing(format.levels) else {**entry, "packing": format.packing}


def _read_format(name: str, raw: Any) -> Format:
    place = f"format {shown(name)}"
    entry = {"packing": "", **mapping(raw, place)}
    kind = "consecutive" if "consecutive" in entry else "table"
    exact_keys(entry, {"packing", kind}, place)
    values = whole_numbers(entry[kind], place, -MOST_WEIGHT, MOST_WEIGHT)
    packing = entry["packing"]
    if not isinstance(packing, str) or (kind == "consecutive" and len(values) != 2):
        rule = "a format has a table, or the ends of a consecutive one, and at most a packing"
        raise broken(f"it is {shown(raw)}", rule, place)
    table = range(values[0], values[1] + 1) if kind == "consecutive" else values
    try:
        return resolve_format(name, table, packing)
    except FormatError as error:
        raise FormatError(error.seen, error.rule, error.remedy, error.place or place) from error


def mapping(raw: Any, place: str) -> dict[str, Any]:
    """The value, after a check that it is an object."""
    if not isinstance(raw, dict):
        raise broken(f"it is {shown(raw)}", "this is an object", place)
    return raw


def sequence(raw: Any, place: str) -> list[Any]:
    """The value, after a check that it is a list."""
    if not isinstance(raw, list):
        raise broken(f"it is {shown(raw)}", "this is a list", place)
    return raw


def checked_name(raw: Any, place: str, *, empty: bool = False) -> str:
    """The value, after a check that it is a name."""
    if not isinstance(raw, str) or not raw.isprintable() or not (empty or raw) or len(raw) > MAX_NAME:
        rule = f"names are 1..{MAX_NAME} printable characters: no control, invisible or right-to-left marks"
        raise broken(f"the name {shown(raw)}", rule, place)
    return raw


def dims(raw: Any, place: str) -> tuple[int, ...]:
    """The value as a shape, after a check that it is a list of at most ``MAX_RANK`` positive integers."""
    shape = whole_numbers(raw, place, 1, _MAX_DIM)
    if len(shape) > MAX_RANK:
        raise broken(f"rank {len(shape)}", f"ranks are at most {MAX_RANK}", place)
    return shape


def without(entry: Mapping[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The entry without what goes without saying."""
    return {k: v for k, v in entry.items() if k not in usual or type(v) is not type(usual[k]) or v != usual[k]}
