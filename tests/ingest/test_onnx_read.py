from __future__ import annotations

import contextlib
import os
import random
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import external_data_helper

from subbyte.errors import IngestError
from subbyte.ingest.onnx_file import load_onnx
from tests.ingest.onnx_models import model, node, outputs_of, samples, saved
from tests.limits import examples

WEIGHT = np.arange(12, dtype=np.float32).reshape(4, 3)


def network() -> onnx.ModelProto:
    nodes = [node("MatMul", ["x", "w"], "h"), node("Relu", ["h"])]
    return model(nodes, constants={"w": WEIGHT})


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "does not exist"),
        (b"", "it is empty"),
        (b"not a protocol buffer", "no valid ONNX model"),
        (b"\x00" * 64, "no valid ONNX model"),
        (b"\x08\x07", "it has no graph"),
        (b"PK\x03\x04" + bytes(99), "no valid ONNX model"),
    ],
)
def test_files_that_are_no_models(content: bytes | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(IngestError, match=message) as caught:
        load_onnx(path)
    assert str(path) in caught.value.place


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(IngestError, match="is no file"):
        load_onnx(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = saved(network(), tmp_path)
    path.chmod(0)
    with pytest.raises(IngestError, match="cannot be read"):
        load_onnx(path)


def test_truncated_at_any_byte(tmp_path: Path) -> None:
    data = network().SerializeToString()
    path = tmp_path / "model.onnx"
    for length in range(len(data)):
        path.write_bytes(data[:length])
        with pytest.raises(IngestError):
            load_onnx(path)


def test_mutated_files_are_read_or_refused_but_never_crash(tmp_path: Path) -> None:
    nodes = [
        node("Conv", ["x", "w", "b"], "a", pads=[1, 0, 1, 2], strides=[2, 1]),
        node("MaxPool", ["a"], "p", kernel_shape=[2, 2], ceil_mode=1),
        node("Shape", ["p"], "s"),
        node("Gather", ["s", "i"], "n", axis=0),
        node("Concat", ["n", "m"], "t", axis=0),
        node("Reshape", ["p", "t"], "r"),
        node("Gemm", ["r", "g"], transB=1),
    ]
    constants = {
        "w": np.ones((2, 1, 3, 3), np.float32),
        "b": np.ones(2, np.float32),
        "i": np.array([0]),
        "m": np.array([-1]),
        "g": np.ones((3, 20), np.float32),
    }
    data = model(nodes, ("n", 1, 6, 6), constants=constants).SerializeToString()
    (tmp_path / "model.onnx").write_bytes(data)
    load_onnx(tmp_path / "model.onnx")
    random_ = random.Random(5)
    for _ in range(examples(3000)):
        spoilt = bytearray(data)
        for _ in range(random_.choice([1, 1, 2, 5])):
            spoilt[random_.randrange(len(data))] = random_.randrange(256)
        (tmp_path / "model.onnx").write_bytes(spoilt)
        with contextlib.suppress(IngestError):
            load_onnx(tmp_path / "model.onnx")


def external(folder: Path, **changes: str) -> Path:
    """The network with its weight in weights.bin, and entries of the reference replaced."""
    proto = network()
    tensor = proto.graph.initializer[0]
    (folder / "weights.bin").write_bytes(b"head" + WEIGHT.tobytes() + b"tail")
    external_data_helper.set_external_data(tensor, "weights.bin", offset=4, length=WEIGHT.nbytes)
    tensor.ClearField("raw_data")
    for entry in tensor.external_data:
        entry.value = changes.pop(entry.key, entry.value)
    for key, value in changes.items():
        entry = tensor.external_data.add()
        entry.key, entry.value = key, value
    return saved(proto, folder)


def test_external_data_beside_the_model(tmp_path: Path) -> None:
    plain = load_onnx(saved(network(), tmp_path, "plain.onnx"))
    graph = load_onnx(external(tmp_path))
    feeds = samples(graph)
    assert np.array_equal(outputs_of(graph, feeds)[0], outputs_of(plain, feeds)[0])
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "weights.bin").write_bytes(b"head" + WEIGHT.tobytes())
    load_onnx(external(tmp_path, location="deep/weights.bin"))
    load_onnx(external(tmp_path, location="deep/../weights.bin"))


@pytest.mark.parametrize(
    "changes",
    [
        {"location": "../weights.bin"},
        {"location": "/etc/hostname"},
        {"location": "link.bin"},
        {"location": "missing.bin"},
        {"location": "."},
        {"location": ""},
        {"location": "a\0b"},
        {"location": "x" * 5000},
        {"offset": "-1"},
        {"offset": "9999"},
        {"offset": "many"},
        {"length": "9999"},
        {"length": "-4"},
        {"length": "4"},
    ],
)
def test_external_data_elsewhere_or_misshapen(changes: dict[str, str], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "weights.bin").write_bytes(b"head" + WEIGHT.tobytes())
    (folder / "link.bin").symlink_to(tmp_path / "weights.bin")
    with pytest.raises(IngestError, match="tensor 'w'"):
        load_onnx(external(folder, **changes))


def test_nothing_declared_about_results_is_believed(tmp_path: Path) -> None:
    proto = network()
    proto.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 77
    proto.graph.value_info.append(onnx.helper.make_tensor_value_info("h", onnx.TensorProto.INT8, [9, 9]))
    graph = load_onnx(saved(proto, tmp_path))
    assert [graph.types[name].shape for name in ("h", "y")] == [(None, 3), (None, 3)]
