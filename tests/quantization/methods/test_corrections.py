"""Corrections behind the weight methods, what batch norms say, and the warning about too little data."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch

import subbyte as sb
from subbyte.graph.ops.batch_norm import BatchNorm
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.graph.ops.mean import Mean
from subbyte.graph.ops.rectify import Rectify
from subbyte.graph.passes import prepare
from subbyte.graph.torch_executor import run_float
from subbyte.quantization.methods import CORRECTIONS
from subbyte.quantization.methods.normals import Normal, batch_norm_normals, clipped_mean, expected_means
from subbyte.quantization.methods.outcome import ChannelMoments, Outcome
from subbyte.quantization.scarcity import CalibrationWarning, Scarce, warn_scarce
from tests.quantization.nets import Net

PADDED = {"padding": (1, 1, 1, 1)}


def outcome(exact, coarse, op=None, weight=None, quantized=None, means=None, scalable=True):
    chunks = [list(torch.from_numpy(y.astype(np.float32)).split(7)) for y in (exact, coarse)]
    weight = np.zeros((exact.shape[-1], 1)) if weight is None else weight
    return Outcome(
        op=op or Linear(),
        exact=chunks[0],
        coarse=chunks[1],
        weight=weight,
        quantized=weight if quantized is None else quantized,
        find_means=lambda: means,
        scalable=scalable,
    )


def test_moments_are_numpy_s(rng):
    y = rng.normal(5, 3, (33, 4, 6))
    found = ChannelMoments(list(torch.from_numpy(y).split(10)))
    np.testing.assert_allclose(found.mean, y.reshape(-1, 6).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.deviation, y.reshape(-1, 6).std(axis=0), rtol=1e-12)


@pytest.mark.parametrize("scalable", [True, False])
def test_re_estimation_restores_mean_and_variance(rng, scalable):
    exact = rng.normal(1, [1.0, 2.0, 0.5], (400, 3))
    coarse = exact * [0.8, 1.3, 1.1] + [0.3, -1.0, 0.0] + rng.normal(0, 0.1, exact.shape)
    factor, shift = CORRECTIONS["batch_norm_reestimation"](outcome(exact, coarse, scalable=scalable))
    fixed = coarse * factor + shift
    np.testing.assert_allclose(fixed.mean(axis=0), exact.mean(axis=0), atol=1e-5)
    if scalable:
        np.testing.assert_allclose(fixed.std(axis=0), exact.std(axis=0), rtol=1e-5)
    else:
        np.testing.assert_array_equal(factor, 1)


def test_constant_channels_get_their_mean_alone(rng):
    exact = rng.normal(0, 1, (50, 3))
    coarse = exact.copy()
    exact[:, 1], coarse[:, 1] = 4.0, 3.0
    coarse[:, 2] = 0.5
    factor, shift = CORRECTIONS["batch_norm_reestimation"](outcome(exact, coarse))
    np.testing.assert_allclose(factor, 1, atol=1e-6)
    np.testing.assert_allclose((coarse * factor + shift).mean(axis=0), exact.mean(axis=0), atol=1e-6)


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_analytic_correction_is_the_mean_of_the_weights_error(rng, groups):
    """Without borders and with the true mean of the input both forms are one."""
    op = Conv(groups=groups, layout="channels_last")
    x = torch.from_numpy(rng.normal(rng.uniform(-2, 2, 6), 1.0, (5, 6, 6, 6)).astype(np.float32))
    weight = rng.standard_normal((12, 1, 1, 6 // groups))
    rounded = np.round(weight * 2) / 2
    exact, coarse = (op.torch(x, torch.from_numpy(w.astype(np.float32))).numpy() for w in (weight, rounded))
    seen = outcome(exact, coarse, op, weight, rounded, x.reshape(-1, 6).double().mean(dim=0).numpy())
    analytic, empirical = (CORRECTIONS[n](seen) for n in ("analytic_bias_correction", "bias_correction"))
    np.testing.assert_allclose(analytic.shift, empirical.shift, atol=1e-5)
    assert np.abs(analytic.shift).max() > 0.1


def visible(exact, coarse, rectify):
    return CORRECTIONS["visible_bias_correction"](outcome(exact, coarse, Linear(rectify=rectify))).shift


@pytest.mark.parametrize(
    ("rectify", "function"),
    [
        (Rectify(lo=0.0), lambda v: np.maximum(v, 0)),
        (Rectify(lo=0.0, hi=2.0), lambda v: np.clip(v, 0, 2)),
        (Rectify(slope=0.1), lambda v: np.where(v < 0, 0.1 * v, v)),
    ],
)
def test_visible_correction_brings_results_behind_the_activation_nearer(rng, rectify, function):
    """Where results are cut they are far too low, elsewhere too high: the mean in front says the wrong direction."""
    exact = rng.normal(0, 1, (4000, 3))
    coarse = exact + np.where(exact < 0, -2.0, 0.3) + rng.normal(0, 0.05, exact.shape)
    plain = CORRECTIONS["bias_correction"](outcome(exact, coarse, Linear(rectify=rectify))).shift
    shift = visible(exact, coarse, rectify)
    assert (plain > 0.5).all()
    assert (shift < -0.15).all()
    errors = [np.square(function(coarse + s) - function(exact)).mean() for s in (plain, 0.0, shift)]
    assert errors[2] < 0.7 * errors[1] < 0.2 * errors[0]


def test_visible_correction_leaves_cut_channels_alone_and_hardly_believes_rare_ones(rng):
    exact = rng.uniform(-9, -1, (20000, 3))
    exact[:2, 1], exact[:2000, 2] = 5.0, 5.0
    shift = visible(exact, exact - 0.5, Rectify(lo=0.0))
    assert shift[0] == 0
    assert 0 < shift[1] < 0.1
    assert shift[2] == pytest.approx(0.5, rel=0.02)


@pytest.mark.parametrize("rectify", [None, Rectify()])
def test_visible_correction_without_an_activation_is_the_plain_one(rng, rectify):
    exact = rng.normal(0, 1, (500, 4))
    coarse = exact + rng.normal([0.5, -1, 0, 2], 1.0, exact.shape)
    op = Linear(rectify=rectify)
    plain = CORRECTIONS["bias_correction"](outcome(exact, coarse, op)).shift
    np.testing.assert_allclose(visible(exact, coarse, rectify), plain, rtol=2e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("rectify", "function"),
    [
        (Rectify(lo=0.0), lambda v: np.maximum(v, 0)),
        (Rectify(lo=0.0, hi=6.0), lambda v: np.clip(v, 0, 6)),
        (Rectify(slope=0.1), lambda v: np.where(v < 0, 0.1 * v, v)),
        (Rectify(lo=-1.0, hi=1.0), lambda v: np.clip(v, -1, 1)),
        (Rectify(), lambda v: v),
    ],
)
def test_clipped_means_are_integrals(rectify, function):
    mean = np.array([-3.0, -0.5, 0.0, 2.0, 5.0, 1.0])
    deviation = np.array([1.0, 2.0, 0.5, 3.0, 1.0, 0.0])
    found = clipped_mean(Normal(mean=mean, deviation=deviation), rectify)
    t = np.linspace(-12, 12, 200001)
    density = np.exp(-t * t / 2) / math.sqrt(2 * math.pi)
    wanted = [np.trapezoid(function(m + s * t) * density, t) for m, s in zip(mean, deviation, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert clipped_mean(Normal(mean=mean, deviation=deviation), Rectify(lo=1.0)) is None


def trained():
    """Convolutions with batch norms whose statistics are those of standard normal inputs."""
    net = Net(4, 12, 12)

    def norm(name, x, size, mean, var):
        gamma, beta = net.rng.uniform(0.5, 2, size), net.rng.normal(0.5, 1, size)
        numbers = {"gamma": gamma, "beta": beta, "mean": mean, "var": var}
        for key, array in numbers.items():
            net.constants[f"{name}.{key}"] = array.astype(np.float32)
        net.add(name, BatchNorm(axis=1), x, *(f"{name}.{key}" for key in numbers))

    net.add("a", Conv(), "x", net.weight(8, 4, 3, 3, name="a.weight"))
    norm("an", "a", 8, np.zeros(8), np.square(net.constants["a.weight"]).sum(axis=(1, 2, 3)))
    net.add("ar", Rectify(lo=0.0), "an")
    net.add("b", Conv(), "ar", net.weight(6, 8, 1, 1), net.weight(6))
    net.add("mean", Mean(axes=(2, 3), keepdims=False), "b")
    net.add("fc", Linear(), "mean", net.weight(5, 6))
    return net


def raw(net, output):
    from subbyte.graph.ir import Graph

    return Graph(
        name="net", inputs=("x",), outputs=(output,), types=net.types, constants=net.constants, nodes=tuple(net.nodes)
    )


def test_batch_norms_are_found_where_they_were_folded_and_say_the_mean_behind_relu(rng):
    source = raw(trained(), "fc")
    prepared = prepare(source)
    normals = batch_norm_normals(source, prepared)
    assert set(normals) == {"a"}
    np.testing.assert_allclose(normals["a"].mean, source.constants["an.beta"])
    np.testing.assert_allclose(normals["a"].deviation, source.constants["an.gamma"], rtol=1e-6)
    expected = expected_means(prepared, normals)
    (maker,) = (n for n in prepared if n.name == "a")
    x = rng.standard_normal((64, 4, 12, 12)).astype(np.float32)
    measured = run_float(prepared, {"x": x})[maker.output].numpy().reshape(-1, 8).mean(axis=0)
    np.testing.assert_allclose(expected[maker.output], measured, atol=0.05)
    assert set(expected) == {maker.output}


def test_a_layer_that_took_in_more_than_its_batch_norm_says_nothing():
    source = raw(trained(), "fc")
    prepared = prepare(source)
    (maker,) = (n for n in prepared if n.name == "a")
    other = dict(prepared.constants)
    other[maker.inputs[1]] = 2 * other[maker.inputs[1]]
    assert batch_norm_normals(source, prepared.evolve(constants=other)) == {}


def ternary(*methods):
    return sb.Recipe(name="t", rules=(sb.Rule(weights="ternary"),), methods=methods)


@pytest.mark.parametrize("arithmetic", ["m31", "shift"])
@pytest.mark.parametrize("name", ["analytic_bias_correction", "batch_norm_reestimation", "visible_bias_correction"])
def test_corrections_bring_ternary_networks_nearer(name, arithmetic, rng):
    source = raw(trained(), "fc")
    x = rng.standard_normal((64, 4, 12, 12)).astype(np.float32)
    exact = run_float(source, {"x": x})["fc"].numpy()
    errors = []
    for methods in ((), (name,)):
        q = sb.quantize(source, x, recipe=ternary(*methods), samples=64, arithmetic=arithmetic)
        errors.append(np.square(np.asarray(q(x)).mean(axis=0) - exact.mean(axis=0)).sum())
    assert errors[1] < 0.5 * errors[0]


def test_dead_relus_and_constant_inputs_pass_through_everything(rng):
    net = Net(4, 6, 6)
    net.add("a", Conv(rectify=Rectify(lo=0.0)), "x", net.weight(6, 4, 1, 1), net.weight(6, name="bias"))
    net.add("b", Conv(**PADDED), "a", net.weight(3, 6, 3, 3))
    net.constants["bias"][:4] = -100
    graph = net.graph("b")
    x = rng.standard_normal((64, 4, 6, 6)).astype(np.float32)
    x[:, 3] = 0.5
    exact = run_float(graph, {"x": x})["b"].numpy()
    got = sb.quantize(graph, x, recipe=ternary("refit", "rescale", "gptq", *CORRECTIONS), samples=64)(x)
    assert np.square(np.asarray(got) - exact).sum() < 0.5 * np.square(exact).sum()
    constant = sb.quantize(graph, 0 * x, recipe=ternary("refit", "rescale", "gptq", *CORRECTIONS), samples=64)
    wanted = run_float(graph, {"x": 0 * x[:1]})["b"].numpy()
    np.testing.assert_allclose(constant(0 * x[:1]), wanted, atol=0.05)


def test_too_little_data_is_said_with_the_layers_and_what_follows(rng):
    net = Net(40)
    net.add("wide", Linear(rectify=Rectify(lo=0.0)), "x", net.weight(8, 40))
    net.add("narrow", Linear(), "wide", net.weight(5, 8))
    graph, x = net.graph("narrow"), rng.standard_normal((60, 40)).astype(np.float32)
    with pytest.warns(CalibrationWarning) as said:
        sb.quantize(graph, x[:20], recipe="w4a8")
    assert len(said) == 1
    text = str(said[0].message)
    assert "wide (20 windows, 40 inputs)" in text
    assert "narrow" not in text
    assert "at least 40 samples" in text
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sb.quantize(graph, x, recipe="w4a8")
        sb.quantize(graph, x[:20], recipe="w8a8")


def test_a_long_list_of_scarce_layers_is_counted():
    with pytest.warns(CalibrationWarning, match="and 3 more"):
        warn_scarce([Scarce(f"l{i}", 10, 11 + i) for i in range(8)], 5)
