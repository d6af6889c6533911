"""The verb that allocates bits."""

import json
import tomllib

import numpy as np
import pytest

from subbyte.cli import main
from subbyte.cli.search import microseconds, size
from subbyte.errors import SubbyteError

FAST = ["--candidates", "int4,int8", "--trials", "2", "--quiet"]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    path = tmp_path_factory.mktemp("data") / "calib.npz"
    rng = np.random.default_rng(0)
    np.savez(path, x=rng.standard_normal((64, 3, 8, 8)).astype(np.float32), y=rng.integers(0, 3, 64))
    return path


def call(*words):
    return main([str(w) for w in ("search", *words)])


def test_a_model_a_plan_and_a_plot(files, data, tmp_path, capsys):
    paths = [tmp_path / name for name in ("m.subbyte", "plan.toml", "frontier.svg")]
    words = (files.float, paths[0], "--data", data, "--bits", "6", "--save-plan", paths[1], "--plot", paths[2])
    assert call(*words, "--journal", tmp_path / "j.jsonl", *FAST) == 0
    assert capsys.readouterr().out == ""
    assert all(p.stat().st_size for p in paths)
    assert tomllib.loads(paths[1].read_text())["base"] == "w8a8"
    again = tmp_path / "again.subbyte"
    assert (
        main(["quantize", str(files.float), str(again), "--data", str(data), "--recipe", str(paths[1]), "--quiet"]) == 0
    )
    assert main(["run", str(again), str(data), str(tmp_path / "out.npz"), "--quiet"]) in {0, 2}


def test_tables(files, data, capsys):
    assert call(files.float, "--data", data, "--bits", "6", *FAST[:-1]) == 0
    out = capsys.readouterr().out
    assert "Tried for real" in out
    assert "w8a8" in out
    assert "only 32 samples are judged" in out


def test_json(files, data, capsys):
    assert call(files.float, "--data", data, "--like", "w4a8", "--json", *FAST[:-1]) == 0
    found = json.loads(capsys.readouterr().out)
    assert {t["name"] for t in found["trials"]} >= {"w8a8", "w4a8"}
    assert len(found["layers"]) == 3
    assert found["found"]["costs"]["bytes"] > 0


def test_labels_come_with_the_data(files, data, capsys):
    assert call(files.float, "--data", data, "--max-drop", "50", "--json", *FAST[:-1]) == 0
    assert json.loads(capsys.readouterr().out)["found"]["drop"] is not None


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ([], "asked for nothing"),
        (["--bytes", "60X"], "--bytes '60X'"),
        (["--latency", "fast"], "--latency 'fast'"),
        (["--bytes", "200"], "smallest reachable"),
        (["--bits", "4", "--pin", "fc"], "--pin 'fc'"),
        (["--bits", "4", "--pin", "fc=int9"], "'int9'"),
        (["--bits", "4", "--executor", "moon"], "executor 'moon'"),
        (["--bits", "4", "--samples", "4"], "4 samples"),
        (["--bits", "4", "--save-plan", "plan.txt"], "plan.txt"),
        (["--bits", "4", "--tied", "up"], "tied"),
        (["--bits", "4", "--trials", "0"], "--trials 0"),
    ],
)
def test_bad_input(words, complaint, files, data, capsys):
    assert call(files.float, "--data", data, *words) == 2
    assert complaint in capsys.readouterr().err


def test_sizes_and_times():
    assert [size(t) for t in ("60000", "60K", "60Ki", "1.5MB", "2k", "")] == [60000, 60000, 61440, 1.5e6, 2000, None]
    assert [microseconds(t) for t in ("80us", "80", "1.2ms", "500ns", "")] == [80, 80, 1200, 0.5, None]
    for wrong in ("-3", "3Gi", "3i", "1e3"):
        with pytest.raises(SubbyteError):
            size(wrong)
