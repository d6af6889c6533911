"""Write docs/formats.md from what the code knows: names, the table of formats, pairs, refusals and cards.

make install && .venv/bin/python tools/formats_page.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from subbyte.formats.cards import cards, markdown_table, pairs, spellings
from subbyte.formats.refusals import REFUSALS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats.md"

_INTRODUCTION = """\
# Formats: how a number is written in few bits

<!-- made by tools/formats_page.py: change the code, then run it again -->

A format is a table of integers in code order; `real = scale * (table[code] - zero_point)`. Bits, symmetry, packing and
the roles that a format may play follow from the table. `subbyte formats` lists them, `subbyte formats int4` shows one.
"""

_NEW_FORMAT = """\
## A format of one's own

One object, and recipes (`wsix_a8`), packing, files, all executors and `subbyte formats` take it. A model file carries
the table, so whoever loads it need not know the format.

```python
from subbyte.formats import Format, register_format

register_format(Format(name="six", table=(-2, -1, 0, 1, 2, 4), title="0, +-1, +-2, 4", source="own"))
```

A table of reals becomes the nearest integers of largest magnitude 127 (`codebook`), or is fitted to weights first
(`fit_codebook`); both state what the integer form is off by. `.format` is registered like any other.

```python
from subbyte.formats import fit_codebook

fit = fit_codebook(weights, 16, name="mine")
fit.float_error, fit.integer_error
register_format(fit.format)
```
"""


_TABLE = """\
## Table

Of `levels<N>` these are the counts that occur in a maximal pair. Bits are log2 of the levels, stored bits those of a
long tensor in a file.
"""

_PAIRS = """\
## Pairs of level counts

The 4.6-bit rule: level counts whose products fit a signed byte, `(N_x - 1)/2 * (N_w - 1)/2 <= 127`. These are the pairs
in which neither count can grow; smaller ones are legal too.
"""

_REFUSALS = """\
## Refusals

The whole list (`formats/refusals.py`). What it does not name runs in the NumPy reference, in torch and natively, with
the same integers. A refused format is an error that names the layer. One more refusal depends on a layer's numbers: of
8-bit weights with zero points, table value minus zero point must lie in -128..127.
"""


def page() -> str:
    """The whole document."""
    parts = [
        _INTRODUCTION,
        "## Names\n",
        *(f"- `{spelling}`" for spelling in spellings()),
        "",
        _TABLE,
        markdown_table(),
        _PAIRS,
        _pairs(),
        _REFUSALS,
        _refusals(),
        _NEW_FORMAT,
        "## Cards\n",
        *(card.to_markdown() for card in cards()),
    ]
    return "\n".join(parts).rstrip("\n") + "\n"


def _pairs() -> str:
    rows = [(f"`{p.recipe}`", p.activations, p.weights, p.product, f"{p.mean_bits:.2f}") for p in pairs()]
    return _table(("recipe", "activation levels", "weight levels", "largest product", "mean bits"), rows)


def _refusals() -> str:
    rows = [
        (line.role.replace("_", " "), ", ".join(line.operators) or "all", line.formats, line.reason, line.remedy)
        for line in REFUSALS
    ]
    return _table(("role", "operators", "formats", "because", "instead"), rows)


def _table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    cells = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(_plain(cell) for cell in row)} |" for row in cells) + "\n"


def _plain(cell: object) -> str:
    """Text that Markdown takes for no tag and no cell border."""
    return str(cell).replace("|", "\\|").replace("<", "&lt;").replace(">", "&gt;")


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(), encoding="utf8")


if __name__ == "__main__":
    main()
