"""Run the demo and put its table into README.md, between the two marks; nothing else there is touched.

make install && .venv/bin/python tools/readme_demo.py
"""

from __future__ import annotations

import platform
from collections.abc import Iterable
from pathlib import Path

from benchmarks.machine import facts
from subbyte.demo.run import Row, measure

README = Path(__file__).resolve().parent.parent / "README.md"
BEGIN, END = "<!-- demo table: tools/readme_demo.py -->", "<!-- end of demo table -->"


def markdown(rows: Iterable[Row]) -> str:
    """The demo's table in Markdown."""
    lines = [
        "| recipe | top-1 % | change | file bytes | times smaller | µs per image | bits = reference |",
        "|---|--:|--:|--:|--:|--:|:-:|",
    ]
    for row in rows:
        change = "" if row.microseconds is None else f"{row.change_percent:+.1f}"
        taken = "" if row.microseconds is None else f"{row.microseconds:.0f}"
        same = {True: "yes", False: "NO", None: ""}[row.identical]
        cells = (row.recipe, f"{row.top1_percent:.1f}", change, f"{row.file_bytes:,}", f"{row.times_smaller:.1f}")
        lines.append(f"| {' | '.join((*cells, taken, same))} |")
    return "\n".join(lines)


def replaced(text: str, table: str) -> str:
    """The text with what stands between the marks exchanged.

    Raises:
        ValueError: the marks are not there once each, in order.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end) or text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{README.name} must hold {BEGIN} and then {END} once")
    return f"{before}{BEGIN}\n{table}\n{END}{after}"


def main() -> None:
    """Measure and write."""
    machine = facts()
    where = f"{machine['processor']}, Python {platform.python_version()}"
    note = (
        "`make demo`: a residual CNN of 21,450 parameters for MNIST at 16x16, calibrated on 256 unlabelled images, no\n"
        f"training; 1,000 test images, all on the native engine, one at a time, one thread ({where})."
    )
    table = markdown(measure())
    README.write_text(replaced(README.read_text(encoding="utf8"), f"{note}\n\n{table}"), encoding="utf8")


if __name__ == "__main__":
    main()
