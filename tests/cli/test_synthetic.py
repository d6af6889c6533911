"""``--data synthetic``: a model without data, on the command line."""

import json
import sys

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from subbyte.cli import main
from subbyte.model import load


@pytest.fixture(scope="module")
def net(tmp_path_factory):
    """conv, batch norm, ReLU, mean, linear on images [3, 8, 8] of bytes scaled by 1/255."""
    rng = np.random.default_rng(0)
    arrays = {
        "w": rng.normal(0, 0.4, (6, 3, 3, 3)),
        "gamma": rng.uniform(0.5, 1.5, 6),
        "beta": rng.normal(0, 0.3, 6),
        "mean": rng.normal(0, 0.2, 6),
        "var": rng.uniform(0.05, 0.3, 6),
        "v": rng.normal(0, 1, (4, 6)),
        "b": rng.normal(0, 0.1, 4),
    }
    nodes = [
        helper.make_node("Conv", ["image", "w"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "gamma", "beta", "mean", "var"], ["n"], "norm"),
        helper.make_node("Relu", ["n"], ["r"], "relu"),
        helper.make_node("GlobalAveragePool", ["r"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "v", "b"], ["scores"], "last", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(a.astype(np.float32), k) for k, a in arrays.items()],
    )
    path = tmp_path_factory.mktemp("synthetic") / "net.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("data", "told"), [("synthetic", "kl"), ("synthetic:l2", "l2"), ("synthetic:normal", "normal")]
)
def test_a_model_without_data(net, tmp_path, capsys, data, told):
    out = tmp_path / "m.subbyte"
    words = ["quantize", net, out, "--data", data, "--scale", "1/255", "--samples", "16", "--json"]
    assert main([str(w) for w in words]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["calibration"] == f"synthetic:{told}"
    assert facts["samples"] == 16
    model = load(out)
    assert model.metadata["calibration"] == f"synthetic:{told}"
    kind = model.graph.types["image"]
    assert kind.scale == pytest.approx(1 / 255)
    assert kind.zero_point == 0


def test_no_file_but_the_model_is_opened(net, tmp_path):
    out = tmp_path / "m.subbyte"
    words = ["quantize", str(net), str(out), "--data", "synthetic", "--domain=-1,2", "--samples", "8", "--quiet"]
    assert main(words) == 0  # modules are loaded now
    opened, listening = [], True

    def hook(event, arguments):
        if listening and event == "open" and isinstance(arguments[0], str):
            opened.append(arguments[0])

    sys.addaudithook(hook)
    assert main(words) == 0
    listening = False
    assert {p for p in opened if not p.startswith((sys.prefix, sys.base_prefix, str(tmp_path), "/proc/"))} == {str(net)}


def test_a_search_says_what_it_was_judged_on(net, capsys):
    words = ["search", net, "--data", "synthetic", "--domain", "0,1", "--bits", "6", "--candidates", "int4,int8"]
    assert main([str(w) for w in [*words, "--trials", "2", "--samples", "32", "--json"]]) == 0
    notes = json.loads(capsys.readouterr().out)["notes"]
    assert any("synthetic" in note for note in notes)


REFUSED = {
    "no domain": (["--data", "synthetic"], "nothing says which numbers the input 'image' holds"),
    "one number": (["--data", "synthetic", "--domain", "3"], "--domain '3'"),
    "no numbers": (["--data", "synthetic", "--domain", "a,b"], "--domain 'a,b'"),
    "wrong way round": (["--data", "synthetic", "--domain", "1,0"], "the domain of 'image' is 1, 0"),
    "unknown method": (["--data", "synthetic:k1", "--domain", "0,1"], "'k1' is unknown"),
    "domain beside data": (["--data", "{data}", "--domain", "0,1"], "--domain is for synthetic samples"),
}


@pytest.mark.parametrize(("words", "complaint"), REFUSED.values(), ids=REFUSED)
def test_refusals(net, files, tmp_path, capsys, words, complaint):
    out = tmp_path / "m.subbyte"
    words = [w.format(data=files.data) for w in words]
    assert main(["quantize", str(net), str(out), *words, "--json"]) == 2
    parts = json.loads(capsys.readouterr().err)
    assert complaint in parts["error"] + parts["rule"]
    assert all(parts.values())
    assert not out.exists()


def test_a_network_without_batch_norms_is_told_what_would_do(files, tmp_path, capsys):
    words = ["quantize", str(files.float), str(tmp_path / "m.subbyte"), "--data", "synthetic", "--domain", "0,255"]
    assert main([*words, "--json"]) == 2
    parts = json.loads(capsys.readouterr().err)
    assert "no batch norm" in parts["error"]
    assert "synthesize noise" in parts["remedy"]
    assert all(parts.values())


def test_a_folder_called_synthetic_is_not_overlooked(net, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "synthetic").mkdir()
    words = ["quantize", str(net), "m.subbyte", "--data", "synthetic", "--domain", "0,1", "--json"]
    assert main(words) == 2
    assert "absolute path" in json.loads(capsys.readouterr().err)["remedy"]
