"""The pretrained networks against onnxruntime on real inputs, as read and after preparation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from subbyte.graph.passes import prepare
from subbyte.ingest.onnx_file import load_onnx
from tests.ingest.onnx_models import outputs_of, relative_error, session
from tests.limits import FLOAT_REL_ERROR, FLOAT_REL_ERROR_FOLDED

Inputs = Callable[[ModuleType], np.ndarray]
CIFAR_MEAN, CIFAR_DEVIATION = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def _cifar(loaders: ModuleType) -> np.ndarray:
    return loaders.cifar10("test_lossless")[0][:4].astype(np.float32)


def _cifar_normal(loaders: ModuleType) -> np.ndarray:
    x = (_cifar(loaders) / 255 - CIFAR_MEAN) / CIFAR_DEVIATION
    return x.astype(np.float32).transpose(0, 3, 1, 2)


def _imagenet(loaders: ModuleType) -> np.ndarray:
    images = np.load(loaders.HERE / "imagenet" / "imagenet1000_sample_a.npz")
    pictures = loaders._jpegs(images["blob"].tobytes(), images["offsets"][:3])[:, 16:240, 16:240]
    return (pictures / 255).astype(np.float32)


MODELS: dict[str, Inputs] = {
    "mnist_mlp_784_128_32_10.onnx": lambda data: (data.mnist("test")[0][:8].reshape(8, -1) / 255).astype(np.float32),
    "mlperf_resnet8.onnx": _cifar,
    "cifar_resnet20.onnx": _cifar_normal,
    "mlperf_dscnn_kws.onnx": lambda data: data.kws()["mfcc"][:4],
    "honk_res8_narrow_kws.onnx": lambda data: data.honk()[0][:4],
    "mlperf_vww_mobilenetv1_025_96.onnx": lambda data: np.ascontiguousarray(
        _imagenet(data)[:, ::2, ::2][:, 8:104, 8:104]
    ),
    "tiny_darknet_imagenet.onnx": lambda data: np.ascontiguousarray(_imagenet(data).transpose(0, 3, 1, 2)),
}


@pytest.mark.parametrize("name", MODELS)
def test_float_outputs_are_those_of_onnxruntime(
    name: str, shared_model: Callable[[str], Path], loaders: ModuleType
) -> None:
    path = shared_model(name)
    graph = load_onnx(path)
    x = MODELS[name](loaders)
    runtime = session(path)
    reference = np.concatenate([runtime.run(None, {graph.inputs[0]: x[i : i + 1]})[0] for i in range(len(x))])
    for network, limit in ((graph, FLOAT_REL_ERROR), (prepare(graph), FLOAT_REL_ERROR_FOLDED)):
        ours = outputs_of(network, {graph.inputs[0]: x})[0]
        assert ours.shape == reference.shape
        assert relative_error(ours, reference) <= limit


def test_option_a_shortcuts_are_slices_and_pads(shared_model: Callable[[str], Path]) -> None:
    graph = load_onnx(shared_model("cifar_resnet20.onnx"))
    kinds = [n.op.name for n in graph]
    assert kinds.count("slice") == 4
    assert kinds.count("pad") == 2
    assert set(kinds) == {"conv", "rectify", "add", "slice", "pad", "mean", "linear"}


def test_the_demo_network(rng: np.random.Generator) -> None:
    path = Path(__file__).parents[2] / "src" / "subbyte" / "demo" / "mnist16.onnx"
    graph = load_onnx(path)
    x = rng.random((4, 1, 16, 16), np.float32)
    expected = session(path).run(None, {"image": x})[0]
    assert relative_error(outputs_of(graph, {"image": x})[0], expected) <= FLOAT_REL_ERROR
