"""Write docs/formats.md from what the code knows: names, the table of formats, pairs, refusals and cards.

make install && .venv/bin/python tools/formats_page.py
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from subbyte.formats.cards import cards, markdown_table, pairs, spellings
from subbyte.formats.refusals import REFUSALS
from subbyte.formats.registry import ALIASES
from subbyte.formats.small_float import SMALL_FLOATS

PAGE = Path(__file__).resolve().parent.parent / "docs" / "formats.md"

_INTRODUCTION = """\
# Formats: how a number is written in few bits

<!-- made by tools/formats_page.py: change the code, then run it again -->

A format is a table of integers in code order; `real = scale * (table[code] - zero_point)`. Bits, symmetry, packing and
the roles that a format may play follow from the table. `subbyte formats` prints the cards below, then the
tables (`--brief`: only these); `subbyte formats int4` prints one card.
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
(`fit_codebook`); both state what the integer form is off by. `.format` is registered like any other. With
`largest=32767` the integers have 16 bits: 256 entries of uneven spacing lose next to nothing, and weights of that
format run on slower kernels, those of fp8_e4m3fn.

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

_FLOATS = """\
## Small floats

`small_float(name)` writes and reads their bit patterns, in one rounding to the nearest value, ties to even mantissas,
from float16, float32 or float64; `overflow` says what becomes of numbers too large: `"saturate"` (default) or
`"nonfinite"`. As formats they are integers in the unit given here, and their codes count the values from the lowest.
Patterns are those of ml_dtypes 0.6.0 and, of fp8_e4m3fn and fp8_e5m2, of torch 2.13, for float16 (tested one by one)
and float32 (tested at all values, at all middles and beside them, and at random), and all patterns are read alike. The
differences, each with a number that shows it:

| number | in | here | ml_dtypes | torch |
|---|---|---|---|---|
| 431.99999999999994 (float64) | fp8_e4m3fn | 416 | 448, rounded twice by way of float32 | 448, the same |
| 45055.99999999999 (float64) | fp8_e5m2 | 40960 | 49152, the same | 49152, the same |
| the float64 above half the smallest value | all | the smallest value | 0, the same | 0, the same |
| 500, infinity | fp8_e4m3fn | 448, or NaN with `"nonfinite"` | NaN | 448 |
| 65536, infinity | fp8_e5m2 | 57344, or infinity with `"nonfinite"` | infinity | infinity |
| NaN | fp8_e4m3fn | 0x7F | 0x7F | 0x7F |
| NaN | fp8_e5m2 | 0x7E | 0x7E | 0x7F |
| 8, infinity | fp4_e2m1, fp6_e2m3 | 6 and 7.5 | the same | - |
| NaN | fp4_e2m1, fp6_e2m3, fp6_e3m2 | an error | a zero of the other sign | - |
"""

_BLOCKS = """\
## Blocks and dynamic maps

State of optimizers, and whatever else is kept and not multiplied, lies in flat blocks: one float32 magnitude per
`block` numbers, one code each. The table is a dynamic map or any other; no layer runs on them.

```python
from subbyte.formats import dynamic_map, quantize_blocks, unpack_blocks

m = quantize_blocks(momentum, dynamic_map(8), block=256)
v = quantize_blocks(second_moment, dynamic_map(8, signed=False), rounding="keep_nonzero")
unpack_blocks(m.pack(), m.shape, m.table).dequantize()
```

`keep_nonzero` gives the code of 0 to 0 alone: a second moment that is divided by must not vanish. Beside bitsandbytes
0.50.2 on a CPU (`tests/formats/test_blocks.py`):

- Largest magnitudes, and what codes mean under the same table, are equal bit for bit, but for -0.0, which is 0.0 here.
- Entries of its tables are up to 2 units in the last place off the decimals that they stand for, which are rounded once
  here: of 8 bits 0.7117188 for 0.71171874, one of 72 (without a sign: of 100). Which ones depends on the processor.
- Its codes are looked up at a 65536th and need not be the nearest: with the signed 8-bit map 1e-6 of the largest
  magnitude becomes 2.1e-05, here 5.5e-07; without a sign 1e-6 becomes 1.6e-05, here 7.75e-07.
- A block of zeros has code 0 there (-0.993 times 0), here the code of 0.
- Exactly between two values it takes the lower one (between codes 200 and 201 of its map: 200), here that at an even
  distance from 0 (201); torchao takes the upper one.
- An unsigned table refuses negative numbers here.
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
        *(f"- `{alias.name}` is {alias.format}: {alias.why}" for alias in ALIASES),
        "",
        _TABLE,
        markdown_table(),
        _PAIRS,
        _pairs(),
        _FLOATS,
        _floats(),
        _BLOCKS,
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


def _floats() -> str:
    rest = {"none": "none", "nan": "NaN", "ieee": "infinity, NaN"}
    rows = [
        (c.name, c.bias, _power(c.unit_exponent), _power(1 - c.bias), f"{c.largest:g}", c.format().hi, rest[c.specials])
        for c in SMALL_FLOATS
    ]
    return _table(("name", "bias", "unit", "smallest normal", "largest", "in units", "not finite"), rows)


def _power(exponent: int) -> str:
    return f"2**{exponent}"


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
