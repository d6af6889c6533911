"""Weights kept packed: every number of bits, every width of panel and tail, few pixels and many, on every kernel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import RunError
from subbyte.formats.format import Format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.conv import IntConv
from subbyte.graph.ops.linear import IntLinear
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference
from tests.kernels import parity
from tests.limits import examples

TABLES = {
    "signs": (-1, 1),
    "ternary": (-1, 0, 1),
    "midrise4": (-3, -1, 1, 3),
    "six": (-2, -1, 0, 1, 2, 4),
    "pow2": (-8, -4, -2, -1, 1, 2, 4, 8),
    "int4": tuple(range(-8, 8)),
    "codebook": (-128, -100, -75, -50, -30, -17, -8, -2, 1, 5, 11, 22, 44, 77, 101, 127),
    "seventeen": tuple(range(-8, 9)),
    "int5": tuple(range(-16, 16)),
    "even32": tuple(range(-128, 128, 8)),
    "codebook32": tuple(sorted({(i * i * (1 if i > 0 else -1)) // 2 for i in range(-15, 16)} | {127})),
    "int8": tuple(range(-128, 128)),
}
BITS = {"signs": 1, "ternary": 2, "midrise4": 2, "six": 3, "pow2": 3, "int4": 4, "codebook": 4}
BITS |= {"seventeen": 5, "int5": 5, "even32": 5, "codebook32": 5, "int8": 8}
LARGE = {"codebook", "even32", "codebook32", "int8"}
HALVING = {"avx2", "avx512bw"}
"""Instruction sets that keep unpacked weights as two halves where two products exceed int16."""


def layer(name: str, columns: int, depth: int, pixels: int, seed: int = 0, *, extreme: bool = False) -> parity.Case:
    """A linear layer with every level of a table among its weights where they fit."""
    table, rng = TABLES[name], np.random.default_rng(seed)
    codes = rng.permutation(np.arange(columns * depth) % len(table)).reshape(columns, depth).astype(np.uint8)
    if extreme:
        codes[:] = len(table) - 1 if seed % 2 else 0
    ones = np.ones(columns, dtype=np.int32)
    weight = QTensor(
        codes=codes, format=Format(name=name, table=table), scale=ones.astype(np.float32), zero_point=0 * ones
    )
    x = parity.kind((pixels, depth), parity.UINT8, 0 if extreme else 77)
    y = parity.kind((pixels, columns), parity.INT16)
    constants = [weight, rng.integers(-999, 999, columns).astype(np.int32), (ones << 30), 38 * ones]
    graph = parity.one_op(IntLinear(lo=y.lo, hi=y.hi), [x], y, constants)
    feed = np.full((2, pixels, depth), 255) if extreme else rng.integers(0, 256, (2, pixels, depth))
    return parity.Case(graph, {"x0": feed.astype(np.uint8)})


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("columns", "depth"), [(64, 64), (147, 61), (9, 1), (128, 4)])
@pytest.mark.parametrize("pixels", [1, 3, 7, 17, 64, 65])
def test_every_table(name: str, columns: int, depth: int, pixels: int) -> None:
    parity.agree(layer(name, columns, depth, pixels))


@settings(max_examples=examples(300))
@given(
    st.sampled_from(list(TABLES)),
    st.integers(1, 270),
    st.integers(1, 140),
    st.integers(1, 70),
    st.integers(0, 99),
    st.booleans(),
)
def test_any_shape(name: str, columns: int, depth: int, pixels: int, seed: int, extreme: bool) -> None:
    parity.agree(layer(name, columns, depth, pixels, seed, extreme=extreme))


@pytest.mark.parametrize("name", TABLES)
def test_weights_take_their_bits(name: str) -> None:
    """Columns and depth fill whole blocks, so nothing but codes is kept."""
    graph = layer(name, 128, 64, 2).graph
    for isa in parity.ISAS:
        with parity.isa(isa):
            packed, plain = (Engine(graph, weights=kept).weight_bytes for kept in ("packed", "unpacked"))
        halves = isa in HALVING and name in LARGE
        assert plain == 128 * 64 * (2 if halves else 1)
        assert packed == (plain if BITS[name] == 8 else 128 * 64 * BITS[name] // 8)


def test_depthwise_weights_are_packed_too() -> None:
    rng = np.random.default_rng(3)
    ones = np.ones(64, dtype=np.int32)
    x, y = parity.kind((5, 5, 64), parity.UINT8, 9), parity.kind((5, 5, 64), parity.INT16)
    weight = QTensor(
        codes=rng.integers(0, 16, (64, 3, 3, 1)).astype(np.uint8),
        format=parity.uniform(-8, 7),
        scale=ones.astype(np.float32),
        zero_point=0 * ones,
    )
    op = IntConv(stride=(1, 1), dilation=(1, 1), padding=(1, 1, 1, 1), groups=64, lo=y.lo, hi=y.hi)
    case = parity.Case(
        parity.one_op(op, [x], y, [weight, ones, ones << 30, 38 * ones]),
        {"x0": rng.integers(0, 256, (1, 5, 5, 64)).astype(np.uint8)},
    )
    parity.agree(case)
    packed, plain = (Engine(case.graph, weights=kept).weight_bytes for kept in ("packed", "unpacked"))
    assert packed == plain / 2


@pytest.mark.parametrize("kept", ["packed", "unpacked"])
@pytest.mark.parametrize("name", ["int4", "codebook32", "int8"])
@pytest.mark.parametrize(("columns", "pixels"), [(1, 1), (70, 1), (320, 1), (320, 3), (147, 9), (500, 70)])
def test_more_threads_than_pixels(kept: str, name: str, columns: int, pixels: int) -> None:
    """Threads share panels where pixels are few: nothing is computed twice or left out, however they divide."""
    case = layer(name, columns, 160, pixels)
    expected = run_reference(case.graph, case.codes)
    for isa in parity.ISAS:
        with parity.isa(isa):
            engine = Engine(case.graph, weights=kept)
        for threads in (1, 2, 3, 5, 16):
            one = {key: codes[:1] for key, codes in case.codes.items()}
            for value, codes in engine.run(one, threads=threads).items():
                np.testing.assert_array_equal(codes, expected[value][:1], err_msg=f"{isa}, {threads} threads")


@pytest.mark.parametrize("name", ["signs", "midrise4", "int4", "int5", "codebook"])
def test_longest_sums(name: str) -> None:
    """The largest codes times 255 for a depth at which sums of shifted codes pass 2**24."""
    for seed in (0, 1):
        parity.agree(layer(name, 65, 9001, 3, seed, extreme=True))


def test_unknown_ways_are_refused() -> None:
    with pytest.raises(RunError, match="pcked"):
        Engine(layer("int4", 4, 4, 1).graph, weights="pcked")


def test_auto_packs_what_waits_for_memory() -> None:
    """Large weights for few pixels, of five bits only for two; not small ones, nor where pixels share what was read."""
    for name, columns, pixels, bits in (
        ("int4", 1024, 16, 4),
        ("int4", 64, 1, 8),
        ("int4", 1024, 17, 8),
        ("int5", 1024, 2, 5),
        ("int5", 1024, 3, 8),
    ):
        assert Engine(layer(name, columns, 1024, pixels).graph).weight_bytes == columns * 1024 * bits // 8
