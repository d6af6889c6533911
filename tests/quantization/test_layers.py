"""The walk behind the quantized prefix: channel means are restored, samples are bounded."""

from __future__ import annotations

import numpy as np
import pytest

import subbyte as sb
from subbyte.arithmetic import boundary
from subbyte.errors import SubbyteError
from subbyte.graph.ops.add import Add
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.torch_executor import run_float
from subbyte.quantization import layers
from subbyte.quantization.layers import sample_limit
from subbyte.quantization.weights import SEED
from tests.quantization.nets import Net

SAME = {"padding": (1, 1, 1, 1)}


def network():
    net = Net(3, 8, 8)
    net.add("a", Conv(**SAME), "x", net.weight(8, 3, 3, 3), net.weight(8))
    net.add("ar", Rectify(lo=0.0), "a")
    net.add("b", Conv(**SAME), "ar", net.weight(8, 8, 3, 3))
    net.add("sum", Add(), "ar", "b")
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "sum")
    net.add("fc", Linear(), "mean", net.weight(5, 8))
    return net.graph("fc")


def samples(count, seed=1):
    return np.random.default_rng(seed).standard_normal((count, 3, 8, 8)).astype(np.float32)


def recipe(bias_correction):
    rule = sb.Rule(weights="ternary", activations="uint8")
    return sb.Recipe(name="test", rules=(rule,), methods=("bias_correction",) if bias_correction else ())


@pytest.mark.parametrize("arithmetic", ["m31", "m15", "shift"])
def test_every_channel_of_every_layer_has_the_float_mean_behind_the_quantized_prefix(arithmetic):
    """The last layer's result is no longer re-rounded or clipped, so there the property is seen from outside."""
    graph, x = network(), samples(64)
    exact = run_float(graph, {"x": x})["fc"].numpy()
    off = {}
    for correct in (False, True):
        q = sb.quantize(graph, x, recipe=recipe(correct), arithmetic=arithmetic, samples=64)
        off[correct] = np.abs(q(x).mean(axis=0) - exact.mean(axis=0))
        scale = q.graph.types["fc"].scale
    assert off[True].max() < 0.02 * exact.std() + scale
    assert off[False].max() > 5 * off[True].max()


def test_later_layers_see_biases_as_integers_hold_them():
    """Ternary weights on 2-bit codes: biases are rounded to a coarse unit, which the next layer makes good."""
    net = Net(16)
    net.add("a", Linear(), "x", net.weight(64, 16), net.weight(64))
    net.add("r", Rectify(lo=0.0), "a")
    net.add("fc", Linear(), "r", net.weight(6, 64))
    x = np.random.default_rng(2).standard_normal((512, 16)).astype(np.float32)
    graph = net.graph("fc")
    low = sb.Rule(path="^a$", weights="ternary", activations="uint2")
    mixed = sb.Recipe(name="mixed", rules=(sb.Rule(), low), methods=("bias_correction",))
    seen = sb.quantize(graph, x, samples=512, recipe=mixed)(x)
    exact = run_float(graph, {"x": x})["fc"].numpy()
    assert np.abs(seen.mean(axis=0) - exact.mean(axis=0)).max() < 0.004 * exact.std()


def test_correction_changes_biases_alone():
    graph, x = network(), samples(32)
    plain, corrected = (sb.quantize(graph, x, recipe=recipe(c), samples=32).graph for c in (False, True))
    for name in ("a.weight", "b.weight", "fc.weight"):
        np.testing.assert_array_equal(plain.constants[name].codes, corrected.constants[name].codes)
    assert np.any(plain.constants["fc.bias"] != corrected.constants["fc.bias"])


def test_sample_limit_follows_the_largest_moment(monkeypatch):
    graph = network()
    monkeypatch.setattr(layers, "MEMORY_BUDGET", 2 * 4 * 100 * 3 * 8 * 8 * 8)
    live = 3 * 8 * 8 * 8  # ar, b and their sum
    assert sample_limit(graph, 10_000) == 100 * 3 * 8 * 8 * 8 // live
    assert sample_limit(graph, 20) == 20
    monkeypatch.setattr(layers, "MEMORY_BUDGET", 1)
    assert sample_limit(graph, 10_000) == 8


@pytest.mark.parametrize("count", [1, 7, 33])
def test_any_number_of_samples_will_do(count):
    q = sb.quantize(network(), samples(count), samples=1000)
    assert q.metadata["samples"] == count
    assert np.all(np.isfinite(q(samples(2))))


def test_weights_that_leave_int8_name_their_layer():
    net = Net(8)
    net.add("fc", Linear(), "x", net.weight(5, 8, name="w"))
    net.constants["w"] += 10
    x = np.random.default_rng(0).standard_normal((8, 8)).astype(np.float32)
    affine = sb.Recipe(name="affine", rules=(sb.Rule(weights="int8", symmetric=False),))
    with pytest.raises(SubbyteError, match="zero points reach") as error:
        sb.quantize(net.graph("fc"), x, recipe=affine)
    assert "'fc'" in error.value.place


@pytest.mark.parametrize("arithmetic", ["m31", "shift"])
@pytest.mark.parametrize(
    ("name", "rounding"),
    [("int4", "stochastic"), ("int2", "floor"), ("int8", "ceil"), ("levels5", "keep_nonzero"), ("fp130", "log_floor")],
)
def test_a_rounding_of_the_recipe_is_the_last_word_on_the_codes(name, rounding, arithmetic):
    """Whatever methods run: the codes are the reals rounded so under the scales found; unequal to the default's."""
    graph = network()
    rule = sb.Rule(weights=name, rounding=rounding)
    made = [
        sb.quantize(graph, samples(64), recipe=sb.Recipe(name="r", rules=(r,), methods=methods), arithmetic=arithmetic)
        for r, methods in ((rule, ("gptq", "descent")), (rule, ()), (sb.Rule(weights=name), ()))
    ]
    for node in made[0].graph:
        if node.name in {"a", "b", "fc"}:
            first, second, plain = (q.graph.constants[node.inputs[1]] for q in made)
            reals = graph.constants[next(n for n in graph if n.name == node.name).inputs[1]].astype(np.float64)
            scale = first.scale.astype(np.float64).reshape(-1, *(1,) * (reals.ndim - 1))
            wanted = first.format.encode(reals, scale, rounding=rounding, seed=SEED)
            np.testing.assert_array_equal(first.codes, wanted.reshape(first.shape))
            np.testing.assert_array_equal(first.codes, second.codes)
            assert (first.codes != plain.codes).any()
    x = samples(4, seed=3)
    np.testing.assert_array_equal(made[0](x), dequantized(made[0], x))


def dequantized(q, x):
    (output,) = q.graph.outputs
    kind = q.graph.types[output]
    return boundary.dequantize(q.reference(q.encode(x))[output], kind.scale, kind.zero_point)


def test_a_rounding_that_a_format_has_not_names_the_layer():
    rule = sb.Rule(weights="int4", rounding="log_floor")
    with pytest.raises(SubbyteError, match="powers of two") as error:
        sb.quantize(network(), samples(8), recipe=sb.Recipe(name="r", rules=(rule,)))
    assert "'a'" in error.value.place
    with pytest.raises(SubbyteError, match="stochastic"):
        sb.Rule(rounding="stochastik")
