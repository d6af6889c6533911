"""A small float network, its data and its integer model, in files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from subbyte.cli import main


@dataclass(frozen=True)
class Files:
    """Paths of everything that a verb may be given."""

    float: Path
    integer: Path
    data: Path
    folder: Path

    def __getitem__(self, name: str) -> str:
        return str(self.folder / name)


def write_onnx(path: Path) -> None:
    """conv 3x3, ReLU, conv 3x3 /2, ReLU, mean over places, linear: 3 classes of images [3, 8, 8]."""
    rng = np.random.default_rng(3)
    weights = {
        "first.weight": rng.normal(0, 0.4, (6, 3, 3, 3)),
        "first.bias": rng.normal(0, 0.1, 6),
        "second.weight": rng.normal(0, 0.3, (8, 6, 3, 3)),
        "last.weight": rng.normal(0, 1, (3, 8)),
        "last.bias": rng.normal(0, 0.1, 3),
    }
    nodes = [
        helper.make_node("Conv", ["image", "first.weight", "first.bias"], ["a"], "first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["a"], ["b"], "first.relu"),
        helper.make_node("Conv", ["b", "second.weight"], ["c"], "second", strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["d"], "second.relu"),
        helper.make_node("GlobalAveragePool", ["d"], ["e"], "pool"),
        helper.make_node("Flatten", ["e"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "last.weight", "last.bias"], ["scores"], "last", transB=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, 8, 8])],
        [helper.make_tensor_value_info("scores", onnx.TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(w.astype(np.float32), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())


def write_data(path: Path, model: Path) -> None:
    """40 images of bytes with the classes that the float network gives them."""
    import onnxruntime

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (40, 3, 8, 8)).astype(np.uint8)
    x[::2] //= 3
    session = onnxruntime.InferenceSession(model.read_bytes())
    (scores,) = session.run(None, {"image": x.astype(np.float32) / np.float32(255)})
    np.savez(path, x=x, y=np.argmax(scores, axis=1))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli")
    found = Files(folder / "small.onnx", folder / "small.subbyte", folder / "data.npz", folder)
    write_onnx(found.float)
    write_data(found.data, found.float)
    words = ["quantize", str(found.float), str(found.integer), "--data", str(found.data), "--scale", "1/255", "--quiet"]
    assert main(words) == 0
    return found
