"""Every verb does its job on a small network, for people and for programs."""

from __future__ import annotations

import json

import numpy as np
import pytest

from subbyte.cli import main
from subbyte.formats.cards import cards
from subbyte.model import load
from subbyte.names import printable


def call(capsys, *words):
    """Standard output of a call that succeeds and says nothing else."""
    assert main([str(w) for w in words]) == 0
    captured = capsys.readouterr()
    assert not captured.err
    assert all(printable(line) == line for line in captured.out.split("\n"))
    return captured.out


def ask(capsys, *words):
    """The JSON that a call prints."""
    return json.loads(call(capsys, *words, "--json"))


def test_quantize_writes_a_model(files, tmp_path, capsys):
    out = tmp_path / "m.subbyte"
    options = ["--data", files.data, "--recipe", "w4a8", "--arithmetic", "m15", "--samples", 10, "--scale", "1/255"]
    facts = ask(capsys, "quantize", files.float, out, *options)
    assert facts["file_bytes"] == out.stat().st_size
    assert facts["float_file_bytes"] == files.float.stat().st_size
    assert (facts["recipe"], facts["arithmetic"], facts["samples"]) == ("w4a8", "m15", 10)
    assert facts["preprocess"]["scale"] == 1 / 255
    assert load(out).metadata["arithmetic"] == "m15"
    text = call(capsys, "quantize", files.float, out, *options)
    assert "first" in text
    assert f"{out.stat().st_size:,} bytes" in text
    assert call(capsys, "quantize", files.float, out, *options, "--quiet") == ""
    assert [p.name for p in tmp_path.iterdir()] == ["m.subbyte"]


def test_methods_may_be_chosen(files, tmp_path, capsys):
    options = ["--data", files.data, "--recipe", "w2a8_first_last_same", "--scale", "1/255", "--quiet"]
    found = []
    for i, more in enumerate([[], ["--methods", ""], ["--methods", "refit, rescale,gptq,descent,bias_correction"]]):
        call(capsys, "quantize", files.float, tmp_path / f"{i}.subbyte", *options, *more)
        found.append((tmp_path / f"{i}.subbyte").read_bytes())
    assert found[0] == found[2] != found[1]


def test_quantize_gives_the_same_bytes_again(files, tmp_path, capsys):
    again = tmp_path / "again.subbyte"
    call(capsys, "quantize", files.float, again, "--data", files.data, "--scale", "1/255", "--quiet")
    assert again.read_bytes() == files.integer.read_bytes()


def test_inspect_agrees_with_the_file_to_the_byte(files, capsys):
    facts = ask(capsys, "inspect", files.integer)
    assert facts["file_bytes"] == files.integer.stat().st_size
    assert facts["file_bytes"] == facts["header_bytes"] + sum(c["nbytes"] for c in facts["constants"])
    assert facts["data_bytes"] == sum(n["bytes"] for n in facts["nodes"])
    assert {n["module"] for n in facts["nodes"]} >= {"first", "second", "last"}
    assert {n["name"]: n["macs"] for n in facts["nodes"]}["first"] == 8 * 8 * 6 * 27
    text = call(capsys, "inspect", files.integer)
    assert f"{facts['file_bytes']:,}" in text
    assert "int_conv" in text


def test_inspect_shows_float_networks(files, capsys):
    facts = ask(capsys, "inspect", files.float)
    assert facts["parameters"] == 6 * 27 + 6 + 8 * 54 + 3 * 8 + 3
    assert facts["interface"][0] == {"name": "image", "role": "input", "shape": ["N", 3, 8, 8]}
    assert "second" in call(capsys, "inspect", files.float)


def test_compare_shows_the_worst_layers_first(files, capsys):
    rows = ask(capsys, "compare", files.float, files.integer, "--data", files.data, "--samples", 8)
    quality = [row["sqnr_local"] for row in rows if row["sqnr_local"] is not None]
    assert quality == sorted(quality)
    assert min(quality) > 25
    assert {row["module"] for row in rows} >= {"first", "second", "last"}
    text = call(capsys, "compare", files.float, files.integer, "--data", files.data)
    assert "SQNR" in text
    assert "40 samples" not in text
    assert "32 samples" in text


def test_eval_counts_right_answers(files, capsys):
    exact = ask(capsys, "eval", files.float, "--data", files.data, "--scale", "1/255")
    assert (exact["samples"], exact["top1_percent"]) == (40, 100)
    facts = ask(capsys, "eval", files.integer, "--data", files.data, "--against", files.float, "--batch", 7)
    assert facts["top1_percent"] == facts["agreement_percent"] >= 90
    few = ask(capsys, "eval", files.integer, "--data", files.data, "--samples", 5, "--threads", 2)
    assert few["samples"] == 5
    assert "top1 percent" in call(capsys, "eval", files.integer, "--data", files.data)


@pytest.mark.parametrize("suffix", [".npz", ".npy"])
def test_run_writes_what_python_computes(suffix, files, tmp_path, capsys):
    out = tmp_path / f"y{suffix}"
    facts = ask(capsys, "run", files.integer, files.data, out, "--batch", 16)
    assert facts["outputs"] == {"scores": {"shape": [40, 3], "dtype": "float32"}}
    found = np.load(out)
    scores = found["scores"] if suffix == ".npz" else found
    model = load(files.integer)
    with np.load(files.data) as data:
        x = data["x"].astype(np.float32) * np.float32(1 / 255)
    assert np.array_equal(scores, model(x))
    call(capsys, "run", files.integer, files.data, out, "--codes", "--samples", 3, "--quiet")
    found = np.load(out)
    codes = found["scores"] if suffix == ".npz" else found
    assert np.array_equal(codes, model.run_codes(model.encode(x[:3]))["scores"])
    assert "scores" in call(capsys, "run", files.integer, files.data, out)
    assert [p.name for p in tmp_path.iterdir()] == [out.name]


def test_preprocessing_is_taken_from_the_file_unless_given(files, tmp_path, capsys):
    stored, given, other = (tmp_path / f"{n}.npy" for n in "abc")
    call(capsys, "run", files.integer, files.data, stored, "--quiet")
    call(capsys, "run", files.integer, files.data, given, "--scale", "1/255", "--quiet")
    call(capsys, "run", files.integer, files.data, other, "--scale", "1/255", "--mean", "0.5", "--quiet")
    assert np.array_equal(np.load(stored), np.load(given))
    assert not np.array_equal(np.load(stored), np.load(other))


def test_formats(capsys):
    facts = ask(capsys, "formats")
    assert {"int4", "uint8", "ternary", "levels17"} <= {f["name"] for f in facts["formats"]}
    assert len(facts["pairs"]) == 21
    assert all((p["activations"] // 2) * (p["weights"] // 2) <= 127 for p in facts["pairs"])
    text = call(capsys, "formats")
    assert "x31_w17" in text
    for c in cards():  # a card each, in full
        assert c.to_text() in text
    brief = call(capsys, "formats", "--brief")
    assert "x31_w17" in brief
    assert "source:" not in brief
    assert text.endswith(brief)
    assert ask(capsys, "formats", "levels9")["levels"] == 9
    assert "levels9" in call(capsys, "formats", "levels9")


def test_long_work_draws_bars_on_a_terminal(files, tmp_path, capsys, monkeypatch):
    """Every stage shows; a stream of unknown length has no false total; --quiet and --json draw nothing."""
    monkeypatch.setenv("FORCE_COLOR", "1")  # rich takes standard error for a terminal
    words = ["quantize", files.float, tmp_path / "m.subbyte", "--data", files.data, "--scale", "1/255"]
    assert main([str(w) for w in words]) == 0
    drawn = capsys.readouterr().err
    for stage in ("observe", "choose ranges", "quantize layers"):
        assert stage in drawn
    assert "/?" in drawn
    assert "/0" not in drawn
    for silent in ("--quiet", "--json"):
        assert main([*(str(w) for w in words), silent]) == 0
        assert "observe" not in capsys.readouterr().err


def test_titles_stay_on_one_line(files, tmp_path, capsys):
    out = tmp_path / ("a rather long name " * 3 + ".npz")
    assert f"{out}: 40 samples in" in call(capsys, "run", files.integer, files.data, out)


def test_demo_passes_its_verdict_on(monkeypatch, capsys):
    from subbyte.demo import run

    for verdict, code in ((True, 0), (False, 1)):
        asked: dict[str, bool] = {}
        monkeypatch.setattr(
            run, "demo", lambda verdict=verdict, asked=asked, **options: asked.update(options) or verdict
        )
        assert main(["demo", "--json", "--quiet"]) == code
        assert asked == {"as_json": True, "quiet": True}
