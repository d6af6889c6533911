"""Samples from batch norms alone: their statistics, their walls, their seeds, and what is refused."""

from __future__ import annotations

import builtins
import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import subbyte as sb
from subbyte.allocation.evaluate import build, recipe_task
from subbyte.allocation.samples import split_samples
from subbyte.allocation.workbench import make_workbench
from subbyte.errors import DataError, GraphError
from subbyte.graph.passes import prepare
from subbyte.ingest.preprocess import Preprocess
from subbyte.quantization.recipe import load_recipe
from subbyte.zeroshot.domain import declared
from subbyte.zeroshot.noise import octaves
from subbyte.zeroshot.synthesize import mismatch
from subbyte.zeroshot.targets import find_targets
from tests.zeroshot.nets import images, images_module, images_net, waves, waves_net

BYTES = (0.0, 255.0)
WAVES = (-20.0, 20.0)
NETS = {"2d": (images_net, BYTES, images), "1d": (waves_net, WAVES, waves)}


@pytest.fixture(scope="module", params=NETS, ids=str)
def case(request):
    make, domain, real = NETS[request.param]
    return make(), domain, real(64, 2)


@pytest.mark.parametrize("method", ["kl", "l2"])
def test_statistics_come_close_to_those_that_batch_norms_keep(case, method):
    model, domain, real = case
    made = sb.synthesize(model, method=method, domain=domain, samples=48, steps=60)
    noise = sb.synthesize(model, method="uniform", domain=domain, samples=48)
    apart, apart_noise = (mismatch(model, d, method=method) for d in (made, noise))
    assert sum(apart.values()) < 0.05 * sum(apart_noise.values())
    assert sum(apart.values()) < 3 * sum(mismatch(model, {model.inputs[0]: real}, method=method).values())


def test_samples_stay_between_the_walls_and_have_the_models_shape(case):
    model, domain, real = case
    for method in ("kl", "uniform", "normal"):
        (x,) = sb.synthesize(model, method=method, domain=domain, samples=11, steps=5).values()
        assert x.dtype == np.float32
        assert x.shape == (11, *real.shape[1:])
        assert domain[0] <= x.min() < x.max() <= domain[1]


def test_a_seed_makes_the_same_samples_again(case):
    model, domain, _ = case
    name = model.inputs[0]
    first, again, other = (sb.synthesize(model, domain=domain, samples=8, steps=4, seed=s)[name] for s in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_batches_differ_and_all_are_matched():
    model = waves_net()
    x = sb.synthesize(model, domain=WAVES, samples=70, steps=60)[model.inputs[0]]
    assert len(np.unique(x.reshape(70, -1), axis=0)) == 70
    parts = [sum(mismatch(model, {model.inputs[0]: p}).values()) for p in np.split(x[:69], 3)]
    assert max(parts) < 0.3


def test_progress_counts_every_step():
    seen = []
    model = waves_net()
    sb.synthesize(model, domain=WAVES, samples=40, steps=3, progress=lambda *call: seen.append(call))
    assert seen == [("synthesize", done, 6) for done in range(1, 7)]


def test_no_file_is_opened(monkeypatch):
    model = images_net()
    sb.quantize(model, sb.synthesize(model, domain=BYTES, samples=8, steps=2), recipe="w4a8")  # modules are loaded now

    def refuse(*args, **kwargs):
        raise AssertionError(f"opened {args[0]!r}")

    for holder, name in ((builtins, "open"), (io, "open"), (np, "load")):
        monkeypatch.setattr(holder, name, refuse)
    with pytest.raises(AssertionError, match="opened"):
        np.load("anything")
    q = sb.quantize(model, sb.synthesize(model, domain=BYTES, samples=8, steps=2), recipe="w4a8")
    assert np.isfinite(q(images(4, 3))).all()


def test_the_integer_model_is_as_good_as_one_from_data():
    model, real = images_net(), images(256, 5)
    x = images(200, 6)
    exact = images_module()(torch.from_numpy(x)).detach().numpy()

    def error(data):
        return float(np.square(sb.quantize(model, data)(x) - exact).sum() / np.square(exact - exact.mean(0)).sum())

    made, narrow = (
        error(sb.synthesize(model, method=m, domain=d, samples=64)) for m, d in (("kl", BYTES), ("uniform", (120, 130)))
    )
    assert made < 2 * error(real)
    assert narrow > 20 * made


def test_outputs_have_room_that_samples_without_a_class_do_not_ask_for():
    model = images_net()
    made = sb.synthesize(model, domain=BYTES, samples=32, steps=20)
    as_data = dict(made)  # a plain dict is data like any other
    (output,) = model.outputs
    scales = [sb.quantize(model, d).graph.types[output].scale for d in (made, as_data)]
    assert scales[0] == pytest.approx(4 * scales[1], rel=0.05)
    w4 = [sb.quantize(model, d, recipe="w4a8").graph.types[output].scale for d in (made, as_data)]
    assert w4[0] > 3 * w4[1]


def test_a_search_gives_synthetic_samples_the_same_treatment():
    model = images_net()
    made = sb.synthesize(model, domain=BYTES, samples=32, steps=20)
    graph = declared(model, made)
    benches = [make_workbench(graph, split_samples(d, graph, limit=32, seed=0)) for d in (made, dict(made))]
    built = [build(b, recipe_task("w4a8", 0)).graph for b in benches]
    (output,) = model.outputs
    assert built[0].types[output].scale == pytest.approx(4 * built[1].types[output].scale, rel=0.05)
    assert benches[0].types[output, "int16"].scale == pytest.approx(4 * benches[1].types[output, "int16"].scale)
    (layer, *_) = benches[0].layers
    biases = [b.base[layer.name].bias for b in benches]
    assert not np.array_equal(*biases)


@pytest.mark.parametrize("recipe", ["w8a8", "w4a8"])
def test_biases_are_corrected_by_what_activations_let_through(recipe):
    model = images_net()
    made = sb.synthesize(model, domain=BYTES, samples=32, steps=20)
    stack = () if recipe == "w8a8" else ("refit", "rescale", "gptq")
    x = images(16, 6)
    default, visible, plain = (
        sb.quantize(model, made, recipe=r)(x)
        for r in (recipe, *(replace(load_recipe(recipe), methods=(*stack, m)) for m in CORRECTED))
    )
    assert np.array_equal(default, visible)
    assert not np.array_equal(default, plain)


CORRECTED = ("visible_bias_correction", "bias_correction")


def test_preprocessing_gives_the_domain_and_samples_come_before_it():
    torch.manual_seed(0)
    net = images_module()
    scaled = nn.Sequential(Bytes(), net).eval()  # reads what the preprocessing makes
    model = sb.trace(scaled, (torch.zeros(2, 3, 12, 12),))
    process = Preprocess(layout="nhwc->nchw", scale=1 / 255, mean=(0.5, 0.4, 0.6), std=(0.2, 0.3, 0.25))
    made = sb.synthesize(model, preprocess=process, samples=32, steps=60)
    (x,) = made.values()
    assert x.shape == (32, 12, 12, 3)
    assert 0 <= x.min() < 60
    assert 200 < x.max() <= 255
    plain = sb.synthesize(images_net(), domain=BYTES, samples=32, steps=60)
    close = sum(mismatch(model, made, preprocess=process).values())
    assert close < 2 * sum(mismatch(images_net(), plain).values())
    assert sb.quantize(model, made, preprocess=process).metadata["preprocess"] == process.to_dict()


class Bytes(nn.Module):
    """Undoes the preprocessing of the test above."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        std, mean = torch.tensor([0.2, 0.3, 0.25]), torch.tensor([0.5, 0.4, 0.6])
        return (x * std[:, None, None] + mean[:, None, None]) * 255


def test_dead_and_constant_channels_are_left_out():
    model = images_net()
    _, targets = find_targets(model)
    assert [t.channels.tolist() for t in targets] == [[0, 1, 3, 4, 5, 6, 7], list(range(8))]
    assert all(np.isfinite(v) for v in mismatch(model, {model.inputs[0]: images(8, 0)}).values())


def test_the_classifier_is_not_run():
    graph, targets = find_targets(images_net())
    assert graph.outputs == tuple(t.value for t in targets)
    assert all(n.op.name != "linear" for n in graph)


def test_onnx_files_with_batch_norms_work(tmp_path):
    path = tmp_path / "net.onnx"
    export(images_module(), path, folded=False)
    model = sb.load_model(path)
    made = sb.synthesize(model, domain=BYTES, samples=32, steps=40)
    noise = sb.synthesize(model, method="uniform", domain=BYTES, samples=32)
    assert sum(mismatch(model, made).values()) < 0.1 * sum(mismatch(model, noise).values())


def export(net, path, *, folded):
    """Nodes by hand: what exporters do with batch norms changes from version to version."""
    import onnx
    from onnx import helper, numpy_helper

    values = {k: v.detach().numpy() for k, v in net.state_dict().items() if v.ndim}
    nodes, source = [helper.make_node("Mul", ["x", "c"], ["s"], "scale")], "s"
    for i in (1, 2):
        kept = [f"bn{i}.{n}" for n in ("weight", "bias", "running_mean", "running_var")]
        places = {"pads": [1, 1, 1, 1]} if i == 1 else {"strides": [2, 2]}
        bias = [f"bn{i}.bias"] if folded else []
        nodes.append(helper.make_node("Conv", [source, f"conv{i}.weight", *bias], [f"a{i}"], f"conv{i}", **places))
        if not folded:
            nodes.append(helper.make_node("BatchNormalization", [f"a{i}", *kept], [f"b{i}"], f"bn{i}"))
        nodes.append(helper.make_node("Relu", [f"a{i}" if folded else f"b{i}"], [f"r{i}"], f"relu{i}"))
        source = f"r{i}"
    nodes += [
        helper.make_node("GlobalAveragePool", ["r2"], ["p"], "pool"),
        helper.make_node("Flatten", ["p"], ["f"], "flatten"),
        helper.make_node("Gemm", ["f", "last.weight", "last.bias"], ["y"], "last", transB=1),
    ]
    read = {name for n in nodes for name in n.input}
    arrays = {**values, "c": np.float32(1 / 64)}
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, ["N", 3, 12, 12])],
        [helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, ["N", 4])],
        [numpy_helper.from_array(np.asarray(a), k) for k, a in arrays.items() if k in read],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(made.SerializeToString())


def test_a_folded_network_is_told_so(tmp_path):
    path = tmp_path / "folded.onnx"
    export(images_module(), path, folded=True)
    for model in (sb.load_model(path), prepare(images_net())):
        with pytest.raises(GraphError, match="holds no batch norm") as caught:
            sb.synthesize(model, domain=BYTES)
        assert "folds batch norms" in caught.value.seen
        assert "TrainingMode.PRESERVE" in caught.value.remedy
        assert all([caught.value.rule, caught.value.place])
    (x,) = sb.synthesize(sb.load_model(path), method="normal", domain=BYTES, samples=3).values()  # noise needs none
    assert x.shape == (3, 3, 12, 12)


def _with_variance(model: sb.Graph, value: float) -> sb.Graph:
    names = {n.inputs[4] for n in model if n.op.name == "batch_norm"}
    changed = {k: np.full_like(v, value) if k in names else v for k, v in model.constants.items()}
    return replace(model, constants=changed)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"domain": None}, "nothing says which numbers"),
        ({"domain": None, "preprocess": Preprocess(scale=0.5)}, "nothing says which numbers"),
        ({"domain": (1.0, 1.0)}, "the domain of"),
        ({"domain": (0.0, float("inf"))}, "the domain of"),
        ({"domain": (0.0, 1.0, 2.0)}, "the domain of"),
        ({"domain": {"y": (0, 1)}}, "a domain is given for 'y'"),
        ({"method": "k1"}, "method of synthetic data 'k1' is unknown"),
        ({"samples": 0}, "0 samples"),
        ({"steps": 0}, "0 steps"),
        ({"seed": -1}, "seed -1"),
        ({"domain": (0.0, 3e38)}, "not finite"),
    ],
    ids=lambda c: str(c)[:40],
)
def test_bad_arguments_are_refused_in_four_parts(change, complaint):
    with pytest.raises(DataError) as caught:
        sb.synthesize(images_net(), **{"domain": BYTES, "samples": 2, "steps": 1, **change})
    error = caught.value
    assert complaint in error.seen
    assert all([error.rule, error.remedy, error.place])


@pytest.mark.parametrize(("value", "complaint"), [(0.0, "variance of 0"), (-1.0, "below 0"), (np.nan, "NaN")])
def test_statistics_that_say_nothing_are_refused(value, complaint):
    with pytest.raises(GraphError, match=complaint) as caught:
        sb.synthesize(_with_variance(images_net(), value), domain=BYTES)
    assert all([caught.value.rule, caught.value.remedy, caught.value.place])


def test_noise_to_start_from_has_power_on_every_scale():
    x = octaves(np.random.default_rng(0), (200, 16, 16))
    assert x.std() == pytest.approx(1, abs=0.05)
    means = [x.reshape(200, 16 // s, s, 16 // s, s).mean((2, 4)).std() for s in (2, 4, 8)]
    white = [1 / s for s in (2, 4, 8)]
    assert all(m > 1.5 * w for m, w in zip(means, white, strict=True))
    assert x.mean((1, 2)).std() > 4 / 16
