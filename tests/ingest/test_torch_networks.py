"""Published networks, rebuilt as modules from their checkpoints, against their ONNX files in onnxruntime."""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
import torch

from subbyte.graph.ops import Affine, BatchNorm, Conv
from subbyte.graph.torch_executor import run_float
from subbyte.graph.verify import verify
from subbyte.ingest.torch_export import trace
from tests.limits import FLOAT_REL_ERROR, FLOAT_REL_ERROR_FOLDED
from tests.nets import ResNet20, load, tiny_darknet

_CIFAR = np.array([[0.485, 0.456, 0.406], [0.229, 0.224, 0.225]], np.float32)


def _pixels(loaders, name):
    """Real images, preprocessed as the network wants them."""
    if name == "cifar_resnet20":
        x = loaders.cifar10("test_lossless")[0][::25] / np.float32(255)
        return np.ascontiguousarray(((x - _CIFAR[0]) / _CIFAR[1]).transpose(0, 3, 1, 2), np.float32)
    x = loaders.imagenet()[0][::250] / np.float32(255)
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2), np.float32)


def _distance(seen, wanted):
    return float(np.abs(seen - wanted).max() / np.abs(wanted).max())


@pytest.mark.parametrize(("name", "make"), [("cifar_resnet20", ResNet20), ("tiny_darknet_imagenet", tiny_darknet)])
def test_real_network_equals_its_module_and_onnxruntime(name, make, shared_model, loaders):
    module = load(make(), shared_model(f"{name}.safetensors"))
    x = _pixels(loaders, name)
    graph = trace(module, (torch.from_numpy(x[:1]),))
    verify(graph, "float")

    seen = run_float(graph, {graph.inputs[0]: x})[graph.outputs[0]].detach().numpy()
    with torch.no_grad():
        assert _distance(seen, module(torch.from_numpy(x)).numpy()) <= FLOAT_REL_ERROR
    session = onnxruntime.InferenceSession(shared_model(f"{name}.onnx"), providers=["CPUExecutionProvider"])
    assert _distance(seen, session.run(None, {"x": x})[0]) <= FLOAT_REL_ERROR_FOLDED


def test_resnet20_keeps_the_names_of_the_checkpoint(shared_model):
    module = load(ResNet20(), shared_model("cifar_resnet20.safetensors"))
    graph = trace(module, torch.zeros(2, 3, 32, 32))
    state = {k: v for k, v in module.state_dict().items() if not k.endswith("num_batches_tracked")}
    assert set(graph.constants) == set(state)
    for name, tensor in state.items():
        np.testing.assert_array_equal(graph.constants[name], tensor.numpy())
    convolutions = [n for n in graph if isinstance(n.op, Conv)]
    assert [n.name for n in convolutions[:3]] == ["conv1", "layer1.0.conv1", "layer1.0.conv2"]
    assert all(n.module == n.name for n in convolutions)
    assert sum(isinstance(n.op, BatchNorm) for n in graph) == len(convolutions) == 19
    assert not any(isinstance(n.op, Affine) for n in graph)
    shortcuts = [n.module for n in graph if n.op.name in {"add", "pad"}]
    assert shortcuts.count("layer2.0") == 2
    assert graph.types[graph.inputs[0]].shape == (None, 3, 32, 32)
