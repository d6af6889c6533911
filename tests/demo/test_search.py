"""The search on the demo network."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from subbyte.cli import main
from subbyte.demo import search


def test_the_demo_finds_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(search, "CANDIDATES", ("int3", "int4", "int8"))
    monkeypatch.setattr(search, "UNIFORM", ())
    plot = tmp_path / "frontier.svg"
    assert main(["demo", "--search", "--plot", str(plot), "--quiet"]) == 0
    out = capsys.readouterr().out
    assert "Tried for real" in out
    assert "stem.conv" in out
    assert len(ElementTree.fromstring(plot.read_bytes()).findall(".//{*}circle")) >= 3


def test_a_plot_needs_a_search(capsys: pytest.CaptureFixture) -> None:
    assert main(["demo", "--plot", "x.svg"]) == 2
    assert "--plot without --search" in capsys.readouterr().err
