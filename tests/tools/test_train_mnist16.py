"""What the demo's files rest on: exact area averaging and a faithful ONNX export."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch

from tools import train_mnist16 as tool


@pytest.mark.parametrize(("source", "target"), [(28, 16), (28, 14), (5, 3), (7, 7), (28, 1)])
def test_area_weights_share_out_every_cell(source: int, target: int) -> None:
    weights = tool.area_weights(source, target)
    assert weights.shape == (target, source)
    assert np.all(weights >= 0)
    np.testing.assert_allclose(weights.sum(axis=1), 1)
    np.testing.assert_allclose(weights.sum(axis=0), target / source)


def test_area_weights_of_whole_cells_are_a_mean() -> None:
    np.testing.assert_array_equal(tool.area_weights(4, 2), [[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])


def test_shrink_keeps_constants_and_range() -> None:
    assert np.all(tool.shrink(np.full((2, 28, 28), 255, np.uint8)) == 255)
    assert tool.shrink(np.zeros((1, 28, 28), np.uint8)).shape == (1, 16, 16)


def test_read_idx(tmp_path: Path) -> None:
    data = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)
    header = bytes([0, 0, 8, 3]) + np.array(data.shape, ">i4").tobytes()
    path = tmp_path / "x.gz"
    path.write_bytes(gzip.compress(header + data.tobytes()))
    np.testing.assert_array_equal(tool.read_idx(path), data)


def test_shifted_moves_by_at_most_a_pixel(rng: np.random.Generator) -> None:
    batch = torch.from_numpy(rng.random((64, 1, 16, 16)).astype(np.float32))
    moved = tool.shifted(batch, torch.Generator().manual_seed(0))
    wide = torch.nn.functional.pad(batch, (1, 1, 1, 1))
    windows = [wide[:, :, i : i + 16, j : j + 16] for i in range(3) for j in range(3)]
    hits = torch.stack([(w == moved).flatten(1).all(1) for w in windows])
    assert hits.any(0).all()
    assert hits.any(1).all()  # every one of the nine moves occurs


def test_onnx_is_the_network(rng: np.random.Generator) -> None:
    torch.manual_seed(1)
    net = tool.Network()
    for module in net.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                torch.nn.init.uniform_(tensor, 0.5, 1.5)
    net.eval()
    x = rng.random((3, 1, 16, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(tool.to_onnx(net).SerializeToString())
    (found,) = session.run(None, {"image": x})
    with torch.no_grad():
        expected = net(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
