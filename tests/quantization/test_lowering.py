"""Float networks as integers: close to float, exact between executors, honest about what has no integer form."""

from __future__ import annotations

import numpy as np
import pytest

import subbyte as sb
from subbyte.arithmetic import boundary
from subbyte.arithmetic.fast_requant import agrees
from subbyte.comparison import sqnr
from subbyte.errors import DataError, LoweringError
from subbyte.formats import Format, register_format, unregister_format
from subbyte.graph.ops.add import Add, Sub
from subbyte.graph.ops.affine import Affine
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.avg_pool import AvgPool
from subbyte.graph.ops.concat import Concat
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.log_softmax import LogSoftmax
from subbyte.graph.ops.max_pool import MaxPool
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.mul import Mul
from subbyte.graph.ops.pad import Pad
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.ops.resize_nearest import ResizeNearest
from subbyte.graph.ops.softmax import Softmax
from subbyte.graph.ops.unary import FUNCTIONS, Unary
from subbyte.graph.torch_executor import FloatExecutor, run_integer
from tests.quantization.nets import Net

SAME = {"padding": (1, 1, 1, 1)}
ARITHMETICS = ("m31", "m15", "shift")
DB_8 = 26.0
"""Least SQNR of a small 8-bit network's output in these tests; random nets reach 30 to 45 dB."""


def samples(n=96, *shape, seed=1):
    return np.random.default_rng(seed).standard_normal((n, *shape)).astype(np.float32)


def check(graph, x, arithmetic="m31", recipe="w8a8", least=DB_8):
    """Quantize; the three executors agree on every value, and every output stays near float."""
    q = sb.quantize(graph, x, recipe=recipe, arithmetic=arithmetic, samples=len(x))
    codes = q.encode(x)
    expected = q.reference(codes, keep=True)
    native = q.engine.run_all(codes)
    torch = run_integer(q.graph, codes)
    for node in q.graph:
        np.testing.assert_array_equal(native[node.output], expected[node.output], err_msg=str(node))
        np.testing.assert_array_equal(torch[node.output].numpy(), expected[node.output], err_msg=str(node))
    exact = FloatExecutor(graph).run({"x": x})
    for name in graph.outputs:
        t = q.graph.types[name]
        got = boundary.dequantize(expected[name], t.scale, t.zero_point)
        assert sqnr(exact[name].numpy(), got) > least, name
    return q


def conv_net():
    net = Net(3, 8, 8)
    net.add("a", Conv(**SAME), "x", net.weight(8, 3, 3, 3), net.weight(8))
    net.add("ar", Rectify(slope=0.1), "a")
    net.add("dw", Conv(**SAME, groups=8), "ar", net.weight(8, 1, 3, 3))
    net.add("dr", Rectify(lo=0.0, hi=6.0), "dw")
    net.add("sum", Add(), "ar", "dr")
    net.add("bn", Affine(axis=1), "sum", net.weight(8, name="gamma"), net.weight(8))
    net.add("pool", AvgPool(kernel=(4, 4), stride=(4, 4), padding=(0,) * 4, ceil_mode=False), "bn")
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "pool")
    net.add("fc", Linear(), "mean", net.weight(10, 8), net.weight(10))
    return net


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("recipe", ["w8a8", "w4a4", "x31_w17", "wternary_a8", "w1a8", "wmidrise2_alevels17"])
def test_a_convolutional_network(arithmetic, recipe):
    net = conv_net()
    net.add("p", Softmax(axis=1), "fc")
    least = DB_8 if recipe == "w8a8" else 3.0
    check(net.graph("p"), samples(96, 3, 8, 8), arithmetic, recipe, least)


def test_multipliers_have_the_range_of_their_arithmetic():
    graph = conv_net().graph("fc")
    x = samples(64, 3, 8, 8)
    ranges = {"m31": (2**30, 2**31), "m15": (2**14, 2**15)}
    for arithmetic, (low, high) in ranges.items():
        q = sb.quantize(graph, x, arithmetic=arithmetic, samples=64)
        for node in q.graph:
            if node.op.name in {"int_conv", "int_linear"}:
                m = q.graph.constants[node.inputs[3]]
                assert np.all((m >= low) & (m < high))
    q = sb.quantize(graph, x, arithmetic="shift", samples=64)
    for node in q.graph:
        if node.op.name in {"int_conv", "int_linear"}:
            m, n = (q.graph.constants[node.inputs[i]] for i in (3, 4))
            assert np.all((m == 1) | ((n == 1) & (np.bitwise_count(m) == 1)))


def test_every_channel_may_rescale_in_float32():
    """Leaky slopes and a channel that is next to nothing beside its bias included; scales move by rounding alone."""
    net = conv_net()
    net.constants["w0"][3] *= 1e-9
    q = sb.quantize(net.graph("fc"), samples(64, 3, 8, 8), samples=64)
    tested = 0
    for node in q.graph:
        if node.op.name not in {"int_conv", "int_linear"}:
            continue
        x, out = q.graph.types[node.inputs[0]], q.graph.types[node.output]
        if out.storage != "uint8":
            continue  # the last layer keeps 16 bits
        weight, bias, *rest = (q.graph.constants[i] for i in node.inputs[1:])
        most = max(x.zero_point - x.lo, x.hi - x.zero_point)
        reach = np.abs(weight.integers().reshape(len(bias), -1).astype(np.int64)).sum(1) * most + np.abs(bias)
        bounds = [(-reach, reach)] if len(rest) == 2 else [(0 * reach, reach), (-reach, 0 * reach)]
        slopes = (1.0, 0.1)
        for (least, largest), slope, m, n in zip(bounds, slopes, rest[::2], rest[1::2], strict=False):
            assert np.all(agrees(m, n, out.zero_point, node.op.lo, node.op.hi, least, largest)), node.name
            ratio = slope * x.scale * weight.scale.astype(np.float64) / out.scale
            np.testing.assert_allclose(m * 2.0**-n, ratio, rtol=2.0**-22)
            tested += 1
    assert tested == 4


@pytest.mark.parametrize("function", FUNCTIONS)
def test_functions_of_one_variable_become_tables(function):
    net = Net(6, 4, 4)
    net.add("a", Conv(), "x", net.weight(6, 6, 1, 1))
    net.add("f", Unary(function=function, params=(0.2, 0.5) if function == "hard_sigmoid" else ()), "a")
    net.add("b", Conv(), "f", net.weight(6, 6, 1, 1))
    q = check(net.graph("b"), samples(64, 6, 4, 4))
    assert "int_lut" in {n.op.name for n in q.graph}


def test_elementwise_and_movement():
    net = Net(4, 8, 8)
    net.add("a", Conv(**SAME), "x", net.weight(4, 4, 3, 3))
    net.add("b", Conv(**SAME), "x", net.weight(4, 4, 3, 3))
    net.add("d", Sub(), "a", "b")
    net.add("m", Mul(), "d", "a")
    net.constants["grid"] = samples(1, 8, 8)[0]
    net.add("g", Add(), "m", "grid")
    net.add("pool", MaxPool(kernel=(2, 2), stride=(2, 2), dilation=(1, 1), padding=(0,) * 4), "g")
    net.add("up", ResizeNearest(size=(8, 8), layout="channels_first"), "pool")
    net.add("pad", Pad(before=(0, 0, 1, 0), after=(0, 0, 0, 2), value=0.0), "up")
    net.add("pad1", Pad(before=(0, 0, 0, 0), after=(0, 0, 1, 0), value=0.5), "pad")
    net.add("act", Rectify(lo=-0.5), "pad1")
    net.add("act2", Rectify(slope=0.25), "act")
    net.add("cat", Concat(axis=1), "act2", "pad1")
    net.add("c", Conv(stride=(2, 2)), "cat", net.weight(5, 8, 3, 3))
    check(net.graph("c", "d"), samples(96, 4, 8, 8))


def test_squeeze_and_excite():
    net = Net(8, 6, 6)
    net.add("a", Conv(**SAME), "x", net.weight(8, 8, 3, 3))
    net.add("s", Mean(axes=(2, 3), keepdims=True), "a")
    net.add("e", Conv(), "s", net.weight(8, 8, 1, 1))
    net.add("h", Unary(function="sigmoid"), "e")
    net.add("y", Mul(), "a", "h")
    net.add("z", Conv(**SAME), "y", net.weight(8, 8, 3, 3))
    check(net.graph("z"), samples(96, 8, 6, 6))


def test_heads():
    net = Net(12)
    net.add("fc", Linear(), "x", net.weight(7, 12), net.weight(7))
    net.add("logp", LogSoftmax(axis=1), "fc")
    net.add("best", Argmax(axis=1, keepdims=False), "fc")
    graph = net.graph("logp", "best")
    x = samples(200, 12)
    q = sb.quantize(graph, x, samples=200)
    got = q(x)
    exact = FloatExecutor(graph).run({"x": x})
    assert got["best"].dtype == np.int64
    assert np.mean(got["best"] == exact["best"].numpy()) > 0.95
    assert np.abs(got["logp"] - exact["logp"].numpy()).max() < 0.15


def test_an_unknown_level_set_runs_everywhere_as_one_object():
    six = register_format(Format(name="six", table=(-2, -1, 0, 1, 2, 4)))
    try:
        graph = conv_net().graph("fc")
        x = samples(96, 3, 8, 8)
        q = check(graph, x, recipe="wsix_a8", least=3.0)
        assert q.graph.constants["dw.weight"].format is six
        assert len(np.unique(q.graph.constants["dw.weight"].codes)) > 3
        check(graph, x, recipe="wsix_asix", least=0.5)
    finally:
        unregister_format("six")


def test_a_mean_joined_with_its_operand_has_no_shift_form():
    net = Net(3, 6)
    net.add("a", Linear(), "x", net.weight(6, 6))
    net.add("m", Mean(axes=(1,), keepdims=True), "a")
    net.add("y", Sub(), "a", "m")
    graph = net.graph("y")
    x = samples(64, 3, 6)
    check(graph, x, "m15")
    with pytest.raises(LoweringError, match="factors") as error:
        sb.quantize(graph, x, arithmetic="shift")
    assert "m15" in error.value.remedy


def test_bias_correction_restores_the_means():
    graph = conv_net().graph("fc")
    x = samples(256, 3, 8, 8)
    recipe = sb.Recipe(name="plain", rules=(sb.Rule(weights="ternary", activations="uint8"),), methods=())
    corrected = sb.Recipe(name="corrected", rules=recipe.rules)
    exact = FloatExecutor(graph).run({"x": x})["fc"].numpy().mean(0)
    off = [np.abs(sb.quantize(graph, x, recipe=r)(x).mean(0) - exact).max() for r in (recipe, corrected)]
    assert off[1] < 0.25 * off[0]


def test_a_channel_of_zeros_and_a_dead_relu():
    net = Net(3, 6, 6)
    net.add("a", Conv(), "x", net.weight(4, 3, 1, 1, name="w"))
    net.constants["w"][1] = 0.0
    net.constants["b"] = np.array([0, 0, -1e4, 0], np.float32)
    net.nodes.clear()
    net.add("a", Conv(), "x", "w", "b")
    net.add("r", Rectify(lo=0.0), "a")
    net.add("c", Conv(), "r", net.weight(4, 4, 1, 1))
    for arithmetic in ARITHMETICS:
        q = check(net.graph("c"), samples(64, 3, 6, 6), arithmetic)
        assert np.all(q.graph.constants["a.weight"].integers()[1] == 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_calibration_data_that_is_not_finite(bad):
    x = samples(8, 3, 8, 8)
    x[3, 0, 0, 0] = bad
    with pytest.raises(DataError):
        sb.quantize(conv_net().graph("fc"), x)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("operator", [Add, Sub, Mul, Conv])
def test_a_leaky_slope_survives_behind_every_operator(operator, arithmetic):
    net = Net(4, 6, 6)
    net.add("a", Conv(**SAME), "x", net.weight(4, 4, 3, 3))
    net.add("y", *((Conv(), "a", net.weight(4, 4, 1, 1)) if operator is Conv else (operator(), "a", "x")))
    net.add("r", Rectify(slope=-0.5), "y")
    net.add("s", Rectify(slope=0.2, lo=-0.1, hi=1.0), "r")
    net.add("out", Conv(), "s", net.weight(4, 4, 1, 1))
    check(net.graph("out", "r"), samples(96, 4, 6, 6), arithmetic, least=22)


CLIPS = (
    Rectify(lo=0.3),
    Rectify(slope=0.0, lo=-1.0),
    Rectify(lo=-0.2, hi=0.7),
    Rectify(slope=0.0, lo=0.2, hi=0.4),
    Rectify(slope=0.0, hi=-0.2),
    Rectify(hi=-0.1),
    Rectify(lo=2.0, hi=2.0),
)


@pytest.mark.parametrize("rectify", CLIPS)
@pytest.mark.parametrize("output", ["int16", "uint8"])
def test_clips_between_codes_are_off_by_half_a_step_at_most(rectify, output):
    net = Net(6)
    net.add("a", Linear(), "x", net.weight(6, 6))
    net.add("r", rectify, "a")
    x = samples(64, 6)
    graph = net.graph("r")
    q = sb.quantize(graph, x, recipe=sb.Recipe(name="r", rules=(sb.Rule(weights="int8"),), output=output))
    got, exact = q(x), FloatExecutor(graph).run({"x": x})["r"].numpy()
    half = q.graph.types["r"].scale * 0.501
    assert np.abs(got - exact).max() < 0.1
    low = max(rectify.lo, 0.0) if rectify.slope == 0 else rectify.lo
    assert got.min() >= min(low, rectify.hi) - half
    assert got.max() <= rectify.hi + half


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
def test_sums_of_values_of_very_different_size(arithmetic):
    net = Net(6)
    net.add("big", Linear(), "x", net.weight(6, 6, name="w"))
    net.constants["w"] *= 3e3
    net.add("small", Unary(function="sigmoid"), "x")
    net.constants["tiny"] = np.full((6,), 1e-5, np.float32) * np.arange(1, 7, dtype=np.float32)
    net.add("sum", Add(), "small", "big")
    net.add("cut", Rectify(lo=-1.0, hi=1.0), "sum")
    net.add("back", Sub(), "big", "cut")
    net.constants["grid"] = np.zeros(6, np.float32)
    net.add("y", Mul(), "grid", "cut")
    check(net.graph("sum", "back"), samples(96, 6), arithmetic)
    check(net.graph("y", "back"), samples(96, 6), arithmetic, least=-1000)


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("operator", [Add, Sub, Mul])
@pytest.mark.parametrize("first", [True, False])
def test_constants_on_either_side(operator, first, arithmetic):
    net = Net(3, 5)
    net.add("m", Mean(axes=(1,), keepdims=True), "x")  # an odd window in front, for shift arithmetic
    net.constants["c"] = samples(1, 3, 5)[0]
    net.add("y", operator(), *(("c", "m") if first else ("m", "c")))
    check(net.graph("y"), samples(128, 3, 5), arithmetic, least=34)


@pytest.mark.parametrize("recipe", ["w4_amidrise2", "wbinary_abinary", "wternary_aternary", "w8a1"])
def test_an_output_that_a_layer_with_any_operands_reads(recipe):
    net = Net(6)
    net.add("a", Linear(), "x", net.weight(6, 6))
    net.add("b", Linear(), "a", net.weight(6, 6))
    net.add("c", Linear(), "b", net.weight(6, 6))
    q = check(net.graph("a", "b", "c"), samples(96, 6), recipe=recipe, least=-5)
    assert {q.graph.types[v].format.name for v in "abc"} == {"int16"}


def test_outputs_that_are_inputs_and_inputs_that_many_read():
    net = Net(2, 6, 6)
    net.add("a", Conv(), "x", net.weight(3, 2, 3, 3))
    net.add("b", Conv(), "x", net.weight(3, 2, 3, 3))
    net.add("c", Concat(axis=1), "x", "x")
    net.add("d", Unary(function="tanh"), "x")
    for recipe in ("w8a8", "w4a4", "wbinary_abinary"):
        q = check(net.graph("x", "a", "b", "c", "d"), samples(64, 2, 6, 6), recipe=recipe, least=0)
        assert q.graph.types["x"].format.name == "uint8"


def test_probabilities_beside_other_values_keep_their_own_scale():
    net = Net(6)
    net.add("a", Linear(), "x", net.weight(6, 6))
    net.add("p", Softmax(axis=1), "a")
    net.add("b", Linear(), "x", net.weight(6, 6, name="w"))
    net.constants["w"] *= 10
    net.add("cat", Concat(axis=1), "p", "b")
    net.add("y", Linear(), "cat", net.weight(6, 12))
    check(net.graph("y", "cat"), samples(128, 6))


def test_new_names_avoid_those_of_the_network():
    net = Net(4, 3)
    net.add("f", Linear(), "x", net.weight(4, 3, name="k"))
    net.add("f.weight", Linear(), "f", net.weight(4, 4))
    net.add("f.m", Rectify(lo=0.1), "f.weight")
    net.add("n", Affine(axis=1), "f.m", net.weight(4), net.weight(4))
    net.add("n.last", Linear(), "n", net.weight(3, 4))
    net.add("n.last::uint4", Linear(), "n.last", net.weight(3, 3))
    graph = net.graph("n.last::uint4", "n.last")
    check(graph, samples(64, 4, 3), recipe=sb.Recipe(name="r", rules=(sb.Rule(weights="int8", activations="uint4"),),
                                                     last_input="uint4"), least=0)  # fmt: skip
