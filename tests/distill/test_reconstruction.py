"""AdaRound and block reconstruction: neighbours only, smaller errors, blocks between single tensors, resumption."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from subbyte.distill.blocks import cut_blocks
from subbyte.distill.kernels import start_reals
from subbyte.distill.reconstruction import adaround, block_reconstruction
from subbyte.distill.softround import SoftKernel
from subbyte.distill.student import Student
from subbyte.errors import SubbyteError
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.layers import correct_biases
from subbyte.quantization.learning import Learning
from tests.distill.nets import quantized, residual, silent

SHORT = Learning(layer_steps=150, batch_size=16)


def error(scheme, layers, x, value):
    """Relative squared error of a value."""
    with torch.no_grad():
        feeds = {"x": torch.from_numpy(x)}
        want, got = FloatExecutor(scheme.graph).run(feeds)[value], Student(scheme, layers).run(feeds)[value]
    return float((got - want).square().mean() / want.var())


@pytest.mark.parametrize("recipe", ["w2a8", "wternary_a8", "wmidrise2_a8", "w3a8"])
def test_adaround_beats_the_nearest_codes_with_their_neighbours(recipe):
    scheme, layers, feeds = quantized(recipe, methods=())
    found, learned = adaround(scheme, layers, feeds, SHORT, 0, silent)
    assert found.types == scheme.types
    for name, layer in layers.items():
        before, after = layer.weight, learned[name].weight
        np.testing.assert_array_equal(before.scale, after.scale)
        if before.format.levels < 128 and layer.reals.ndim > 1:
            values, spread = before.format.values, before.scale.reshape(-1, *(1,) * (before.codes.ndim - 1))
            zero = values[before.codes] - before.integers()
            steps = np.clip(layer.reals / spread, values[0] - zero, values[-1] - zero)
            assert np.all(np.abs(after.integers() - steps) <= np.diff(values).max() + 1e-4)
    assert error(scheme, learned, feeds["x"], "fc") < 0.9 * error(scheme, layers, feeds["x"], "fc")


def test_choices_start_at_the_reals_and_end_decided():
    _, layers, _ = quantized("w3a8", methods=())
    for name in ("a", "fc"):
        kernel = SoftKernel(layers[name], "cpu", True)
        reals = start_reals(layers[name], inside=1.0)
        step = layers[name].weight.scale.max()
        assert np.abs(kernel.weight().detach().numpy() - reals).max() < 0.011 * step
        kernel.hard = True
        np.testing.assert_allclose(kernel.weight().detach().numpy(), layers[name].weight.dequantize(), rtol=1e-5)
        np.testing.assert_array_equal(kernel.layer(1.0, 1.0).weight.codes, layers[name].weight.codes)


def test_blocks_are_residual_blocks_and_single_layers():
    """One value leaves every block; a residual's layers are together."""
    graph = residual()
    blocks = [tuple(n.name for n in b.layers) for b in cut_blocks(graph)]
    assert blocks == [("a",), ("b", "c"), ("d",), ("fc",)]
    flat = [n.name for b in cut_blocks(graph) for n in b.nodes]
    assert flat == [n.name for n in graph]
    assert cut_blocks(graph)[1].target == "sr"


def test_blocks_learn_their_steps():
    scheme, layers, feeds = quantized("w3a3", methods=("bias_correction",))
    found, learned = block_reconstruction(scheme, layers, feeds, SHORT, 0, silent)
    moved = [k for k in scheme.types if found.types[k].scale != scheme.types[k].scale]
    assert moved
    assert all(scheme.types[k].storage == "uint8" for k in moved)
    corrected = correct_biases(found, learned, feeds, silent)
    assert error(found, corrected, feeds["x"], "fc") < error(scheme, layers, feeds["x"], "fc")


class InterruptionError(Exception):
    """Of a run."""


@pytest.mark.parametrize("method", [adaround, block_reconstruction])
def test_an_interrupted_run_goes_on_behind_its_last_block(method, tmp_path):
    scheme, layers, feeds = quantized("w3a4", methods=("bias_correction",))
    path = tmp_path / "journal.npz"
    settings = Learning(layer_steps=15, batch_size=16)
    whole = method(scheme, layers, feeds, settings, 0, silent)

    def stop(stage, done, total):
        if done == total - 2:
            raise InterruptionError

    kept = replace(settings, journal=path)
    with pytest.raises(InterruptionError):
        method(scheme, layers, feeds, kept, 0, stop)
    with np.load(path) as file:
        before = {n: file[n] for n in file.files}
    resumed = method(scheme, layers, feeds, kept, 0, silent)
    with np.load(path) as file:
        assert len(file.files) > len(before)
    assert resumed[0].types == whole[0].types
    for name in layers:
        np.testing.assert_array_equal(resumed[1][name].weight.codes, whole[1][name].weight.codes)
    with pytest.raises(SubbyteError, match="another network"):
        method(scheme, layers, feeds, kept, 1, silent)
    path.write_bytes(b"no archive")
    with pytest.raises(SubbyteError, match="cannot be used"):
        method(scheme, layers, feeds, kept, 0, silent)
