"""quantize as a whole: deterministic, of bounded memory, with refusals that name the layer."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

import subbyte as sb
from subbyte.errors import FormatError, LoweringError, RecipeError
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.runtime.modelfile import to_bytes
from tests.quantization.nets import Net


def network():
    net = Net(3, 16, 16)
    net.add("a", Conv(padding=(1, 1, 1, 1)), "x", net.weight(4, 3, 3, 3), net.weight(4))
    net.add("ar", Rectify(lo=0.0), "a")
    net.add("b", Conv(), "ar", net.weight(4, 4, 3, 3))
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "b")
    net.add("fc", Linear(), "mean", net.weight(5, 4))
    return net.graph("fc")


class Endless:
    """A data set that makes each sample when it is asked for."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        if index >= self.length:
            raise IndexError(index)
        return np.random.default_rng(index).standard_normal((3, 16, 16)).astype(np.float32)


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_samples():
    x = np.random.default_rng(0).standard_normal((64, 3, 16, 16)).astype(np.float32)
    made = [sb.quantize(network(), x, recipe="w4a4", samples=16, seed=s) for s in (0, 0, 1)]
    first, second, other = (to_bytes(q.graph, q.metadata) for q in made)
    assert first == second
    assert first != other


def test_memory_does_not_grow_with_the_number_of_batches(monkeypatch):
    from subbyte import pipeline

    monkeypatch.setattr(pipeline, "sample_limit", lambda graph, wanted: min(wanted, 32))
    peaks = []
    for count in (64, 64, 512):  # the first run also imports and caches
        tracemalloc.start()
        sb.quantize(network(), Endless(count), samples=count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.3 * peaks[1] + 200_000  # 448 more samples alone are 1.4 MB


@pytest.mark.parametrize(
    ("rule", "role"),
    [
        ({"weights": "uint4"}, "weight"),
        ({"weights": "binary", "symmetric": False}, "affine_weight"),
        ({"activations": "fp8_e5m2"}, "activation"),
        ({"storage": "midrise2"}, "storage"),
    ],
)
def test_a_refused_format_names_the_layer_and_the_recipe(rule, role):
    x = np.zeros((4, 3, 16, 16), np.float32)
    base = sb.Rule(weights="int8", activations="uint8")
    bad = sb.Recipe(name="bad", rules=(base, sb.Rule(path="^b$", **rule)))
    with pytest.raises(FormatError, match=role) as error:
        sb.quantize(network(), x, recipe=bad)
    assert "node 'b' (conv)" in error.value.place
    assert "recipe 'bad'" in error.value.place
    assert error.value.rule
    assert error.value.remedy


@pytest.mark.parametrize("field", ["input", "output"])
def test_inputs_and_outputs_are_kept_in_formats_without_gaps(field):
    bad = sb.Recipe(name="bad", rules=(sb.Rule(weights="int8"),), **{field: "binary"})
    with pytest.raises(FormatError, match="storage") as error:
        sb.quantize(network(), np.zeros((4, 3, 16, 16), np.float32), recipe=bad)
    assert field in error.value.place


def test_unknown_arithmetic_and_recipe_say_what_is_known():
    x = np.zeros((4, 3, 16, 16), np.float32)
    with pytest.raises(LoweringError, match="m13") as error:
        sb.quantize(network(), x, arithmetic="m13")
    assert "m15" in error.value.remedy
    with pytest.raises(RecipeError):
        sb.quantize(network(), x, recipe="w8")


def test_activations_of_all_zeros_are_no_obstacle():
    x = np.zeros((4, 3, 16, 16), np.float32)
    for arithmetic in ("m31", "m15", "shift"):
        q = sb.quantize(network(), x, arithmetic=arithmetic)
        assert np.all(np.isfinite(q(x)))
