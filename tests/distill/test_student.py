"""The differentiable network rounds where the integer network rounds, and ends in the codes that it computed with."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from subbyte.arithmetic.boundary import quantize
from subbyte.distill.student import Student
from subbyte.graph.ops.centred import decoded
from subbyte.graph.torch_executor import run_integer
from subbyte.quantization.lowering import lower
from tests.distill.nets import quantized, samples

RECIPES = [
    "w8a8",
    "w4a4",
    "wternary_a8",
    "w1a4",
    "x31_w17",
    "x23_w23",
    "wmidrise2_a8",
    "w2a2",
    "w4_asparq2_7opt_round_v",
    "w4_afp6_e3m2",
    "w8_afp8_e4m3fn",
]


def integers(scheme, layers, x):
    graph = lower(scheme, layers)
    t = graph.types["x"]
    env = run_integer(graph, {"x": quantize(x, t.scale, t.zero_point, t.lo, t.hi, t.storage)})
    return {v: graph.types[v].scale * decoded(env[v].numpy(), graph.types[v]) for v in scheme.graph.types if v in env}


@pytest.mark.parametrize("arithmetic", ["m31", "shift"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_values_are_those_of_the_integer_network(recipe, arithmetic):
    """Nearly all numbers of every value are equal; shifts make ties common, and those go the same way."""
    scheme, layers, _ = quantized(recipe, arithmetic=arithmetic)
    x = samples(8, seed=5)
    with torch.no_grad():
        got = Student(scheme, layers).run({"x": torch.from_numpy(x)})
    want = integers(scheme, layers, x)
    for value in [v for v in want if v != "p"]:
        off = np.abs(got[value].numpy() - want[value]) / scheme.stored(value).scale
        assert np.mean(off > 0.01) < (0.001 if arithmetic == "shift" else 0.02), value


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_was_learned_is_what_is_stored(recipe):
    """Codes of the integer model are exactly the rounding of the last forward pass, wherever parameters went."""
    scheme, layers, _ = quantized(recipe)
    student = Student(scheme, layers)
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for p in student.parameters():
            p.add_(0.2 * torch.randn(p.shape, generator=generator))
        weights = {name: k.weight().numpy() for name, k in student.kernels.items()}
    found, learned = student.result()
    graph = lower(found, learned)
    moved = 0
    for name, weight in weights.items():
        stored = graph.constants[f"{name}.weight"]
        np.testing.assert_allclose(stored.dequantize(), weight, rtol=1e-6)
        moved += np.sum(stored.codes != layers[name].weight.codes)
    assert moved > 20
    x = samples(8, seed=5)
    with torch.no_grad():
        got = student.run({"x": torch.from_numpy(x)}, until=["fc"])["fc"].numpy()
    want = integers(found, learned, x)["fc"]
    assert np.abs(got - want).max() < 0.1 * np.abs(want).max()
    assert np.median(np.abs(got - want)) <= 2 * found.stored("fc").scale


def test_the_start_is_the_quantized_network():
    """Learning begins at the codes that error feedback chose, not at the nearest ones."""
    scheme, layers, _ = quantized("w2a8")
    _, learned = Student(scheme, layers).result()
    for name, layer in layers.items():
        np.testing.assert_array_equal(learned[name].weight.codes, layer.weight.codes)
        np.testing.assert_array_equal(learned[name].weight.scale, layer.weight.scale)
        np.testing.assert_allclose(learned[name].bias, layer.bias)


def test_scales_stay_where_shifts_rescale():
    scheme, layers, _ = quantized("w4a4", arithmetic="shift")
    student = Student(scheme, layers)
    assert not student.growth
    assert all(k.growth is None for k in student.kernels.values())
    assert student.parameters()


def test_every_parameter_gets_a_gradient():
    scheme, layers, feeds = quantized("w4a4")
    student = Student(scheme, layers)
    env = student.run({"x": torch.from_numpy(feeds["x"][:16])})
    env["fc"].square().sum().backward()
    names = [id(p) for p in student.parameters()]
    assert len(names) == len(set(names))
    silent = [p for p in student.parameters() if p.grad is None or not torch.any(p.grad != 0)]
    unused = {key for key in student.growth if key[0] == "p"}
    assert len(silent) <= len(unused)
