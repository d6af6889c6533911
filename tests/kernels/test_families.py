"""Kernel families: tables and bit planes give the reference's integers for every width, depth and extreme."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import RunError
from subbyte.formats.format import Format
from subbyte.formats.qtensor import QTensor
from subbyte.graph.ops.linear import IntLinear
from subbyte.runtime.engine import Engine
from tests.kernels import parity
from tests.limits import examples

WIDTHS = range(1, 9)
CPU = Path("/proc/cpuinfo")
COUNTS_QUICKLY = CPU.exists() and "AuthenticAMD" in CPU.read_text(encoding="utf8")
TABLES: dict[str, Sequence[int]] = {
    "zero_one": (0, 1),
    "signs": (-1, 1),
    "far_signs": (-13, 9),
    "minus_one": (-1, 0),
    "ternary": (-1, 0, 1),
    "int2": (-2, -1, 0, 1),
    "midrise4": (-3, -1, 1, 3),
    "pow2": (-4, -1, 2, 8),
    "positive": (1, 2, 4, 7),
    "int3": range(-4, 4),
    "codebook": (-8, -7, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7, 8),
}


def layer(
    table: Sequence[int], most: int, shape: tuple[int, int, int], seed: int = 0, *, extreme: str = "", zero: int = 0
) -> parity.Case:
    """A linear layer of (pixels, depth, columns) over activations 0..most with every level among its weights."""
    (pixels, depth, columns), rng = shape, np.random.default_rng(seed)
    codes = rng.permutation(np.arange(columns * depth) % len(table)).reshape(columns, depth).astype(np.uint8)
    if extreme:
        codes[:] = 0 if extreme == "lowest" else len(table) - 1
    ones = np.ones(columns, dtype=np.int32)
    weight = QTensor(
        codes=codes, format=Format(name="table", table=table), scale=ones.astype(np.float32), zero_point=0 * ones
    )
    x = parity.kind((pixels, depth), parity.uniform(0, most), zero)
    y = parity.kind((pixels, columns), parity.INT16)
    feed = rng.integers(0, most + 1, (2, pixels, depth))
    if extreme:
        feed[:] = most
    # A bias for every column such that one pixel's result is small, whatever the sum is: not a unit may be lost.
    sums = (feed[0] - zero) @ weight.integers().T.astype(np.int64)
    bias = rng.integers(-999, 999, columns) - sums[np.arange(columns) % pixels, np.arange(columns)]
    constants = [weight, bias.astype(np.int32), ones << 30, 30 * ones]
    graph = parity.one_op(IntLinear(lo=y.lo, hi=y.hi), [x], y, constants)
    return parity.Case(graph, {"x0": feed.astype(np.uint8)})


def used(case: parity.Case, family: str) -> str:
    """The family that the layer takes where one is forced."""
    return Engine(case.graph, family=family).families["n"]


@pytest.mark.parametrize("weight_bits", WIDTHS)
@pytest.mark.parametrize("bits", WIDTHS)
def test_every_pair_of_widths(weight_bits: int, bits: int) -> None:
    half = 2 ** (weight_bits - 1)
    for table in (range(-half, half), range(min(2 * half, 128)), range(1 - 2 * half, min(2 * half, 128), 2)):
        if len(table) < 2 or table[0] < -128:
            continue
        for shape in ((1, 1, 1), (5, 33, 17), (9, 70, 70)):
            case = layer(table, 2**bits - 1, shape, weight_bits)
            assert used(case, "bit_planes") == "bit_planes"
            parity.agree(case)


@pytest.mark.parametrize("most", [1, 2, 3, 7, 10, 15])
@pytest.mark.parametrize("name", TABLES)
def test_every_table(name: str, most: int) -> None:
    for pixels, depth, columns in ((1, 3, 5), (13, 40, 70), (7, 129, 150)):
        parity.agree(layer(TABLES[name], most, (pixels, depth, columns), most))


@pytest.mark.parametrize("extreme", ["lowest", "highest"])
@pytest.mark.parametrize("most", [1, 3, 15, 255])
@pytest.mark.parametrize("name", TABLES)
def test_sums_are_exact_at_any_depth(name: str, most: int, extreme: str) -> None:
    """Every partial sum is as large as it can be, beyond what bytes and 16 bits hold."""
    for depth in (20001, 255, 256):
        parity.agree(layer(TABLES[name], most, (3, depth, 19), extreme=extreme, zero=most // 2))


@settings(max_examples=examples(300))
@given(
    st.sampled_from(list(TABLES)),
    st.integers(1, 20),
    st.tuples(st.integers(1, 60), st.integers(1, 1300), st.integers(1, 200)),
    st.integers(0, 99),
)
def test_any_shape(name: str, most: int, shape: tuple[int, int, int], seed: int) -> None:
    parity.agree(layer(TABLES[name], most, shape, seed, zero=seed % (most + 1)))


@pytest.mark.parametrize(
    ("name", "most", "family"),
    [
        ("signs", 15, "lookup"),
        ("int2", 15, "lookup"),
        ("int3", 15, "lookup"),
        ("codebook", 7, "lookup"),
        ("codebook", 15, "lookup"),
        ("codebook", 16, "dot"),
        ("int2", 63, "lookup"),
        ("int2", 64, "dot"),
    ],
)
def test_what_tables_can_do(name: str, most: int, family: str) -> None:
    assert used(layer(TABLES[name], most, (2, 8, 4)), "lookup") == family
    assert used(layer(TABLES[name], most, (2, 8, 4)), "dot") == "dot"


@pytest.mark.parametrize(
    ("isa", "name", "most", "shape", "family"),
    [
        ("avx2", "signs", 1, (1, 512, 128), "lookup"),
        ("avx2", "signs", 1, (1, 511, 128), "dot"),
        ("avx2", "int2", 3, (1, 512, 512), "lookup"),
        ("avx2", "int2", 15, (1, 512, 512), "dot"),
        ("avx512bw", "signs", 15, (1, 512, 256), "lookup"),
        ("avx512_vbmi", "signs", 1, (1, 256, 64), "bit_planes"),
        ("avx512_vbmi", "signs", 3, (1, 512, 64), "bit_planes"),
        ("avx512_vbmi", "signs", 3, (1, 512, 63), "dot"),
        ("avx512_vbmi", "int2", 3, (1, 512, 128), "bit_planes" if COUNTS_QUICKLY else "dot"),
        ("avx512_vbmi", "int2", 3, (1, 512, 127), "dot"),
        ("avx512_vbmi", "int2", 7, (1, 512, 128), "dot"),
        ("avx512_vnni", "signs", 1, (1, 512, 64), "bit_planes"),
        ("portable", "signs", 1, (1, 512, 128), "dot"),
    ],
)
def test_what_is_taken_unasked(isa: str, name: str, most: int, shape: tuple[int, int, int], family: str) -> None:
    if isa not in parity.ISAS:
        pytest.skip(f"this CPU has no {isa}")
    case = layer(TABLES[name], most, shape)
    with parity.isa(isa):
        assert used(case, "auto") == family
        assert Engine(case.graph, weights="unpacked").families["n"] == "dot"
    parity.agree(case)


def test_family_as_a_choice() -> None:
    case = layer(TABLES["int2"], 3, (2, 8, 4))
    engine = Engine(case.graph, choices={"n": {"family": "lookup"}})
    assert engine.families == {"n": "lookup"}
    assert [(k.name, k.ways) for k in engine.knobs["n"]] == [("family", ("dot", "lookup", "bit_planes"))]
    with pytest.raises(RunError, match="family"):
        Engine(layer(TABLES["int2"], 255, (2, 8, 4)).graph, choices={"n": {"family": "lookup"}})


def test_family_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    case = layer(TABLES["int2"], 3, (2, 8, 4))
    monkeypatch.setenv("SUBBYTE_FAMILY", "bit_planes")
    assert used(case, "auto") == "bit_planes"
    assert used(case, "lookup") == "lookup"
    monkeypatch.setenv("SUBBYTE_FAMILY", "bitplanes")
    with pytest.raises(RunError, match="bit_planes"):
        Engine(case.graph)


def test_unknown_family() -> None:
    with pytest.raises(RunError, match="lookup"):
        Engine(layer(TABLES["int2"], 3, (2, 8, 4)).graph, family="lookups")
