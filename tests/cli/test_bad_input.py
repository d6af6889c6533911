"""Bad input: exit code 2, a four-part message, nothing on standard output and nothing written."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from subbyte import pipeline
from subbyte.cli import main


def refused(capsys, words, *, folder):
    """The error of a call, after the checks that hold for all of them."""
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    assert main(words) == 2
    plain = capsys.readouterr()
    assert not plain.out
    assert plain.err.startswith("Error: ")
    assert "\nRule: " in plain.err
    assert "\nRemedy: " in plain.err
    assert "\nPlace: " in plain.err
    assert "Traceback" not in plain.err
    assert main([*words, "--json"]) == 2
    parts = capsys.readouterr()
    assert not parts.out
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before
    error = json.loads(parts.err)
    assert all([error["error"], error["rule"], error["remedy"], error["place"]])
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
    "unreadable model": (["quantize", "{in}", "{out}", "--data", "{data}"], "is no file"),
    "empty model": (["quantize", "{in}/empty.onnx", "{out}", "--data", "{data}"], "empty"),
    "unsupported operator": (["quantize", "{in}/lrn.onnx", "{out}", "--data", "{data}"], "LRN at node 'norm'"),
    "NaN in weights": (["quantize", "{in}/nan.onnx", "{out}", "--data", "{data}"], "'w' holds nan"),
    "infinity in weights": (["quantize", "{in}/inf.onnx", "{out}", "--data", "{data}"], "'w' holds inf"),
    "overflow in the network": (["quantize", "{in}/huge.onnx", "{out}", "--data", "{data}"], "value 'y"),
    "integer model as float": (["quantize", "{integer}", "{out}", "--data", "{data}"], "integer model"),
    "missing data": (["quantize", "{float}", "{out}", "--data", "{in}/no.npz"], "no.npz"),
    "data with NaN": (["quantize", "{float}", "{out}", "--data", "{in}/nan.npz"], "nan"),
    "data with infinity": (["quantize", "{float}", "{out}", "--data", "{in}/inf.npz"], "inf"),
    "data of text": (["quantize", "{float}", "{out}", "--data", "{in}/text.npz"], "real numbers"),
    "data that would run code": (["quantize", "{float}", "{out}", "--data", "{in}/objects.npz"], "pickle"),
    "truncated data": (["quantize", "{float}", "{out}", "--data", "{in}/cut.npz"], "cut.npz"),
    "folder without data": (["quantize", "{float}", "{out}", "--data", "{in}/sub.npy"], "no samples"),
    "data of unknown kind": (["quantize", "{float}", "{out}", "--data", "{float}"], ".npz"),
    "nameless data": (["quantize", "{float}", "{out}", "--data", "{in}/names.npz"], "'image'"),
    "empty data": (["quantize", "{float}", "{out}", "--data", "{in}/empty.npz"], "sample"),
    "misshapen data": (["quantize", "{float}", "{out}", "--data", "{in}/shape.npz"], "shape"),
    "unknown recipe": ([*QUANTIZE, "--recipe", "w4a88"], "did you mean w4a8"),
    "recipe of an unknown format": ([*QUANTIZE, "--recipe", "wternry_a8"], "ternary"),
    "missing recipe file": ([*QUANTIZE, "--recipe", "{in}/no.toml"], "no.toml"),
    "recipe file that is no TOML": ([*QUANTIZE, "--recipe", "{in}/text.toml"], "TOML"),
    "recipe file with an unknown format": ([*QUANTIZE, "--recipe", "{in}/format.toml"], "int4"),
    "recipe file with an unknown key": ([*QUANTIZE, "--recipe", "{in}/key.toml"], "weights"),
    "recipe file with a number": ([*QUANTIZE, "--recipe", "{in}/number.toml"], "number.toml"),
    "unknown method": ([*QUANTIZE, "--methods", "gptq,destill"], "did you mean distill"),
    "learning before its start": ([*QUANTIZE, "--methods", "distill,gptq"], "behind all other methods"),
    "rule that matches nothing": ([*QUANTIZE, "--recipe", "{in}/rule.toml"], "second"),
    "scope that matches nothing": ([*QUANTIZE, "--recipe", "{in}/scope.toml"], "matches no layer"),
    "seed": ([*QUANTIZE, "--seed", "-1"], "--seed"),
    "endless seed": (["eval", "{integer}", "--data", "{data}", "--seed", "9" * 20], "--seed"),
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
    "run on wrong numbers": (["run", "{integer}", "{in}/complex.npz", "{in}/y.npz"], "real numbers"),
    "run on missing data": (["run", "{integer}", "{in}/no.npz", "{in}/y.npz"], "does not exist"),
    "run on no samples": (["run", "{integer}", "{in}/empty.npz", "{in}/y.npz"], "0 samples"),
    "run on NaN": (["run", "{integer}", "{in}/nan.npz", "{in}/y.npz"], "nan"),
    "run a float model": (["run", "{float}", "{data}", "{in}/y.npz"], "float model"),
    "run over its data": (["run", "{integer}", "{in}/x.npy", "{in}/x.npy"], "also an input"),
    "run over its data by another way": (["run", "{integer}", "{in}/x.npy", "{in}/sub.npy/../x.npy"], "also an input"),
    "run with many threads": (["run", "{integer}", "{data}", "{in}/y.npz", "--threads", "1000"], "256"),
    "labels of another task": (["eval", "{integer}", "--data", "{in}/labels.npz"], "3 classes"),
    "compare with another network": (["compare", "{in}/other.onnx", "{integer}", "--data", "{data}"], "in common"),
    "compare the wrong way": (["compare", "{integer}", "{float}", "--data", "{data}"], "float model"),
    "run into wrong ending": (["run", "{integer}", "{data}", "{in}/y.txt"], ".npz"),
    "run into a folder": (["run", "{integer}", "{data}", "{in}/sub.npy"], "folder"),
    "threads": (["run", "{integer}", "{data}", "{in}/y.npy", "--threads", "0"], "--threads"),
    "compare with itself": (["compare", "{integer}", "{integer}", "--data", "{data}"], "integer model"),
    "unknown format": (["formats", "int44"], "int4"),
}


RECIPES = {
    "text": "this is no table",
    "format": '[[rule]]\nweights = "int44"',
    "key": '[[rule]]\nweigths = "int4"',
    "number": "[[rule]]\nweights = 4",
    "rule": '[[rule]]\npath = "secnd"\nweights = "int4"',
    "scope": 'ignored_scope = ["secnd"]',
}
SIDE = 2903
"""So many rows of as many 8-bit numbers can leave int32 when they are summed."""


def write_bad_networks(folder):
    """One node each: something unsupported, weights that are not finite or too large."""
    weight = np.ones((4, 3, 3, 3), np.float32)
    worst = {"nan": np.nan, "inf": np.inf, "huge": 3e38, "other": 1}
    for name, value in worst.items():
        weight[1, 2, 0, 1] = value
        (folder / f"{name}.onnx").write_bytes(network(helper.make_node("Conv", ["image", "w"], ["y"], "conv"), weight))
    lrn = helper.make_node("LRN", ["image"], ["y"], "norm", size=3)
    (folder / "lrn.onnx").write_bytes(network(lrn, weight))
    (folder / "empty.onnx").write_bytes(b"")


def network(node, weight, shape=("N", 3, 8, 8)):
    """The bytes of a network of one node."""
    image = helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, None)
    graph = helper.make_graph([node], "one", [image], [y], [numpy_helper.from_array(weight, "w")])
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString()


@pytest.fixture
def folder(files, tmp_path):
    """A folder of bad files."""
    x = np.zeros((4, 3, 8, 8), np.float32)
    np.save(tmp_path / "x.npy", x)
    np.savez(tmp_path / "empty.npz", x=x[:0])
    np.savez(tmp_path / "shape.npz", x=np.zeros((4, 3, 8, 9), np.float32))
    x[1, 2, 3, 4] = np.nan
    np.savez(tmp_path / "nan.npz", x=x)
    np.savez(tmp_path / "inf.npz", x=np.nan_to_num(x, nan=np.inf))
    np.savez(tmp_path / "text.npz", x=np.array(["a", "b"]))
    np.savez(tmp_path / "objects.npz", x=np.array([{}, 1], object))
    np.savez(tmp_path / "complex.npz", x=np.zeros((4, 3, 8, 8), complex))
    np.savez(tmp_path / "names.npz", a=np.zeros(3), b=np.zeros(3))
    np.savez(tmp_path / "labels.npz", x=np.zeros((4, 3, 8, 8)), y=np.arange(4))
    (tmp_path / "cut.npz").write_bytes((tmp_path / "complex.npz").read_bytes()[:900])
    write_bad_networks(tmp_path)
    for name, text in RECIPES.items():
        (tmp_path / f"{name}.toml").write_text(text)
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


def test_sums_without_proof(tmp_path, capsys):
    mean = helper.make_node("ReduceMean", ["image"], ["y"], "mean", axes=[2, 3], keepdims=0)
    (tmp_path / "long.onnx").write_bytes(network(mean, np.ones(1, np.float32), ["N", 1, SIDE, SIDE]))
    np.save(tmp_path / "long.npy", np.linspace(0, 1, SIDE * SIDE, dtype=np.float32).reshape(1, 1, SIDE, SIDE))
    words = ["quantize", tmp_path / "long.onnx", tmp_path / "out.subbyte", "--data", tmp_path / "long.npy"]
    assert "2147483647" in refused(capsys, [str(w) for w in words], folder=tmp_path)["rule"]


@pytest.mark.parametrize("size", [1, 10, 100, 1000, -100, -1])
def test_truncated_networks(size, files, tmp_path, capsys):
    (tmp_path / "cut.onnx").write_bytes(files.float.read_bytes()[:size])
    words = ["quantize", str(tmp_path / "cut.onnx"), str(tmp_path / "out.subbyte"), "--data", str(files.data)]
    assert "cut.onnx" in refused(capsys, words, folder=tmp_path)["place"]


@pytest.mark.parametrize("verb", ["inspect", "run", "eval", "compare"])
@pytest.mark.parametrize("damage", ["cut", "flip", "longer", "empty"])
def test_damaged_model_files_in_every_verb(verb, damage, files, tmp_path, capsys):
    whole = files.integer.read_bytes()
    half = len(whole) // 2
    flipped = whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :]
    found = {"cut": whole[:half], "flip": flipped, "longer": whole + b"\0", "empty": b""}[damage]
    path = tmp_path / "bad.subbyte"
    path.write_bytes(found)
    data, model = str(files.data), str(path)
    words = {
        "inspect": [model],
        "run": [model, data, str(tmp_path / "y.npz")],
        "eval": [model, "--data", data],
        "compare": [str(files.float), model, "--data", data],
    }
    assert "bad.subbyte" in refused(capsys, [verb, *words[verb]], folder=tmp_path)["place"]


def test_hard_links_to_inputs_are_no_outputs(files, folder, capsys):
    (folder / "link.npy").hardlink_to(folder / "x.npy")
    words = fill(["run", "{integer}", "{in}/x.npy", "{in}/link.npy"], files, folder)
    assert "also an input" in refused(capsys, words, folder=folder)["error"]


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
