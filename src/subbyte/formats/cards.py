"""A card per format: what it holds, how it is stored, where it may be used; as text, Markdown or a dict."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from subbyte.formats.format import Format
from subbyte.formats.granularity import granularities, operand_granularities
from subbyte.formats.levels import Pair, pairs
from subbyte.formats.packing import get_packing
from subbyte.formats.refusals import ROLES, refused
from subbyte.formats.registry import aliases, formats, get_format, spellings

__all__ = ["Card", "Pair", "card", "cards", "markdown_table", "pairs", "spellings"]

EXECUTORS = ("NumPy reference", "torch", "native")


@dataclass(frozen=True, kw_only=True)
class Card:
    """The facts about a format.

    Attributes:
        name: of the format.
        title: one line.
        levels: number of values.
        bits: information per value, log2(levels).
        stored_bits: per value in a long tensor, as packed.
        packing: name of the packing.
        table: the values, shortened where there are many.
        has_zero: whether 0 is a value.
        symmetric: whether each value's negative is one too.
        weights: ``yes``, ``with zero points``, or why not.
        activations: as operands of layers: ``yes``, or why not.
        storage: for results between nodes: ``yes``, or why not.
        granularity: scales that weights may have.
        operand_granularity: scales that operands of layers may have; those per token belong to linear layers.
        runs: executors that take it, in all roles that are legal; none where no role is.
        aliases: other names, each with what is meant by it.
        source: paper or standard.
    """

    name: str
    title: str
    levels: int
    bits: float
    stored_bits: float
    packing: str
    table: str
    has_zero: bool
    symmetric: bool
    weights: str
    activations: str
    storage: str
    granularity: tuple[str, ...]
    operand_granularity: tuple[str, ...]
    runs: tuple[str, ...]
    aliases: tuple[str, ...]
    source: str

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON-ready values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    def to_text(self) -> str:
        """One ``key: value`` line per fact under the name."""
        lines = [f"  {key + ':':<13}{value}" for key, value in self._lines()]
        return "\n".join([self.name, *lines])

    def to_markdown(self) -> str:
        """A heading and a two-column table."""
        rows = [f"| {key} | {value} |" for key, value in self._lines()]
        return "\n".join([f"### {self.name}", "", "| fact | value |", "|---|---|", *rows, ""])

    def _lines(self) -> list[tuple[str, str]]:
        return [
            ("title", self.title or "own format"),
            ("values", self.table),
            ("levels", f"{self.levels} ({self.bits:.3f} bits of information)"),
            ("stored", f"{self.stored_bits:.3f} bits per value, packing {self.packing}"),
            ("zero", "yes" if self.has_zero else "no"),
            ("symmetric", "yes" if self.symmetric else "no"),
            ("weights", self.weights),
            ("activations", self.activations),
            ("storage", self.storage),
            ("granularity", f"weights {_listed(self.granularity)}; operands {_listed(self.operand_granularity)}"),
            ("runs in", ", ".join(self.runs) or "nothing: numbers are encoded, packed and decoded"),
            *(("also", alias) for alias in self.aliases),
            ("source", self.source or "none given"),
        ]


def card(format: str | Format) -> Card:
    """The card of a format or of its name.

    Raises:
        FormatError: unknown name.
    """
    f = get_format(format)
    symmetric, affine = refused(f, "weight"), refused(f, "affine_weight")
    activation, storage = refused(f, "activation"), refused(f, "storage")
    if symmetric is None:
        weights = "yes"
    else:
        weights = f"no: {symmetric.reason}" if affine else "only with zero points (symmetric=False)"
    return Card(
        name=f.name,
        title=f.title,
        levels=f.levels,
        bits=f.bits,
        stored_bits=get_packing(f.packing).bits_per_code,
        packing=f.packing,
        table=_values(f),
        has_zero=f.has_zero,
        symmetric=f.symmetric,
        weights=weights,
        activations=f"no: {activation.reason}" if activation else "yes",
        storage=f"no: {storage.reason}" if storage else "yes",
        granularity=() if weights.startswith("no") else granularities(f, symmetric is None),
        operand_granularity=() if activation else operand_granularities(f),
        runs=() if all(refused(f, role) for role in ROLES) else EXECUTORS,
        aliases=tuple(f"{alias.name}: {alias.why}" for alias in aliases(f)),
        source=f.source,
    )


def cards() -> tuple[Card, ...]:
    """A card for every listed format."""
    return tuple(card(f) for f in formats())


def markdown_table() -> str:
    """Every listed format as one line of a Markdown table."""
    head = [
        "| format | values | levels | bits | stored | weights | activations | storage |",
        "|---|---|---|---|---|---|---|---|",
    ]
    rows = [
        f"| {c.name} | {c.table} | {c.levels} | {c.bits:.2f} | {c.stored_bits:.2f} | {_word(c.weights)} "
        f"| {_word(c.activations)} | {_word(c.storage)} |"
        for c in cards()
    ]
    return "\n".join([*head, *rows, ""])


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "none"


def _word(role: str) -> str:
    """The verdict without its reason."""
    return role.partition(":")[0].partition("(")[0].strip()


def _values(format: Format) -> str:
    if format.uniform and format.levels > 4:
        return f"{format.lo} .. {format.hi}"
    values = [str(v) for v in format.table]
    if len(values) <= 16:
        return ", ".join(values)
    return ", ".join([*values[:4], "...", *values[-4:]])
