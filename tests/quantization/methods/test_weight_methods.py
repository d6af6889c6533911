"""Weight methods against brute force and against what they promise."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

from subbyte.errors import DataError, RecipeError
from subbyte.formats import DualGrained, Groups, Mx, PerChannel, PerGroup, get_format
from subbyte.formats.quantize import quantize_weight
from subbyte.graph.ops.conv import Conv
from subbyte.graph.ops.linear import Linear
from subbyte.quantization.methods import WEIGHT_METHODS, Problem, State, moments
from subbyte.quantization.methods.moments import Moments, measure
from subbyte.quantization.recipe import Recipe, Rule


def problem(found: Moments, name: str) -> Problem:
    def scales(reals, importance):
        return quantize_weight(reals, get_format(name), PerChannel(0), "mse", importance)

    return Problem(find_moments=lambda: found, find_scales=scales)


def start(p: Problem, weight) -> State:
    return State(weight=weight, tensor=p.find_scales(weight, None))


def drift(found: Moments, weight, wanted) -> float:
    """Mean squared change of the layer's centred results when ``wanted`` weights become ``weight``."""
    gap = (weight - wanted).reshape(len(found.gram), -1, found.gram.shape[1]).astype(np.float64)
    return float(np.einsum("gok,gkl,gol->", gap, found.gram, gap))


def correlated(rng, rows, k):
    return (rng.standard_normal((rows, k)) @ rng.standard_normal((k, k)) + 3.0).astype(np.float32)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize(
    ("stride", "dilation", "padding"), [((1, 1), (1, 1), (1, 0, 2, 1)), ((2, 1), (1, 2), (0,) * 4)]
)
def test_moments_are_those_of_the_convolution_written_as_a_product(rng, groups, stride, dilation, padding):
    op = Conv(stride=stride, dilation=dilation, padding=padding, groups=groups, layout="channels_last")
    x = torch.from_numpy(rng.standard_normal((5, 7, 9, 6)).astype(np.float32))
    shape = (12, 3, 2, 6 // groups)
    weight = torch.from_numpy(rng.standard_normal(shape).astype(np.float32))
    y = op.torch(x, weight)
    found = measure(op, shape, list(x.split(2)), list(y.split(2)))
    assert found.rows == y[..., 0].numel()
    rebuilt = weight.numpy().reshape(groups, 12 // groups, -1) @ found.gram
    np.testing.assert_allclose(rebuilt, found.cross, rtol=1e-4, atol=1e-4)
    spread = np.einsum("gok,gok->go", rebuilt, weight.numpy().reshape(rebuilt.shape)).reshape(-1)
    np.testing.assert_allclose(spread, y.reshape(-1, 12).numpy().var(axis=0), rtol=1e-4)


def test_moments_of_a_sample_are_near_those_of_all(rng, monkeypatch):
    x = torch.from_numpy(correlated(rng, 4000, 5))
    w = torch.from_numpy(rng.standard_normal((3, 5)).astype(np.float32))
    everything = measure(Linear(), (3, 5), [x], [x @ w.T])
    monkeypatch.setattr(moments, "MOST_ROWS", 1000)
    some = measure(Linear(), (3, 5), [x], [x @ w.T])
    assert (everything.rows, some.rows) == (4000, 1000)
    np.testing.assert_allclose(some.gram, everything.gram, atol=0.2 * everything.gram.max())
    assert not np.array_equal(some.gram, everything.gram)


def test_refit_undoes_a_linear_distortion_of_the_inputs(rng):
    clean = correlated(rng, 20000, 6)
    mixing = np.eye(6) + 0.2 * rng.standard_normal((6, 6))
    weight = rng.standard_normal((4, 6)).astype(np.float32)
    seen = torch.from_numpy((clean @ mixing).astype(np.float32))
    found = measure(Linear(), weight.shape, [seen], [torch.from_numpy(clean @ weight.T)])
    ideal = weight @ np.linalg.inv(mixing).T
    p = problem(found, "int8")
    fitted = WEIGHT_METHODS["refit"](p, start(p, weight)).weight
    assert drift(found, fitted, ideal) < 0.05 * drift(found, weight, ideal)


def test_refit_leaves_weights_alone_where_nothing_was_distorted_or_nothing_moves(rng):
    x = torch.from_numpy(correlated(rng, 500, 4))
    x[:, 2] = 7.0
    weight = rng.standard_normal((3, 4)).astype(np.float32)
    for inputs in (x, torch.full_like(x, 2.0)):
        found = measure(Linear(), weight.shape, [inputs], [inputs @ torch.from_numpy(weight).T])
        p = problem(found, "int8")
        np.testing.assert_allclose(WEIGHT_METHODS["refit"](p, start(p, weight)).weight, weight, atol=2e-3)


@pytest.mark.parametrize("name", ["int4", "ternary", "binary", "int2"])
def test_gptq_beats_rounding_and_comes_near_the_best_codes(rng, name):
    """Every choice of codes of one small channel is tried."""
    format_ = get_format(name)
    wins, ratio = 0, []
    for _ in range(12):
        x = torch.from_numpy(correlated(rng, 400, 4))
        weight = rng.standard_normal((1, 4)).astype(np.float32)
        found = measure(Linear(), weight.shape, [x], [x @ torch.from_numpy(weight).T])
        p = problem(found, name)
        nearest = start(p, weight)
        fed = WEIGHT_METHODS["gptq"](p, nearest)
        np.testing.assert_array_equal(fed.tensor.scale, nearest.tensor.scale)
        scale = float(nearest.tensor.scale[0])
        choices = itertools.product(format_.values * scale, repeat=4)
        best = min(drift(found, np.array([c]), weight) for c in choices)
        errors = [drift(found, t.tensor.dequantize(), weight) for t in (fed, nearest)]
        wins += errors[0] <= errors[1] * (1 + 1e-6)
        ratio.append(errors[0] / max(best, 1e-12))
    assert wins >= 9
    assert np.median(ratio) < 4.0


GRANULARITIES = [PerGroup(8), DualGrained(5), Mx(8), PerGroup(1), PerGroup(1000)]


@pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)
@pytest.mark.parametrize("parts", [1, 3])
def test_methods_keep_group_scales_and_their_codes(rng, granularity, parts):
    """Error feedback and descent lower the result's error within what each group may take."""
    k, format_ = 21, get_format("levels5")
    weight = rng.standard_normal((6, k)).astype(np.float32) * np.exp(rng.normal(0, 1, (6, k))).astype(np.float32)
    found = grouped_moments(rng, weight, parts)

    def scales(reals, importance):
        symmetric = not isinstance(granularity, DualGrained)
        return quantize_weight(reals, format_, granularity, "mse", importance, symmetric=symmetric)

    p = Problem(find_moments=lambda: found, find_scales=scales, least_scale=np.zeros(6))
    states = [start(p, weight)]
    for name in ("gptq", "descent"):
        states.append(WEIGHT_METHODS[name](p, states[-1]))
    states.append(WEIGHT_METHODS["inq"](p, states[0]))
    before, *after = (s.tensor for s in states)
    errors = [drift(found, s.tensor.dequantize(), weight) for s in states]
    assert errors[1] < 1.1 * errors[0]
    assert errors[2] < errors[1] * (1 + 1e-9)
    assert errors[3] < 1.2 * errors[0]
    for tensor in after:
        tensor.check()
        assert max(map(abs, tensor.interval())) <= 127
        np.testing.assert_array_equal(tensor.groups.scale, before.groups.scale)
        np.testing.assert_array_equal(tensor.zero_point, before.zero_point)
    np.testing.assert_array_equal(after[0].scale, before.scale)


def grouped_moments(rng, weight, parts):
    """Of inputs that the prefix left as they are: the float results are the layer's own."""
    k = weight.shape[1]
    gram = np.stack([np.cov(correlated(rng, 400, k), rowvar=False, bias=True).reshape(k, k) for _ in range(parts)])
    return Moments(gram=gram, cross=weight.reshape(parts, -1, k) @ gram, rows=400)


def test_one_group_for_all_inputs_is_one_scale_per_channel(rng):
    weight = rng.standard_normal((6, 12)).astype(np.float32)
    found = grouped_moments(rng, weight, 2)
    plain = quantize_weight(weight, get_format("int4"), PerChannel(0), "mse")
    ones = Groups(size=5, scale=np.ones((6, 3), np.int32))
    grouped = replace(plain, zero_point=np.zeros((6, 3), np.int32), groups=ones)
    p = Problem(find_moments=lambda: found, find_scales=lambda *_: plain)
    for name in ("gptq", "descent", "inq"):
        a, b = (WEIGHT_METHODS[name](p, State(weight=weight, tensor=t)).tensor for t in (plain, grouped))
        np.testing.assert_array_equal(a.codes, b.codes)
        np.testing.assert_array_equal(a.scale, b.scale)


@pytest.mark.parametrize("k", [1, 63, 64, 65, 130])
def test_gptq_in_blocks_is_gptq_column_by_column(rng, k, monkeypatch):
    from subbyte.quantization.methods import gptq

    x = torch.from_numpy(correlated(rng, 600, k))
    weight = rng.standard_normal((5, k)).astype(np.float32)
    found = measure(Linear(), weight.shape, [x], [x @ torch.from_numpy(weight).T])
    p = problem(found, "int3")
    blocked = WEIGHT_METHODS["gptq"](p, start(p, weight)).tensor.codes
    monkeypatch.setattr(gptq, "BLOCK", 1)
    single = WEIGHT_METHODS["gptq"](p, start(p, weight)).tensor.codes
    assert np.mean(blocked != single) < 0.01  # sums in another order may tip a tie


@pytest.mark.parametrize("name", ["ternary", "binary", "int2", "levels5"])
@pytest.mark.parametrize("free", [True, False])
def test_descent_never_makes_it_worse_and_comes_nearer_the_best_codes(rng, name, free):
    """Every choice of codes of one small channel is tried; the error is the damped one that it goes down."""
    format_ = get_format(name)
    gains, near = [], 0
    for _ in range(12):
        x = torch.from_numpy(correlated(rng, 400, 5))
        weight = rng.standard_normal((1, 5)).astype(np.float32)
        found = measure(Linear(), weight.shape, [x], [x @ torch.from_numpy(weight).T])
        damped = replace(found, gram=found.gram + 0.01 * found.power * np.eye(5))
        p = replace(problem(found, name), least_scale=np.zeros(1) if free else None)
        fed = WEIGHT_METHODS["gptq"](p, start(p, weight))
        moved = WEIGHT_METHODS["descent"](p, fed)
        before, after = (drift(damped, s.tensor.dequantize(), weight) for s in (fed, moved))
        assert after <= before * (1 + 1e-6)
        gains.append(after / max(before, 1e-12))
        if not free:
            np.testing.assert_array_equal(moved.tensor.scale, fed.tensor.scale)
            scale = float(fed.tensor.scale[0])
            choices = itertools.product((format_.values - int(fed.tensor.zero_point[0])) * scale, repeat=5)
            near += after < 1.3 * min(drift(damped, np.array([c]), weight) for c in choices)
    assert not free or min(gains) < 0.9, "something moved"
    assert free or near >= 6


def test_descent_in_blocks_is_descent_column_by_column(rng, monkeypatch):
    from subbyte.quantization.methods import descent

    x = torch.from_numpy(correlated(rng, 900, 130))
    weight = rng.standard_normal((5, 130)).astype(np.float32)
    found = measure(Linear(), weight.shape, [x], [x @ torch.from_numpy(weight).T])
    p = replace(problem(found, "ternary"), least_scale=np.zeros(5))
    monkeypatch.setattr(descent, "SWEEPS", 1)  # a tie that tips leads elsewhere in later sweeps
    blocked = WEIGHT_METHODS["descent"](p, start(p, weight)).tensor
    monkeypatch.setattr(descent, "BLOCK", 1)
    single = WEIGHT_METHODS["descent"](p, start(p, weight)).tensor
    assert np.mean(blocked.codes != single.codes) < 0.01
    np.testing.assert_allclose(blocked.scale, single.scale, rtol=0.01)


def test_descent_keeps_scales_that_biases_need_and_formats_of_many_levels(rng):
    x = torch.from_numpy(correlated(rng, 400, 9))
    weight = rng.standard_normal((4, 9)).astype(np.float32)
    found = measure(Linear(), weight.shape, [x], [x @ torch.from_numpy(weight).T])
    p = problem(found, "ternary")
    begun = start(p, weight)
    free = WEIGHT_METHODS["descent"](replace(p, least_scale=np.zeros(4)), begun).tensor.scale
    least = 1.2 * free.astype(np.float64)
    held = WEIGHT_METHODS["descent"](replace(p, least_scale=least), replace(begun, tensor=replace(
        begun.tensor, scale=(1.1 * least).astype(np.float32)))).tensor.scale  # fmt: skip
    assert np.all(held >= least * (1 - 1e-6))
    p = replace(problem(found, "int4"), least_scale=np.zeros(4))
    begun = start(p, weight)
    assert WEIGHT_METHODS["descent"](p, begun) is begun


@pytest.mark.parametrize("name", ["pow2_e4", "pow2_e7_nozero", "fp130", "int4", "ternary", "nf4"])
def test_inq_beats_rounding(rng, name):
    wins = 0
    for _ in range(6):
        x = torch.from_numpy(correlated(rng, 800, 24))
        weight = rng.standard_normal((8, 24)).astype(np.float32)
        found = measure(Linear(), weight.shape, [x], [x @ torch.from_numpy(weight).T])
        p = problem(found, name)
        nearest = start(p, weight)
        made = WEIGHT_METHODS["inq"](p, nearest)
        made.tensor.check()
        np.testing.assert_array_equal(made.tensor.scale, nearest.tensor.scale)
        errors = [drift(found, s.tensor.dequantize(), weight) for s in (made, nearest)]
        wins += errors[0] < 0.8 * errors[1]
    assert wins >= 5


def test_inq_rounds_the_largest_half_first_and_fits_the_rest_exactly(rng, monkeypatch):
    """Of one row, with the first re-fit written out: its largest half has nearest codes, the rest solves H d = -H e."""
    from subbyte.quantization.methods import inq

    x = torch.from_numpy(correlated(rng, 500, 8))
    weight = rng.standard_normal((3, 8)).astype(np.float32)
    found = measure(Linear(), weight.shape, [x], [x @ torch.from_numpy(weight).T])
    p = problem(found, "pow2_e4")
    begun = start(p, weight)
    monkeypatch.setattr(inq, "SHARES", (0.5, 1.0))
    made = WEIGHT_METHODS["inq"](p, begun).tensor
    hessian = found.gram[0] + 0.01 * found.power[0] * np.eye(8)
    for row in range(3):
        largest = np.argsort(-np.abs(weight[row]))[:4]
        rest = np.setdiff1d(np.arange(8), largest)
        np.testing.assert_array_equal(made.codes[row, largest], begun.tensor.codes[row, largest])
        gap = (begun.tensor.dequantize()[row] - weight[row])[largest].astype(np.float64)
        change = -np.linalg.solve(hessian[np.ix_(rest, rest)], hessian[np.ix_(rest, largest)] @ gap)
        wanted = made.format.encode(weight[row, rest] + change, float(made.scale[row]))
        np.testing.assert_array_equal(made.codes[row, rest], wanted)


@pytest.mark.parametrize("k", [1, 2, 3, 7])
def test_inq_of_inputs_that_have_nothing_in_common_is_rounding(rng, k):
    """Nothing can be made up then; nor is a single weight left over."""
    found = Moments(gram=np.eye(k)[None] * 2, cross=np.zeros((1, 5, k)), rows=100)
    weight = rng.standard_normal((5, k)).astype(np.float32)
    p = problem(found, "pow2_e5")
    begun = start(p, weight)
    np.testing.assert_array_equal(WEIGHT_METHODS["inq"](p, begun).tensor.codes, begun.tensor.codes)


def test_inq_is_no_default_and_runs_by_name(rng):
    from subbyte.quantization.recipe import METHODS

    assert "inq" not in METHODS
    assert Recipe(name="r", rules=(Rule(weights="pow2_e4"),), methods=("refit", "inq")).methods == ("refit", "inq")


@pytest.mark.parametrize("name", ["gptq", "inq"])
def test_groups_are_independent_problems(rng, name):
    op = Conv(groups=3, layout="channels_last", padding=(1, 1, 1, 1))
    x = torch.from_numpy(rng.standard_normal((8, 6, 6, 6)).astype(np.float32)).cumsum(2)
    weight = rng.standard_normal((6, 3, 3, 2)).astype(np.float32)
    y = op.torch(x, torch.from_numpy(weight))
    p = problem(measure(op, weight.shape, [x], [y]), "int3")
    together = WEIGHT_METHODS[name](p, start(p, weight)).tensor.codes
    one = Conv(layout="channels_last", padding=(1, 1, 1, 1))
    for g in range(3):
        part = problem(measure(one, (2, 3, 3, 2), [x[..., 2 * g : 2 * g + 2]], [y[..., 2 * g : 2 * g + 2]]), "int3")
        alone = WEIGHT_METHODS[name](part, start(part, weight[2 * g : 2 * g + 2])).tensor.codes
        np.testing.assert_array_equal(together[2 * g : 2 * g + 2], alone)


def test_rescale_gives_scales_that_hurt_the_result_less(rng):
    x = torch.from_numpy(rng.standard_normal((2000, 8)).astype(np.float32) * np.logspace(-2, 2, 8).astype(np.float32))
    weight = rng.standard_normal((16, 8)).astype(np.float32)
    weight[:, 0] *= 8  # large where the input is weak
    found = measure(Linear(), weight.shape, [x], [x @ torch.from_numpy(weight).T])
    p = problem(found, "int3")
    before = start(p, weight)
    after = WEIGHT_METHODS["rescale"](p, before)
    errors = [drift(found, s.tensor.dequantize(), weight) for s in (before, after)]
    assert errors[1] < 0.5 * errors[0]


def test_slightly_indefinite_moments_are_damped_more(rng):
    """Sums in float32 leave negative eigenvalues where inputs depend on each other."""
    mixing = rng.standard_normal((12, 12))
    vectors = np.linalg.qr(mixing)[0]
    values = np.array([*np.linspace(0.5, 2, 11), -0.05])
    gram = (vectors * values) @ vectors.T
    found = Moments(gram=gram[None], cross=np.zeros((1, 3, 12)), rows=100)
    with pytest.raises(np.linalg.LinAlgError):
        np.linalg.cholesky(gram + 0.01 * np.trace(gram) / 12 * np.eye(12))
    p = problem(found, "int4")
    weight = rng.standard_normal((3, 12)).astype(np.float32)
    begun = start(p, weight)
    fed = WEIGHT_METHODS["gptq"](p, begun)
    assert np.abs(fed.tensor.dequantize() - weight).max() < 3 * begun.tensor.scale.max()


@pytest.mark.parametrize("name", ["gptq", "inq"])
def test_dead_inputs_keep_their_nearest_codes(rng, name):
    x = rng.standard_normal((300, 6)).astype(np.float32)
    x[:, [1, 4]] = 0
    weight = rng.standard_normal((4, 6)).astype(np.float32)
    found = measure(Linear(), weight.shape, [torch.from_numpy(x)], [torch.from_numpy(x @ weight.T)])
    p = problem(found, "int4")
    begun = start(p, weight)
    fed = WEIGHT_METHODS[name](p, begun)
    np.testing.assert_array_equal(fed.tensor.codes[:, [1, 4]], begun.tensor.codes[:, [1, 4]])
    silent = measure(Linear(), weight.shape, [torch.zeros(50, 6)], [torch.zeros(50, 4)])
    p = problem(silent, "int4")
    np.testing.assert_array_equal(WEIGHT_METHODS[name](p, start(p, weight)).tensor.codes, begun.tensor.codes)


def test_moments_that_are_no_moments_are_refused():
    bad = Moments(gram=np.array([[[1.0, 9.0], [9.0, 1.0]]]), cross=np.zeros((1, 1, 2)), rows=10)
    p = problem(bad, "int4")
    with pytest.raises(DataError, match="positive definite"):
        WEIGHT_METHODS["gptq"](p, start(p, np.ones((1, 2), np.float32)))


def test_unknown_methods_are_refused_by_name():
    with pytest.raises(RecipeError, match="gptp") as error:
        Recipe(name="r", rules=(Rule(),), methods=("gptp",))
    assert "gptq" in error.value.remedy
