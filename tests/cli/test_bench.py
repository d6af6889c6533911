"""``subbyte bench``: every question has an answer for people and for programs; wrong calls have four parts."""

from __future__ import annotations

import pytest

from subbyte.bench import kernels, tune
from subbyte.cli import main
from tests.cli.test_verbs import ask, call


def test_latency(files, capsys):
    facts = ask(capsys, "bench", files.integer, "--repeats", 20, "--threads", 2)
    assert facts["codes"]["count"] == facts["floats"]["count"] == 20
    assert facts["codes"]["least"] <= facts["codes"]["median"] <= facts["codes"]["p90"]
    assert facts["threads"] == 2
    text = call(capsys, "bench", files.integer, "--repeats", 5)
    assert facts["isa"] in text
    assert f"{facts['arena_bytes']:,} bytes" in text
    assert f"{facts['weight_bytes']:,} bytes" in text


def test_layers(files, capsys):
    facts = ask(capsys, "bench", files.integer, "--layers", "--repeats", 3)
    nodes = ask(capsys, "inspect", files.integer)["nodes"]
    assert [row["name"] for row in facts["layers"][1:-1]] == [node["name"] for node in nodes]
    assert [row["macs"] for row in facts["layers"][1:-1]] == [node["macs"] for node in nodes]
    assert facts["repeats"] == 3
    text = call(capsys, "bench", files.integer, "--layers", "--repeats", 3)
    assert "% of roof" in text
    assert "second" in text
    assert "call from Python" in text


def test_tune(files, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(tune, "ROUND_NANOSECONDS", 1)
    facts = ask(capsys, "bench", files.integer, "--tune")
    assert set(facts) == {"isa", "layers", "winners", "speedup", "path"}
    assert facts["path"] is None or facts["path"].startswith(str(tmp_path))
    assert "layers have a faster way" in call(capsys, "bench", files.integer, "--tune", "--quiet")


def test_kernels(capsys, monkeypatch):
    monkeypatch.setattr(kernels, "ROUND_NANOSECONDS", 1)
    monkeypatch.setattr(kernels, "QUICK_SHAPES", ((24, 16),))
    rows = ask(capsys, "bench", "--kernels", "--quick")
    assert {row["pair"] for row in rows} == set(kernels.PAIRS)
    text = call(capsys, "bench", "--kernels", "--quick")
    assert "x31_w17" in text
    assert "speed over w8a8" in text
    assert "M = 256" in text


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--layers"],
        ["MODEL", "--kernels"],
        ["MODEL", "--layers", "--tune"],
        ["MODEL", "--quick"],
        ["MODEL", "--tune", "--repeats", "3"],
        ["--kernels", "--repeats", "3"],
        ["MODEL", "--repeats", "0"],
        ["MODEL", "--threads", "0"],
        ["MODEL", "--threads", "257"],
        ["MODEL", "--layers", "--repeats", "100001"],
        ["FLOAT"],
    ],
    ids=" ".join,
)
def test_wrong_calls(words, files, capsys):
    places = {"MODEL": str(files.integer), "FLOAT": str(files.float)}
    assert main(["bench", *(places.get(word, word) for word in words)]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    for part in ("Error: ", "Rule: ", "Remedy: ", "Place: "):
        assert part in captured.err
