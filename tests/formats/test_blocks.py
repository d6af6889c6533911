"""Dynamic maps and flat blocks: against exact fractions, brute force, and bitsandbytes where it is installed."""

from __future__ import annotations

import itertools
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import DataError, FormatError
from subbyte.formats import BlockTensor, dynamic_map, get_format, quantize_blocks, quantize_weight, unpack_blocks
from subbyte.formats.blocks import block_table
from subbyte.formats.refusals import ROLES, refused
from tests.limits import examples

MAPS = [(bits, signed) for bits in range(4, 9) for signed in (True, False)]
SIGNED, UNSIGNED = dynamic_map(8), dynamic_map(8, signed=False)


def exact_map(bits: int, signed: bool) -> list[Fraction]:
    """The published construction: middles of equal cells of [0.1, 1], decade by decade; 0 and 1."""
    found = [Fraction(0), Fraction(1)]
    decades = bits - 1
    for i in range(decades):
        cells = 2**i if signed else 2 ** (i + 1)
        edges = [Fraction(1, 10) + Fraction(9, 10) * j / cells for j in range(cells + 1)]
        middles = [(a + b) / 2 / 10 ** (decades - 1 - i) for a, b in itertools.pairwise(edges)]
        found += middles + ([-m for m in middles] if signed else [])
    return sorted(found)


@pytest.mark.parametrize(("bits", "signed"), MAPS)
def test_the_published_construction(bits, signed) -> None:
    exact = exact_map(bits, signed)
    table = dynamic_map(bits, signed)
    assert table.dtype == np.float32
    assert table.tolist() == [float(np.float32(float(v))) for v in exact]
    assert len(table) == 2**bits
    f = get_format(f"{'' if signed else 'u'}dynamic{bits}")
    assert [Fraction(int(v), f.hi) for v in f.integers] == exact
    assert f.packing == f"bits{bits}"
    assert not f.symmetric
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 0


def test_facts_of_eight_bits() -> None:
    assert (SIGNED[0], SIGNED[-1], SIGNED[127], SIGNED[128]) == tuple(np.float32([-0.99296875, 1, 0, 5.5e-7]))
    assert (UNSIGNED[0], UNSIGNED[1], UNSIGNED[-1]) == tuple(np.float32([0, 3.25e-7, 1]))
    for table, first in ((SIGNED[128:], 1), (UNSIGNED[1:], 2)):  # values per decade double
        counts = [int(np.sum((table > 10.0 ** (i - 7)) & (table < 10.0 ** (i - 6)))) for i in range(7)]
        assert counts == [first * 2**i for i in range(7)]


@pytest.mark.parametrize("name", ["dynamic3", "dynamic9", "udynamic9", "dynamic"])
def test_unknown_maps_say_what_is_near(name) -> None:
    with pytest.raises(FormatError, match="dynamic"):
        get_format(name)


@pytest.mark.parametrize(("bits", "signed"), MAPS)
def test_no_role_in_networks(bits, signed) -> None:
    f = get_format(f"{'' if signed else 'u'}dynamic{bits}")
    for role in ROLES:
        line = refused(f, role)
        assert "no integers to multiply" in line.reason
        assert all(name in line.remedy for name in ("int8", "nf4", "uint8", "quantize_blocks"))
    with pytest.raises(FormatError) as caught:
        quantize_weight(np.ones((2, 2), np.float32), f)
    assert all((caught.value.seen, caught.value.rule, caught.value.remedy))


def nearest(table: np.ndarray, x: np.ndarray, absmax: float) -> list[set[int]]:
    """Codes at the least distance, exactly."""
    values = [Fraction(float(v)) for v in table]
    found = []
    for number in x.tolist():
        gaps = [abs(Fraction(number) / Fraction(absmax) - v) if absmax else abs(v) for v in values]
        found.append({i for i, gap in enumerate(gaps) if gap == min(gaps)})
    return found


@settings(max_examples=examples(150))
@given(
    st.sampled_from(
        [SIGNED, UNSIGNED, dynamic_map(4), block_table(get_format("nf4")), block_table(get_format("int4"))]
    ),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=12),
    st.integers(1, 13),
)
def test_the_true_nearest_code(table, numbers, block) -> None:
    x = np.array(numbers, np.float32)
    x = np.abs(x) if table[0] == 0 else x
    tensor = quantize_blocks(x, table, block)
    for k in range(0, x.size, block):
        part = x[k : k + block]
        absmax = float(np.abs(part).max())
        assert tensor.absmax[k // block] == absmax
        codes = tensor.codes[k : k + block].tolist()
        assert all(c in legal for c, legal in zip(codes, nearest(table, part, absmax), strict=True))


def test_middles_and_their_neighbours() -> None:
    """float32 quotients on ties go to the even distance from 0, and one step beside them to the nearer value."""
    middles = (SIGNED[1:].astype(np.float64) + SIGNED[:-1]) / 2
    exact = middles.astype(np.float32) == middles
    assert exact.sum() > 50
    for absmax in (1.0, 3.0, 2.0**-140):
        tie = (middles[exact] * absmax).astype(np.float32)
        good = tie.astype(np.float64) == middles[exact] * absmax
        for shift, move in ((0, None), (1, np.inf), (-1, -np.inf)):
            x = tie[good] if move is None else np.nextafter(tie[good], np.float32(move))
            codes = quantize_blocks(np.concatenate([[np.float32(absmax)], x]), SIGNED, block=10**6).codes[1:]
            left = np.flatnonzero(exact)[good]
            wanted = left + ((left - 127) % 2 == 1) if shift == 0 else left + (shift > 0)
            np.testing.assert_array_equal(codes, wanted)


def test_zero_blocks_tails_and_small_tensors() -> None:
    x = np.zeros((3, 5), np.float32)
    x[0, 0], x[2, 4] = 2.0, -4.0
    tensor = quantize_blocks(x, SIGNED, block=4)
    assert tensor.absmax.tolist() == [2, 0, 0, 4]  # the last block has three numbers
    assert tensor.codes[1].tolist() == [127] * 5
    got = tensor.dequantize()
    assert got.shape == (3, 5)
    assert got[0, 0] == 2
    assert got[2, 4] == np.float32(-4 * np.float32(0.99296875))  # -1 is not in the map
    assert not np.signbit(got[got == 0]).any()
    assert quantize_blocks(np.float32(-0.0), SIGNED).dequantize() == 0
    assert quantize_blocks(np.float32(7.5), SIGNED, block=1).dequantize() == 7.5
    empty = quantize_blocks(np.zeros((0, 3), np.float32), SIGNED)
    assert (empty.shape, empty.absmax.shape, empty.pack()) == ((0, 3), (0,), b"")
    assert empty.dequantize().shape == (0, 3)
    two = quantize_blocks(np.ones(2), SIGNED, block=2048)
    assert two.absmax.size == 1


@pytest.mark.parametrize("block", [1, 7, 256, 2048])
def test_each_block_is_alone(block, rng) -> None:
    x = (rng.normal(size=5000) * 10.0 ** rng.integers(-20, 20, 5000)).astype(np.float32)
    whole = quantize_blocks(x.reshape(50, 100), SIGNED, block)
    for k in range(0, 5000, block):
        alone = quantize_blocks(x[k : k + block], SIGNED, block)
        np.testing.assert_array_equal(whole.codes.reshape(-1)[k : k + block], alone.codes)
        np.testing.assert_array_equal(whole.dequantize().reshape(-1)[k : k + block], alone.dequantize())
    error = np.abs(whole.dequantize().reshape(-1) - x)
    assert np.all(error <= 0.0071 * np.repeat(whole.absmax, block)[:5000])


def test_the_guard_keeps_what_is_divided_by() -> None:
    """Plain nearest codes lose second moments below half the smallest value; the guard loses none, and 0 stays 0."""
    v = np.array([1.0, 1e-7, 1e-20, 1.4e-45, 0.0], np.float32)
    plain = quantize_blocks(v, UNSIGNED)
    assert plain.codes.tolist() == [255, 0, 0, 0, 0]
    kept = quantize_blocks(v, UNSIGNED, rounding="keep_nonzero")
    assert kept.codes.tolist() == [255, 1, 1, 1, 0]
    signed = quantize_blocks(np.array([-1e-9, 1e-9, 0, 1], np.float32), SIGNED, rounding="keep_nonzero")
    assert signed.codes.tolist() == [126, 128, 127, 255]
    without_zero = block_table(get_format("midrise4"))
    np.testing.assert_array_equal(
        quantize_blocks(v, without_zero, rounding="keep_nonzero").codes, quantize_blocks(v, without_zero).codes
    )


@settings(max_examples=examples(300))
@given(st.lists(st.floats(0, 2.0**127, width=32), min_size=1, max_size=40), st.integers(1, 9))
def test_the_guard_on_any_numbers(numbers, block) -> None:
    v = np.array(numbers, np.float32)
    guarded, plain = (quantize_blocks(v, UNSIGNED, block, rounding=r).codes for r in ("keep_nonzero", "half_even"))
    np.testing.assert_array_equal(guarded == 0, v == 0)
    np.testing.assert_array_equal(guarded[plain > 0], plain[plain > 0])


def test_stochastic_blocks_are_unbiased() -> None:
    x = np.full(200_001, 0.3333, np.float32)
    x[0] = 1.0
    tensor = quantize_blocks(x, SIGNED, block=x.size, rounding="stochastic", seed=1)
    drawn = tensor.dequantize()[1:].astype(np.float64)
    assert len(np.unique(drawn)) == 2
    assert abs(drawn.mean() - float(x[1])) < 4.5 * drawn.std() / np.sqrt(drawn.size)


@pytest.mark.parametrize("name", ["dynamic8", "udynamic5", "nf4", "fp4_e2m1", "levels17", "ternary"])
def test_bytes_there_and_back(name, rng) -> None:
    f = get_format(name)
    x = np.abs(rng.normal(size=(7, 91))).astype(np.float32)
    tensor = quantize_blocks(x, f, block=50)
    data = tensor.pack()
    assert len(data) == tensor.nbytes == f.packed_size(637) + 4 * 13
    again = unpack_blocks(data, (7, 91), f, block=50)
    np.testing.assert_array_equal(again.codes, tensor.codes)
    np.testing.assert_array_equal(again.dequantize(), tensor.dequantize())
    assert again.pack() == data
    for wrong in (data[:-1], data + b"\0", b""):
        with pytest.raises(FormatError, match="bytes"):
            unpack_blocks(wrong, (7, 91), f, block=50)
    for bad in (np.float32(np.nan), np.float32(-1), np.float32(np.inf)):
        with pytest.raises(FormatError, match="invariant 4"):
            unpack_blocks(data[:-4] + bad.tobytes(), (7, 91), f, block=50)


def test_bad_input() -> None:
    for bad in (np.array([1.0, np.nan]), np.array([np.inf]), np.array([1e39]), np.array([1j]), np.array(["1"])):
        with pytest.raises(DataError, match="finite"):
            quantize_blocks(bad, SIGNED)
    with pytest.raises(DataError, match="signed table"):
        quantize_blocks([-1.0], UNSIGNED)
    for block in (0, -3):
        with pytest.raises(FormatError, match="block"):
            quantize_blocks([1.0], SIGNED, block)
    tables = ([1.0], [0.0, 0.0, 1.0], [1.0, 0.0], [0.0, 0.5], [0.0, np.nan, 1.0], np.linspace(0, 1, 257), [[0.0, 1.0]])
    for table in (*tables, ["a", "b"]):
        with pytest.raises(FormatError, match="ascend"):
            quantize_blocks([1.0], table)
    with pytest.raises(FormatError, match="ascend"):
        quantize_blocks([1.0], get_format("int16"))
    with pytest.raises(FormatError, match="keep_nonzero"):
        quantize_blocks([1.0], SIGNED, rounding="keepnonzero")
    with pytest.raises(FormatError, match="seed"):
        quantize_blocks([1.0], SIGNED, rounding="stochastic")
    good = quantize_blocks([1.0, 2.0, -2.0], SIGNED, 2)
    broken = [
        ("1", {"table": SIGNED[::-1]}),
        ("2", {"codes": good.codes.astype(np.int64)}),
        ("2", {"table": dynamic_map(4)}),
        ("3", {"block": 0}),
        ("4", {"absmax": good.absmax[:1]}),
    ]
    for rule, change in broken:
        parts = {"codes": good.codes, "absmax": good.absmax, "table": good.table, "block": 2} | change
        with pytest.raises(FormatError, match="ascend" if rule == "1" else f"invariant {rule}"):
            BlockTensor(**parts).check()


ORACLE = """
import sys
import numpy as np, torch
import bitsandbytes.functional as F
x = np.load(sys.argv[1])
made = {}
for bits in range(4, 9):
    for signed in (1, 0):
        made[f"map_{bits}_{signed}"] = F.create_dynamic_map(bool(signed), bits - 1, bits).numpy()
for signed in (1, 0):
    for block in (64, 256, 2048):
        code = torch.from_numpy(made[f"map_8_{signed}"])
        codes, state = F.quantize_blockwise(torch.from_numpy(x if signed else np.abs(x)), code=code, blocksize=block)
        made[f"codes_{signed}_{block}"], made[f"absmax_{signed}_{block}"] = codes.numpy(), state.absmax.numpy()
        made[f"reals_{signed}_{block}"] = F.dequantize_blockwise(codes, state).numpy()
np.savez(sys.argv[2], **made)
"""
"""In a process of its own: the library warns and registers operators when it is loaded."""


@pytest.fixture(scope="module")
def oracle(tmp_path_factory):
    import importlib.util

    if importlib.util.find_spec("bitsandbytes") is None:
        pytest.skip("bitsandbytes is not installed (the extra 'oracles' has it)")
    folder = tmp_path_factory.mktemp("bitsandbytes")
    rng = np.random.default_rng(0)
    x = (rng.normal(size=10_000) * 10.0 ** rng.uniform(-4, 0, 10_000)).astype(np.float32)
    x[2048:4096] = 0
    x[5000:5003] = 1e-6, -1e-6, 2e-7
    np.save(folder / "x.npy", x)
    words = [sys.executable, "-c", ORACLE, folder / "x.npy", folder / "made.npz"]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with np.load(folder / "made.npz") as made:
        return x, dict(made)


def test_bitsandbytes_maps(oracle) -> None:
    """Equal but for the last bits of their own float32 steps."""
    for bits, signed in MAPS:
        theirs = np.unique(oracle[1][f"map_{bits}_{int(signed)}"])
        ours = dynamic_map(bits, signed)
        assert theirs.size == ours.size
        ulps = np.abs(theirs.view(np.int32).astype(np.int64) - ours.view(np.int32))
        assert ulps.max() <= 2


@pytest.mark.parametrize("block", [64, 256, 2048])
@pytest.mark.parametrize("signed", [1, 0])
def test_bitsandbytes_magnitudes_and_meaning(oracle, signed, block) -> None:
    x, made = oracle
    x = x if signed else np.abs(x)
    ours = quantize_blocks(x, made[f"map_8_{signed}"], block)
    np.testing.assert_array_equal(ours.absmax, made[f"absmax_{signed}_{block}"])
    codes, reals = made[f"codes_{signed}_{block}"], made[f"reals_{signed}_{block}"]
    meant = BlockTensor(codes=codes, absmax=ours.absmax, table=ours.table, block=block)
    np.testing.assert_array_equal(meant.dequantize(), reals)
    # Their codes are near, ours are never farther, and where magnitudes are small theirs are far.
    gap, least = np.abs(reals - x), np.abs(ours.dequantize() - x)
    assert np.all(least <= gap + np.spacing(np.abs(x)))
    differ = codes != ours.codes
    assert differ.any()
    assert np.all(
        np.abs(codes.astype(int) - ours.codes)[np.abs(x) > 1e-3 * np.repeat(ours.absmax, block)[: x.size]] <= 1
    )
    assert set(codes[2048:4096]) == {0}
    assert set(ours.codes[2048:4096]) == ({127} if signed else {0})
