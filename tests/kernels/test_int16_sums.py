"""Sums in 16 bits: as long as the weights prove them exact, and no step longer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte import _native
from subbyte.formats.format import Format
from subbyte.formats.levels import pairs
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ir import Constant
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.linear import IntLinear
from tests.kernels import parity
from tests.limits import examples

SUMMING = [isa for isa in parity.ISAS if isa in {"avx2", "avx512bw"}]

LAYERS = {
    **{p.recipe: (-(p.weights // 2), p.weights // 2, p.activations - 1) for p in pairs()},
    "w4a8": (-8, 7, 255),
    "w2a8": (-2, 1, 255),
    "ternary_a8": (-1, 1, 255),
    "w8a7": (-128, 127, 127),
    "w8a8": (-128, 127, 255),
    "w7a8": (-64, 63, 255),
    "binary": (-1, 1, 1),
}
"""Smallest and largest weight, largest stored activation."""


def depth_rule(low: int, high: int, top: int) -> int:
    """D: steps of equal extreme weights whose pairs of products one int16 holds."""
    return min(32768 // (2 * -low * top), 32767 // (2 * high * top))


def int16_sum(weights: parity.Array, activations: parity.Array, steps: int) -> int:
    """The sum as a kernel that flushes every so many steps makes it: pairs saturate, int16 sums wrap."""
    products = (weights.astype(np.int64) * activations).reshape(-1, 2)
    lanes = np.clip(products.sum(axis=1), -32768, 32767).reshape(-1, 2)
    total = 0
    for first in range(0, len(lanes), steps):
        total += int(lanes[first : first + steps].sum(axis=0).astype(np.int16).sum())
    return total


@pytest.mark.parametrize("isa", SUMMING)
@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("side", ["lowest", "highest"])
def test_windows_of_extremes_are_as_long_as_int16_allows(isa: str, layer: str, side: str) -> None:
    low, high, top = LAYERS[layer]
    weight = low if side == "lowest" else high
    depth = 32768 // (2 * -low * top) if side == "lowest" else 32767 // (2 * high * top)
    steps = 3 * depth + 1 if depth else 5
    weights = np.full((3, 4 * steps), weight, dtype=np.int8)
    windows = _native.windows(weights, top, isa)
    assert windows == ([depth, depth, depth, 1] if depth else [])
    if depth:
        row, x = weights[0], np.full(4 * steps, top)
        exact = int(row.astype(np.int64) @ x)
        assert int16_sum(row, x, depth) == exact
        assert int16_sum(row, x, depth + 1) != exact


@given(data=st.data())
@settings(max_examples=examples(300))
def test_windows_hold_every_sum_and_could_not_be_longer(data: st.DataObject) -> None:
    columns, k = data.draw(st.integers(1, 8)), data.draw(st.integers(1, 300))
    reach = data.draw(st.sampled_from([1, 2, 8, 16, 40, 64, 100, 127]))
    top = data.draw(st.integers(1, 255))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weights = rng.integers(-reach, reach + 1, (columns, k)).astype(np.int8)
    padded = np.zeros((columns, (k + 3) // 4 * 4), dtype=np.int64)
    padded[:, :k] = weights
    lanes = padded.reshape(columns, -1, 2, 2)  # column, step, pair, product

    def fits(first: int, last: int) -> bool:
        part = lanes[:, first:last]
        above = np.maximum(part, 0).sum(axis=(1, 3)).max() * top
        below = np.minimum(part, 0).sum(axis=(1, 3)).min() * top
        return bool(above <= 32767 and below >= -32768)

    steps = lanes.shape[1]
    for isa in SUMMING:
        windows = _native.windows(weights, top, isa)
        assert (windows == []) == any(not fits(s, s + 1) for s in range(steps))
        if not windows:
            continue
        assert sum(windows) == steps
        ends = np.cumsum(windows)
        for first, last in zip([0, *ends[:-1]], ends, strict=True):
            assert fits(first, last)
            assert last == steps or not fits(first, last + 1)


def linear(weights: parity.Array, low: int, high: int, top: int, x: parity.Array) -> parity.Case:
    """A linear layer whose results show a sum that wrapped: 2**16 is many steps of them."""
    columns, depth = weights.shape
    weight = QTensor(
        codes=(weights.astype(np.int64) - low).astype(np.uint8),
        format=parity.uniform(low, high),
        scale=np.ones(columns, dtype=np.float32),
        zero_point=np.zeros(columns, dtype=np.int32),
    )
    source = parity.kind((depth,), Format(name=f"top{top}", table=range(top + 1)), 0)
    result = parity.kind((columns,), parity.INT16, 0)
    largest = max(-low, high) * top * depth
    shift = max(1, int(np.ceil(np.log2(largest / 30000 + 1))))
    ones = np.ones(columns, dtype=np.int32)
    constants: list[Constant] = [weight, 0 * ones, ones << 14, (14 + shift) * ones]
    graph = parity.one_op(IntLinear(lo=result.lo, hi=result.hi), [source], result, constants)
    return parity.Case(graph, {"x0": x.astype(np.uint8)})


@pytest.mark.parametrize("layer", LAYERS)
@pytest.mark.parametrize("extra", [-1, 0, 1])
def test_extremes_around_the_end_of_a_window(layer: str, extra: int) -> None:
    low, high, top = LAYERS[layer]
    depth = min(max(1, depth_rule(low, high, top)), 3000)
    for windows in (1, 2):
        k = max(1, 4 * depth * windows + 3 * extra)
        signs = np.array([low, high, low, high, low])[:, None]
        weights = np.broadcast_to(signs, (5, k)).copy()
        weights[2, ::2] = high  # neighbours of both signs
        weights[3, : k // 2] = low
        x = np.zeros((7, k), dtype=np.int64)
        x[0] = top
        x[1, ::2] = top
        x[2, : k // 2] = top
        x[3:] = np.random.default_rng(k).choice([0, top], (4, k))
        parity.agree(linear(weights, low, high, top, x))


@given(data=st.data())
@settings(max_examples=examples(150))
def test_layers_of_panels_that_add_up_differently(data: st.DataObject) -> None:
    """Columns of large weights beside columns of small ones; windows end inside taps and behind them."""
    layer = data.draw(st.sampled_from(sorted(LAYERS)))
    low, high, top = LAYERS[layer]
    channels, outputs = data.draw(st.integers(1, 40)), data.draw(st.integers(1, 70))
    kernel, size = data.draw(st.integers(1, 4)), data.draw(st.integers(4, 9))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    weights = rng.integers(low, high + 1, (outputs, kernel, kernel, channels))
    calm = rng.integers(0, outputs, data.draw(st.integers(0, outputs)))
    weights[calm] = np.clip(weights[calm], -1, 1)
    for column in rng.integers(0, outputs, 3):
        weights[column] = data.draw(st.sampled_from([low, high]))
    weight = QTensor(
        codes=(weights - low).astype(np.uint8),
        format=parity.uniform(low, high),
        scale=np.ones(outputs, dtype=np.float32),
        zero_point=np.zeros(outputs, dtype=np.int32),
        axis=0,
    )
    zero = data.draw(st.sampled_from([0, top // 2, top]))
    x = parity.kind((size, size, channels), Format(name=f"top{top}", table=range(top + 1)), zero)
    side = size + 1 - kernel + 1
    y = parity.kind((side, side, outputs), data.draw(st.sampled_from([parity.UINT8, parity.INT16])), 3)
    ratio = 1.0 / max(1.0, -low * top * (kernel * kernel * channels) ** 0.5 / 100)
    rng_bias = rng.integers(-300, 300, outputs).astype(np.int32)
    constants: list[Constant] = [weight, rng_bias, *parity.multipliers(data.draw, outputs, ratio)]
    op = IntConv(stride=(1, 1), dilation=(1, 1), padding=(1, 0, 0, 1), groups=1, lo=y.lo, hi=y.hi)
    parity.agree(parity.feed(data.draw, parity.one_op(op, [x], y, constants)))


@pytest.mark.parametrize("bits", [1, 2, 7, 15])
@pytest.mark.parametrize("beyond", [0, 1])
@pytest.mark.parametrize("negative", [None, 20, 33, 47, 48, 61, 62])
def test_small_shifts_of_sums_with_and_without_room(bits: int, beyond: int, negative: int | None) -> None:
    """Shifts below 33 are raised by shifting the sums, which here fill int32 to the last number, or leave it.

    The shift of negative sums is raised with them, but to 62 at most.
    """
    room = 2 ** (31 - bits) - 1 + beyond - 2 * 128 * 255
    weight = QTensor(
        codes=np.array([[0, 0], [0, 0], [255, 255]], dtype=np.uint8),
        format=parity.uniform(-128, 127),
        scale=np.ones(3, dtype=np.float32),
        zero_point=np.zeros(3, dtype=np.int32),
    )
    x = parity.kind((2,), parity.UINT8, 0)
    three = np.ones(3, dtype=np.int32)
    bias = np.array([-room, room, room], dtype=np.int32)
    for y in (parity.kind((3,), parity.UINT8, 128), parity.kind((3,), parity.INT16, 0)):
        for m in (2**31 - 1, 2**30, 1, 5, -(2**31)):
            rescale = [three * np.int32(m), np.array([33 - bits, 33 - bits, 33], dtype=np.int32)]
            slope = [] if negative is None else [three * np.int32(m), three * np.int32(negative)]
            constants: list[Constant] = [weight, bias, *rescale, *slope]
            graph = parity.one_op(IntLinear(lo=y.lo, hi=y.hi), [x], y, constants)
            parity.agree(parity.Case(graph, {"x0": np.array([[255, 255], [0, 0], [1, 0]], dtype=np.uint8)}))
