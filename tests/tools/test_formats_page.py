"""docs/formats.md says what the code says."""

from __future__ import annotations

from subbyte.formats import format_names
from subbyte.formats.refusals import REFUSALS
from tools import formats_page as tool


def test_the_page_is_up_to_date() -> None:
    assert tool.PAGE.read_text(encoding="utf8") == tool.page(), "run tools/formats_page.py"


def test_it_holds_every_format_and_every_refusal() -> None:
    page = tool.page()
    for name in format_names():
        assert f"\n| {name} |" in page
        assert f"\n### {name}\n" in page
    assert all(f"| {line.reason} | {line.remedy} |" in page for line in REFUSALS)
    assert page.count("| `x") == 21
