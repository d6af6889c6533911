"""End-to-end distillation: nearer to the float network on samples that were not learned from, and reproducible."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

import subbyte as sb
from subbyte.distill.distillation import distill, held_out_loss
from subbyte.distill.samples import Samples
from subbyte.distill.stack import LEARNED
from subbyte.distill.student import Student
from subbyte.errors import DataError, RecipeError
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.learning import Learning
from subbyte.quantization.methods import LEARNED_METHODS
from subbyte.quantization.recipe import METHODS, load_recipe
from tests.distill.nets import quantized, residual, samples, silent

SHORT = Learning(steps=40, batch_size=16, rate=0.01, features=0.0)


def loss(scheme, layers, x, settings=SHORT):
    split = Samples(learned={}, held_out={"x": torch.from_numpy(x)})
    return held_out_loss(Student(scheme, layers), FloatExecutor(scheme.graph), split, settings)


@pytest.mark.parametrize("recipe", ["w2a8", "w1a4"])
def test_unseen_samples_are_answered_more_like_the_float_network(recipe):
    scheme, layers, _ = quantized(recipe, methods=())
    feeds = {"x": samples(256, seed=2)}
    after = distill(scheme, layers, feeds, SHORT, 0, silent)
    unseen = samples(128, seed=9)
    assert loss(*after, unseen) < 0.8 * loss(scheme, layers, unseen)


def test_held_out_samples_never_get_worse_and_a_ruinous_rate_changes_nothing():
    scheme, layers, feeds = quantized("w4a8")
    ruinous = replace(SHORT, steps=5, rate=1.0)
    found, learned = distill(scheme, layers, feeds, ruinous, 0, silent)
    for name, layer in layers.items():
        np.testing.assert_array_equal(learned[name].weight.codes, layer.weight.codes)
    assert found.types == scheme.types


def test_a_seed_decides_everything():
    scheme, layers, feeds = quantized("w1a4", methods=())
    runs = [distill(scheme, layers, feeds, replace(SHORT, steps=20), seed, silent) for seed in (0, 0, 1)]
    codes = [np.concatenate([v.weight.codes.ravel() for v in layers.values()]) for _, layers in runs]
    np.testing.assert_array_equal(codes[0], codes[1])
    assert np.any(codes[0] != codes[2])
    assert runs[0][0].types == runs[1][0].types


def test_few_samples_and_infinite_losses_are_refused():
    scheme, layers, feeds = quantized("w4a4")
    with pytest.raises(DataError, match="at least 16"):
        distill(scheme, layers, {"x": feeds["x"][:15]}, SHORT, 0, silent)
    broken = {"x": np.where(np.arange(64).reshape(-1, 1, 1, 1) < 60, feeds["x"], np.float32(0)).copy()}
    broken["x"][:48] = np.float32(3e38)
    with pytest.raises(DataError, match=r"loss is (nan|inf)"):
        distill(scheme, layers, broken, SHORT, 0, silent)


def test_a_recipe_names_the_learned_methods():
    assert tuple(LEARNED) == LEARNED_METHODS
    learning = replace(SHORT, steps=4, layer_steps=4)
    recipe = replace(load_recipe("w2a4"), methods=(*METHODS, *LEARNED_METHODS), learning=learning)
    stages = set()
    q = sb.quantize(residual(), samples(40), recipe=recipe, progress=lambda stage, done, total: stages.add(stage))
    assert {"adaround", "block reconstruction", "distill", "correct biases"} <= stages
    assert np.all(np.isfinite(q(samples(4))))
    again = sb.quantize(residual(), samples(40), recipe=recipe)
    np.testing.assert_array_equal(q(samples(4)), again(samples(4)))


def test_learned_methods_come_last_and_settings_mean_something():
    with pytest.raises(RecipeError, match="behind all other methods"):
        replace(load_recipe("w4a4"), methods=("distill", "gptq"))
    with pytest.raises(RecipeError, match="did you mean distill"):
        replace(load_recipe("w4a4"), methods=("destill",))
    for bad in ({"rate": float("nan")}, {"batch_size": 0}, {"steps": 1.5}, {"optimizer": "adamw"}, {"held_out": 0.9}):
        with pytest.raises(RecipeError, match=next(iter(bad))):
            Learning(**bad)


def test_settings_in_a_file(tmp_path):
    path = tmp_path / "r.toml"
    path.write_text('base = "w4a4"\nmethods = ["bias_correction", "distill"]\n[learning]\nsteps = 7\nrate = 0.25\n')
    assert load_recipe(path).learning == Learning(steps=7, rate=0.25)
    path.write_text("[learning]\nstep = 7\n")
    with pytest.raises(RecipeError, match="'step' is unknown"):
        load_recipe(path)
    path.write_text("[learning]\nbatch_size = -7\n")
    with pytest.raises(RecipeError, match="learning"):
        load_recipe(path)
