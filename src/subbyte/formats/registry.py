"""Formats by name: families that resolve by pattern, and what the user registers."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass

from subbyte.errors import FormatError
from subbyte.formats.apot import APOT
from subbyte.formats.binary import BINARY
from subbyte.formats.dynamic_map import DYNAMIC, UNSIGNED_DYNAMIC
from subbyte.formats.family import Family
from subbyte.formats.format import Format
from subbyte.formats.integers import SIGNED, UNSIGNED
from subbyte.formats.levels import LEVELS
from subbyte.formats.midrise import MIDRISE
from subbyte.formats.nf4 import NF4
from subbyte.formats.powers import FP130, POW2, POW2_NOZERO
from subbyte.formats.small_float import SMALL_FLOAT_FAMILIES
from subbyte.formats.ternary import TERNARY

FAMILIES: tuple[Family, ...] = (
    SIGNED,
    UNSIGNED,
    LEVELS,
    TERNARY,
    BINARY,
    MIDRISE,
    NF4,
    POW2,
    POW2_NOZERO,
    FP130,
    APOT,
    *SMALL_FLOAT_FAMILIES,
    DYNAMIC,
    UNSIGNED_DYNAMIC,
)


@dataclass(frozen=True, kw_only=True)
class Alias:
    """What others call a format.

    Attributes:
        name: theirs.
        format: its name here.
        why: what they mean by it, and where.
    """

    name: str
    format: str
    why: str


_ABQ = "Zeng et al., ABQ-LLM, 2024, bit balance"

ALIASES: tuple[Alias, ...] = (
    Alias(name="abq2", format="levels5", why=f"2 bits with a fifth level ({_ABQ}); five levels do not fit 2 bits"),
    Alias(name="abq1", format="ternary", why=f"1 bit with a third level ({_ABQ}); three levels do not fit 1 bit"),
)
"""Names that resolve to a format of another name; recipes take them, files hold the format's own."""

_registered: dict[str, Format] = {}
_resolved: dict[str, Format] = {}


def get_format(name: str | Format) -> Format:
    """The format of a name (a Format is returned as it is); the same object for the same name.

    Raises:
        FormatError: unknown, with the nearest names.
    """
    if isinstance(name, Format):
        return name
    found = _find(name)
    if found is None:
        raise _unknown(name)
    return found


def register_format(format: Format) -> Format:
    """Make a format known by its name, and return it; an equal format registered before is returned instead.

    Raises:
        FormatError: the name belongs to a different format.
    """
    known = _find_quietly(format.name)
    if known is not None and known != format:
        raise _taken(format, known)
    if known is None:
        if any(family.claims(format.name) for family in FAMILIES):
            raise _taken(format, None)
        _registered[format.name] = format
    return known or format


def unregister_format(name: str) -> None:
    """Forget a format that the user registered; unknown names and built-in formats are left alone."""
    _registered.pop(name, None)


def resolve_format(name: str, table: Sequence[int], packing: str = "") -> Format:
    """The format that a file describes: the known one of that name, else a new one that is not registered.

    A file may pack a known format in another way; it then gets a format of that packing.

    Raises:
        FormatError: the table or packing is illegal, or the table is not that of the known format of the name.
    """
    described = Format(name=name, table=table, packing=packing)
    known = _find_quietly(name)
    if known is None:
        if any(family.claims(name) for family in FAMILIES):
            raise _taken(described, None)
        return described
    if known.table != described.table or known.name != name:
        raise _taken(described, known)
    return known if known == described else described


def format_names() -> tuple[str, ...]:
    """Names in lists and near misses: every built-in format (of levels<N> those of maximal pairs), then the user's."""
    return (*(name for family in FAMILIES for name in family.listed), *_registered)


def formats() -> tuple[Format, ...]:
    """The formats of ``format_names()``."""
    return tuple(get_format(name) for name in format_names())


def spellings() -> tuple[str, ...]:
    """How names are written, one line per family."""
    return tuple(family.spelling for family in FAMILIES)


def aliases(format: Format) -> tuple[Alias, ...]:
    """What else a format is called."""
    return tuple(alias for alias in ALIASES if alias.format == format.name)


def _find(name: str) -> Format | None:
    name = next((alias.format for alias in ALIASES if alias.name == name), name)
    known = _registered.get(name) or _resolved.get(name)
    if known is not None:
        return known
    for family in FAMILIES:
        found = family.find(name)
        if found is not None:
            _resolved[name] = found
            return found
    return None


def _find_quietly(name: str) -> Format | None:
    """Like ``_find``, None where a family knows the name's shape but not its number."""
    try:
        return _find(name)
    except FormatError:
        return None


def _unknown(name: str) -> FormatError:
    near = difflib.get_close_matches(name, (*format_names(), *(a.name for a in ALIASES)), n=3, cutoff=0.5)
    families = "; ".join((*spellings(), *_registered))
    remedy = f"did you mean {' or '.join(near)}?" if near else "use a name of this list"
    return FormatError(f"format {name!r} is unknown", f"formats are {families}", remedy)


def _taken(format: Format, known: Format | None) -> FormatError:
    table = f"{list(format.table)[:8]}{' ...' if format.levels > 8 else ''}, packing {format.packing}"
    holder = f"the table {list(known.table)[:8]} and packing {known.packing}" if known else "a rule for such names"
    return FormatError(
        f"a format named {format.name!r} has the table {table}",
        f"a name has one meaning, and {format.name!r} already has {holder}",
        "give the new format another name",
    )
