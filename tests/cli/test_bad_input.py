"""Bad input: exit code 2, a four-part message, nothing on standard output and nothing written."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from subbyte import pipeline
from subbyte.cli import main


def refused(capsys, words, *, folder):
    """The error of a call, after the checks that hold for all of them."""
    before = sorted(p.name for p in folder.iterdir())
    assert main(words) == 2
    plain = capsys.readouterr()
    assert not plain.out
    assert plain.err.startswith("Error: ")
    assert "\nRule: " in plain.err
    assert "\nRemedy: " in plain.err
    assert main([*words, "--json"]) == 2
    parts = capsys.readouterr()
    assert not parts.out
    assert sorted(p.name for p in folder.iterdir()) == before
    error = json.loads(parts.err)
    assert all([error["error"], error["rule"], error["remedy"]])
    return error


USAGE = {
    "unknown verb": (["quantise", "a", "b"], 'Did you mean "quantize"'),
    "unknown option": (["formats", "--jsonn"], "--jsonn"),
    "missing argument": (["inspect"], "MODEL"),
    "missing option": (["quantize", "{float}", "{out}"], "--data"),
    "no number": (["eval", "{integer}", "--data", "{data}", "--samples", "many"], "many"),
    "unknown arithmetic": (["quantize", "{float}", "{out}", "--data", "{data}", "--arithmetic", "m30"], "m31"),
    "too many": (["inspect", "a", "b"], "b"),
}


@pytest.mark.parametrize(("words", "complaint"), USAGE.values(), ids=USAGE)
def test_usage(words, complaint, files, tmp_path, capsys):
    error = refused(capsys, fill(words, files, tmp_path), folder=tmp_path)
    assert complaint in " ".join(error.values())
    assert "--help" in error["remedy"]


def fill(words, files, folder):
    """Words with the names of files put in."""
    names = {
        "float": files.float,
        "integer": files.integer,
        "data": files.data,
        "out": folder / "out.subbyte",
        "in": folder,
    }
    return [word.format_map(names) for word in words]


QUANTIZE = ["quantize", "{float}", "{out}", "--data", "{data}"]
CASES = {
    "missing model": (["quantize", "{in}/no.onnx", "{out}", "--data", "{data}"], "no.onnx"),
    "corrupt model": (["quantize", "{in}/bad.onnx", "{out}", "--data", "{data}"], "bad.onnx"),
    "integer model as float": (["quantize", "{integer}", "{out}", "--data", "{data}"], "integer model"),
    "missing data": (["quantize", "{float}", "{out}", "--data", "{in}/no.npz"], "no.npz"),
    "data with NaN": (["quantize", "{float}", "{out}", "--data", "{in}/nan.npz"], "nan"),
    "empty data": (["quantize", "{float}", "{out}", "--data", "{in}/empty.npz"], "sample"),
    "misshapen data": (["quantize", "{float}", "{out}", "--data", "{in}/shape.npz"], "shape"),
    "unknown recipe": ([*QUANTIZE, "--recipe", "w4a88"], "w4a8"),
    "recipe of an unknown format": ([*QUANTIZE, "--recipe", "wternry_a8"], "ternary"),
    "no samples": ([*QUANTIZE, "--samples", "0"], "--samples"),
    "wrong scale": ([*QUANTIZE, "--scale", "1/0"], "--scale"),
    "two scales": ([*QUANTIZE, "--scale", "1,2"], "--scale"),
    "wrong mean": ([*QUANTIZE, "--mean", "a,b"], "--mean"),
    "unknown layout": ([*QUANTIZE, "--layout", "nhcw"], "nhwc"),
    "wrong ending": (["quantize", "{float}", "{in}/out.bin", "--data", "{data}"], ".subbyte"),
    "no folder": (["quantize", "{float}", "{in}/no/out.subbyte", "--data", "{data}"], "folder"),
    "not a model file": (["inspect", "{in}/text.subbyte"], "text.subbyte"),
    "truncated model file": (["run", "{in}/cut.subbyte", "{data}", "{in}/y.npy"], "cut.subbyte"),
    "flipped bit": (["eval", "{in}/flip.subbyte", "--data", "{data}"], "SHA-256"),
    "no labels": (["eval", "{integer}", "--data", "{in}/x.npy"], "labels"),
    "run on wrong shape": (["run", "{integer}", "{in}/shape.npz", "{in}/y.npy"], "shape"),
    "run into wrong ending": (["run", "{integer}", "{data}", "{in}/y.txt"], ".npz"),
    "run into a folder": (["run", "{integer}", "{data}", "{in}/sub.npy"], "folder"),
    "threads": (["run", "{integer}", "{data}", "{in}/y.npy", "--threads", "0"], "--threads"),
    "compare with itself": (["compare", "{integer}", "{integer}", "--data", "{data}"], "integer model"),
    "unknown format": (["formats", "int44"], "int4"),
}


@pytest.fixture
def folder(files, tmp_path):
    """A folder of bad files."""
    x = np.zeros((4, 3, 8, 8), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "empty.npz", x=x[:0])
    np.savez(tmp_path / "shape.npz", x=np.zeros((4, 3, 8, 9), np.float32))
    x[1, 2, 3, 4] = np.nan
    np.savez(tmp_path / "nan.npz", x=x)
    whole = files.integer.read_bytes()
    (tmp_path / "cut.subbyte").write_bytes(whole[:-3])
    (tmp_path / "flip.subbyte").write_bytes(whole[:-3] + bytes([whole[-3] ^ 4]) + whole[-2:])
    (tmp_path / "text.subbyte").write_text("This is no model.\n" * 99)
    (tmp_path / "bad.onnx").write_bytes(files.float.read_bytes()[:200])
    (tmp_path / "sub.npy").mkdir()
    return tmp_path


@pytest.mark.parametrize(("words", "complaint"), CASES.values(), ids=CASES)
def test_bad_input(words, complaint, files, folder, capsys):
    error = refused(capsys, fill(words, files, folder), folder=folder)
    assert complaint.lower() in " ".join(error.values()).lower()


def test_old_output_survives_a_failure(files, folder, capsys):
    out = folder / "out.subbyte"
    out.write_bytes(b"precious")
    refused(capsys, fill([*QUANTIZE, "--recipe", "w99"], files, folder), folder=folder)
    assert out.read_bytes() == b"precious"


def test_interrupts_are_quiet_and_leave_nothing(files, tmp_path, capsys, monkeypatch):
    def interrupted(*args, progress, **options):
        progress("measuring", 1, 2)
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "quantize", interrupted)
    assert main(fill(QUANTIZE, files, tmp_path)) == 130
    captured = capsys.readouterr()
    assert captured.out == captured.err == ""
    assert not list(tmp_path.iterdir())


def test_defects_are_not_dressed_up_as_bad_input(files, tmp_path, monkeypatch):
    def defective(*args, **options):
        raise ZeroDivisionError

    monkeypatch.setattr(pipeline, "quantize", defective)
    with pytest.raises(ZeroDivisionError):
        main(fill(QUANTIZE, files, tmp_path))


@pytest.mark.parametrize("words", [["formats", "--json"], ["formats", "int4"], ["formats"]], ids=str)
def test_a_reader_that_leaves_is_no_error(words):
    program = "import sys; sys.stdin.read(); from subbyte.cli import main; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", program, *words],
        env={"PYTHONPATH": ":".join(sys.path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stdin.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0
