"""Pretrained networks: NumPy reference, torch and native engine agree on every value, in every arithmetic."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import subbyte as sb
from benchmarks.nets import NETS
from subbyte.graph.torch_executor import run_integer
from tests.limits import SCALE, examples

RECIPES = ("w8a8", "w4a8", "w4a4", "x31_w17", "x23_w23", "wternary_a8", "w8a16", "w4a16", "w2a16", "wfp8_e4m3fn_a8")
RECIPES += ("w8_afp8_e4m3fn", "wfp8_e4m3fn_afp8_e4m3fn", "w4_afp6_e3m2")
ARITHMETICS = ("m31", "m15", "shift")
INPUTS = 64
CHUNK = 8


def combinations(number: int) -> list[tuple[str, str]]:
    """All recipes in all arithmetics in a full run; otherwise three that differ from network to network."""
    every = list(itertools.product(RECIPES, ARITHMETICS))
    return every if SCALE >= 1 else [every[(7 * k + 5 * number) % len(every)] for k in range(3)]


@pytest.mark.parametrize("name", list(NETS))
def test_three_executors_agree_on_every_value(name, shared_data):
    net = NETS[name]
    assert net.path.is_relative_to(shared_data)
    model = sb.load_model(net.path)
    fold = net.folds()[0]
    x = fold.x[np.random.default_rng(2).permutation(len(fold.x))[: examples(INPUTS)]]
    for recipe, arithmetic in combinations(list(NETS).index(name)):
        q = sb.quantize(model, fold.calibration, recipe=recipe, arithmetic=arithmetic, samples=32)
        for start in range(0, len(x), CHUNK):
            _agree(q, x[start : start + CHUNK], f"{name} {recipe} {arithmetic}")


def _agree(q: sb.QuantizedModel, x: np.ndarray, place: str) -> None:
    codes = q.encode(x)
    expected = q.reference(codes, keep=True)
    torch = run_integer(q.graph, codes)
    native = q.engine.run_all(codes)
    for node in q.graph:
        value = node.output
        np.testing.assert_array_equal(torch[value].numpy(), expected[value], err_msg=f"{place} {node.name} torch")
        np.testing.assert_array_equal(native[value], expected[value], err_msg=f"{place} {node.name} native")


@pytest.mark.parametrize("name", list(NETS))
def test_a_saved_model_is_the_same_model(name, shared_data, tmp_path):
    net = NETS[name]
    assert net.path.is_relative_to(shared_data)
    fold = net.folds()[0]
    q = sb.quantize(sb.load_model(net.path), fold.calibration, recipe="w4a8", samples=16)
    size = q.save(tmp_path / "net.subbyte")
    assert size == (tmp_path / "net.subbyte").stat().st_size == q.nbytes
    loaded = sb.load(tmp_path / "net.subbyte")
    assert loaded.metadata == q.metadata
    np.testing.assert_array_equal(loaded(fold.x[:4]), q(fold.x[:4]))
    assert loaded.save(tmp_path / "again.subbyte") == size
    assert (tmp_path / "again.subbyte").read_bytes() == (tmp_path / "net.subbyte").read_bytes()
