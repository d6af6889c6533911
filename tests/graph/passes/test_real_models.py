"""Pretrained networks through all passes: same outputs, one move of the input at most, nothing left unfused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from subbyte.graph.passes import prepare
from subbyte.graph.torch_executor import run_float
from subbyte.ingest.onnx_file import load_onnx
from tests.graph.networks import feeds, ops
from tests.limits import FLOAT_REL_ERROR_FOLDED

MODELS = {
    "cifar_resnet20.onnx": (1, {"conv": 19, "add": 9}),
    "honk_res8_narrow_kws.onnx": (0, {"conv": 7, "affine": 6, "add": 3}),
    "mlperf_dscnn_kws.onnx": (0, {"conv": 9, "linear": 1}),
    "mlperf_resnet8.onnx": (0, {"conv": 9, "add": 3, "linear": 1}),
    "mnist_mlp_784_128_32_10.onnx": (0, {"linear": 3}),
}


@pytest.mark.parametrize("name", MODELS)
def test_pretrained_network(name: str, shared_model: Callable[[str], Path]) -> None:
    graph = load_onnx(shared_model(name))
    result = prepare(graph)
    transposes, expected = MODELS[name]
    found = ops(result)
    assert found.count("transpose") == transposes
    assert {kind: found.count(kind) for kind in expected} == expected
    assert not {"rectify", "batch_norm", "identity"} & set(found)
    inputs = feeds(graph)
    before, after = run_float(graph, inputs), run_float(result, inputs)
    for output in graph.outputs:
        exact, folded = before[output].detach().numpy(), after[output].detach().numpy()
        assert np.abs(exact - folded).max() <= FLOAT_REL_ERROR_FOLDED * np.abs(exact).max()
