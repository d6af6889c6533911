"""Awkward numbers at every door of the formats: what each means, or the error that says why it means nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import subbyte as sb
from subbyte.errors import DataError, FormatError
from subbyte.formats import (
    Format,
    PerChannel,
    PerTensor,
    codebook,
    dynamic_map,
    fit_codebook,
    formats,
    get_format,
    quantize_blocks,
    quantize_weight,
    register_format,
    requantize_with_scale,
    small_float,
    unregister_format,
)
from subbyte.formats.refusals import refused
from subbyte.graph.ops.linear import Linear
from tests.e2e.executors import check_agreement
from tests.quantization.nets import Net

WEIGHTS = [f for f in formats() if not refused(f, "weight")]
TINY = float(np.finfo(np.float32).smallest_subnormal)

DOORS: dict[str, Callable[[np.ndarray], Any]] = {
    "encode": lambda x: get_format("int4").encode(x),
    "encode a table": lambda x: get_format("nf4").encode(x),
    "quantize_weight min_max": lambda x: quantize_weight(x, get_format("int4")),
    "quantize_weight mse": lambda x: quantize_weight(x, get_format("nf4"), PerTensor(), "mse"),
    "affine": lambda x: quantize_weight(x, get_format("uint4"), symmetric=False),
    "requantize_with_scale": lambda x: requantize_with_scale(x, get_format("int4"), np.float32(0.1)),
    "quantize_blocks": lambda x: quantize_blocks(x, dynamic_map(8)),
    "fit_codebook": lambda x: fit_codebook(x, 2, "own"),
    "codebook": lambda x: codebook("own", x),
    "small_float": lambda x: small_float("fp4_e2m1").encode(x),
    "importance": lambda x: quantize_weight(np.ones_like(x), get_format("int4"), method="mse", importance=np.abs(x)),
}
"""Every function here that takes real numbers."""


@pytest.mark.parametrize("door", DOORS)
def test_nan_has_no_code(door) -> None:
    for dtype in (np.float16, np.float32, np.float64):
        with pytest.raises((DataError, FormatError)) as caught:
            DOORS[door](np.array([0.5, np.nan, 1.0], dtype))
        assert all((caught.value.seen, caught.value.rule, caught.value.remedy))


@pytest.mark.parametrize("door", [d for d in DOORS if d != "small_float"])
def test_infinity_has_no_code_but_in_small_floats(door) -> None:
    for bad in (np.inf, -np.inf):
        with pytest.raises((DataError, FormatError)) as caught:
            DOORS[door](np.array([0.5, bad], np.float32))
        assert all((caught.value.seen, caught.value.rule, caught.value.remedy))
    assert small_float("fp4_e2m1").decode(small_float("fp4_e2m1").encode([np.inf, -np.inf])).tolist() == [6, -6]


@pytest.mark.parametrize("f", WEIGHTS, ids=lambda f: f.name)
def test_awkward_weights_of_every_format(f: Format) -> None:
    """Minus zero is zero; zeros, one number alone, subnormal numbers and the largest float: all have codes."""
    zero = quantize_weight(np.zeros((2, 3), np.float32), f)
    assert np.all(zero.codes == f.zero_code)
    assert zero.scale.tolist() == [1.0, 1.0]
    assert f.has_zero is bool(np.all(zero.dequantize() == 0))
    np.testing.assert_array_equal(quantize_weight(np.full((2, 3), -0.0, np.float32), f).codes, zero.codes)
    mixed = quantize_weight(np.array([[0.0, 1.0, -1.0]], np.float32), f)
    signed = quantize_weight(np.array([[-0.0, 1.0, -1.0]], np.float32), f)
    np.testing.assert_array_equal(mixed.codes, signed.codes)
    for number in (0.37, -0.37, TINY, -TINY, float(np.finfo(np.float32).max)):
        for shape, spread in (((1,), PerTensor()), ((1, 1), PerChannel(0)), ((1, 1, 1, 1), PerChannel(0))):
            alone = quantize_weight(np.full(shape, number, np.float32), f, spread, "mse")
            alone.check()
            assert np.array_equal(f.unpack(alone.pack(), 1), alone.codes.reshape(-1))
            if abs(number) > 1e-30 and f.symmetric and abs(number) < 1e30:
                assert abs(alone.dequantize().item() - number) <= 1e-6 * abs(number)
    small = np.array([[TINY * 100, -TINY * 100, TINY], [0.5, -0.5, 0.25]], np.float32)
    both = quantize_weight(small, f)  # a channel of denormals is one of zeros: no float32 scale would tell them apart
    assert np.all(np.isfinite(both.dequantize()))
    if f.has_zero:
        assert np.all(both.codes[0] == f.zero_code)


def test_awkward_blocks() -> None:
    for table in (dynamic_map(8), dynamic_map(5, signed=False)):
        zero = int(np.flatnonzero(table == 0)[0])
        assert set(quantize_blocks(np.zeros(600, np.float32), table).codes.tolist()) == {zero}
        assert quantize_blocks(np.full(3, -0.0, np.float32), table).codes.tolist() == [zero] * 3
        alone = quantize_blocks(np.float32(TINY), table)
        assert alone.dequantize() == np.float32(TINY)
        most = quantize_blocks(np.full(2, np.finfo(np.float32).max, np.float32), table)
        np.testing.assert_array_equal(most.dequantize(), np.finfo(np.float32).max)


@pytest.mark.parametrize("name", ["fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3fn", "fp8_e5m2"])
def test_small_floats_keep_the_sign_of_zero_and_flush_what_is_too_small(name) -> None:
    codec = small_float(name)
    patterns = codec.encode(np.array([0.0, -0.0, TINY, -TINY], np.float32))
    sign = 1 << (codec.bits - 1)
    assert patterns.tolist() == [0, sign, 0, sign]
    assert codec.decode(codec.encode(np.float32(codec.unit))) == codec.unit


def test_codebooks_that_are_none() -> None:
    for entries, word in (
        ([1.0, 1.0], "duplicates"),
        ([1.0, 0.0], "sort"),
        ([-0.0, 0.0], "duplicates"),
        ([0.5], "256"),
        ([], "256"),
        (np.linspace(0, 1, 257), "256"),
        ([0.0, 1e-9, 1.0], "merge"),
        ([[0.0, 1.0]], "one number"),
        (["a", "b"], "one number"),
    ):
        with pytest.raises(FormatError) as caught:
            codebook("own", entries)
        assert word in caught.value.remedy + caught.value.rule
    with pytest.raises(FormatError, match="distinct"):
        fit_codebook(np.full((3, 4), 0.5, np.float32), 2, "own")
    with pytest.raises(FormatError, match="ascending"):
        Format(name="own", table=(0, 0, 1))


@pytest.mark.parametrize("table", [(-200, 0, 200), (-129, 0, 5), (-128, 0, 128), (-40_000, 0, 2**40)])
def test_tables_outside_int8_run_alike_everywhere_or_name_their_layer(table) -> None:
    """Where kernels multiply bytes: the list of refusals decides, and what it lets pass agrees in every executor."""
    own = register_format(Format(name="wide_table", table=table))
    try:
        line = refused(own, "weight")
        net = Net(3)
        net.add("fc", Linear(), "x", net.weight(2, 3))
        x = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
        recipe = "wwide_table_a8_first_last_same"
        if line is None:
            q = sb.quantize(net.graph("fc"), x, recipe=recipe)
            check_agreement(q.graph, q.encode(x))
            return
        with pytest.raises(FormatError) as caught:
            quantize_weight(np.array([[-1.0, 0.25, 1.0]], np.float32), own)
        assert (caught.value.rule, caught.value.remedy) == (line.reason, line.remedy)
        with pytest.raises(FormatError) as caught:
            sb.quantize(net.graph("fc"), x, recipe=recipe)
        assert "'fc'" in caught.value.place
    finally:
        unregister_format("wide_table")
