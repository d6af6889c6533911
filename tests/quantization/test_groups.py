"""Group scales from a recipe to the file: every executor agrees, methods gain, what cannot be is refused by name."""

from __future__ import annotations

import numpy as np
import pytest

import subbyte as sb
from subbyte.errors import FormatError, RecipeError
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.reshape import Reshape
from subbyte.graph.torch_executor import run_float
from subbyte.runtime.modelfile import from_bytes, to_bytes
from tests.e2e.executors import check_agreement
from tests.quantization.nets import Net

LAYERS = ("one", "two", "depth", "fc")


def network():
    """A window with K = 1, a convolution, a depthwise one and a linear layer; weights whose inputs differ in size."""
    net = Net(1, 6, 6, seed=3)
    net.add("one", Conv(), "x", net.weight(6, 1, 1, 1), net.weight(6))
    net.add("relu", Rectify(lo=0.0), "one")
    net.add("two", Conv(padding=(1, 1, 1, 1)), "relu", uneven(net, 7, 6, 3, 3), net.weight(7))
    net.add("depth", Conv(groups=7), "two", uneven(net, 7, 1, 3, 3))
    net.add("flat", Reshape(shape=(None, 112)), "depth")
    net.add("fc", Linear(), "flat", uneven(net, 5, 112), net.weight(5))
    return net.graph("fc")


def uneven(net, *shape):
    name = net.weight(*shape)
    net.constants[name] *= np.exp(np.random.default_rng(5).normal(0, 1, shape)).astype(np.float32)
    return name


def samples(count=48):
    return np.random.default_rng(1).normal(0.3, 1.0, (count, 1, 6, 6)).astype(np.float32)


RECIPES = {
    "w4a8_g16": 4,
    "w4a8_g1": 4,
    "w4a8_dg16": 4,
    "wuint4_a8_dg16": 4,
    "wfp4_e2m1_a8_mx": 2,
    "w2a8_g16_first_last_same": 4,
    "w2a4_dg10": 2,
    "wternary_a8_g7": 2,
}
"""With the number of layers that are in groups; the others keep 8 bits."""


@pytest.mark.parametrize("arithmetic", ["m31", "m15", "shift"])
@pytest.mark.parametrize("name", RECIPES)
def test_all_executors_agree_and_the_file_holds_it(name, arithmetic):
    graph, x = network(), samples()
    q = sb.quantize(graph, x, recipe=name, arithmetic=arithmetic, samples=48)
    weights = [w for w in q.graph.constants.values() if isinstance(w, QTensor)]
    assert sum(w.groups is not None for w in weights) == RECIPES[name]
    assert all(max(map(abs, w.interval())) <= 127 for w in weights if w.groups is not None)
    (value,) = q.graph.inputs
    shape = (3, *(d or 0 for d in q.graph.types[value].shape[1:]))
    codes = {value: np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)}
    check_agreement(q.graph, codes)
    data = to_bytes(q.graph, {})
    again, _ = from_bytes(data)
    assert to_bytes(again, {}) == data
    assert q.nbytes >= len(data)
    exact = run_float(graph, {"x": x})["fc"].numpy()
    noise = np.mean(np.square(q(x) - exact)) / np.mean(np.square(exact))
    assert noise < (0.5 if "2" in name or "ternary" in name else 0.02)


def error(recipe):
    graph, x = network(), samples(200)
    q = sb.quantize(graph, x, recipe=recipe, samples=200)
    exact = run_float(graph, {"x": x})["fc"].numpy()
    return float(np.mean(np.square(q(x) - exact)))


def test_groups_come_nearer_than_channels():
    channels, groups, dual = (error(f"w4a8{s}") for s in ("", "_g16", "_dg16"))
    assert groups < 0.75 * channels
    assert dual < 0.75 * channels


def test_ends_that_stay_at_8_bits_have_scales_per_channel():
    q = sb.quantize(network(), samples(), recipe="w4a8_dg16_first_last_8", samples=48)
    weights = {name: q.graph.constants[f"{name}.weight"] for name in LAYERS}
    assert [w.groups is None for w in weights.values()] == [True, False, False, True]
    assert [w.format.name for w in weights.values()] == ["int8", "int4", "int4", "int8"]


def test_rules_choose_groups_by_path(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('base = "w4a8"\n[[rule]]\npath = "^two$"\ngranularity = "dual_grained(9)"\n')
    q = sb.quantize(network(), samples(), recipe=path, samples=48)
    sizes = {name: q.graph.constants[f"{name}.weight"].groups for name in LAYERS}
    assert {name for name, groups in sizes.items() if groups is not None} == {"two"}
    assert sizes["two"].size == 9
    assert q.graph.constants["two.weight"].zero_point.any()
    assert "int4 groups of 9" in q.summary()


def test_block_scales_of_mx_stay_powers_of_two_under_all_default_methods():
    methods = ("refit", "rescale", "gptq", "descent", "batch_norm_reestimation", "bias_correction")
    rule = sb.Rule(weights="ternary", granularity="mx(8)")
    q = sb.quantize(network(), samples(), recipe=sb.Recipe(name="mx", rules=(rule,), methods=methods), samples=48)
    for name in LAYERS:
        weight = q.graph.constants[f"{name}.weight"]
        assert weight.groups.powers
        assert np.all(np.frexp(weight.scale)[0] == 0.5)


@pytest.mark.parametrize(
    ("rule", "kind"),
    [
        (sb.Rule(weights="int8", granularity="per_group(32)"), FormatError),
        (sb.Rule(weights="nf4", granularity="dual_grained(32)"), FormatError),
        (sb.Rule(weights="int4", granularity="mx", symmetric=False), FormatError),
    ],
)
def test_refusals_name_the_layer(rule, kind):
    with pytest.raises(kind) as caught:
        sb.quantize(network(), samples(), recipe=sb.Recipe(name="no", rules=(rule,)), samples=48)
    assert "'one'" in caught.value.place
    assert caught.value.remedy


def test_methods_that_learn_refuse_groups():
    rule = sb.Rule(weights="int4", granularity="per_group(32)")
    recipe = sb.Recipe(name="no", rules=(rule,), methods=("gptq", "distill"))
    with pytest.raises(RecipeError, match="learn") as caught:
        sb.quantize(network(), samples(), recipe=recipe, samples=48)
    assert "distill" in caught.value.remedy
