"""The README's table is the demo's, and writing it touches nothing else."""

from __future__ import annotations

import pytest

from subbyte.demo.run import Row
from tools import readme_demo as tool

ROWS = (
    Row(recipe="float32", top1_percent=99.1, change_percent=0.0, file_bytes=89354, times_smaller=1.0),
    Row(
        recipe="w4a8",
        top1_percent=98.0,
        change_percent=-1.1,
        file_bytes=9000,
        times_smaller=9.93,
        microseconds=26.6,
        identical=False,
    ),
)


def test_markdown() -> None:
    _, _, first, second = tool.markdown(ROWS).splitlines()
    assert first == "| float32 | 99.1 |  | 89,354 | 1.0 |  |  |"
    assert second == "| w4a8 | 98.0 | -1.1 | 9,000 | 9.9 | 27 | NO |"


def test_replaced_touches_nothing_else() -> None:
    text = f"before\n{tool.BEGIN}\nold\n{tool.END}\nafter\n"
    assert tool.replaced(text, "new") == f"before\n{tool.BEGIN}\nnew\n{tool.END}\nafter\n"


@pytest.mark.parametrize("text", ["", tool.BEGIN, f"{tool.END}{tool.BEGIN}", f"{tool.BEGIN}{tool.END}{tool.BEGIN}"])
def test_marks_must_be_there_once(text: str) -> None:
    with pytest.raises(ValueError, match="once"):
        tool.replaced(text, "new")
