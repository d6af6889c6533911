"""Small floats: bit for bit what ml_dtypes writes wherever it defines the case, and one rounding."""

from __future__ import annotations

import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import DataError, FormatError
from subbyte.formats import QTensor, formats, get_format, quantize_weight, small_float
from subbyte.formats.small_float import SMALL_FLOATS, SmallFloat
from tests.limits import examples

NAMES = {
    "fp4_e2m1": "float4_e2m1fn",
    "fp6_e2m3": "float6_e2m3fn",
    "fp6_e3m2": "float6_e3m2fn",
    "fp8_e4m3fn": "float8_e4m3fn",
    "fp8_e5m2": "float8_e5m2",
}
"""What ml_dtypes calls them."""

every = pytest.mark.parametrize("codec", SMALL_FLOATS, ids=lambda c: c.name)


@pytest.fixture
def oracle():
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed (the extra 'test' has it)")

    def patterns(codec: SmallFloat, x: np.ndarray) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x.astype(getattr(ml_dtypes, NAMES[codec.name])).view(np.uint8)

    patterns.decode = lambda codec, b: b.view(getattr(ml_dtypes, NAMES[codec.name])).astype(np.float64)
    return patterns


def as_ml_dtypes(codec: SmallFloat, x: np.ndarray) -> np.ndarray:
    """It overflows to what is not finite where there is such a pattern."""
    return codec.encode(x, overflow="saturate" if codec.specials == "none" else "nonfinite")


def tricky(codec: SmallFloat, dtype) -> np.ndarray:
    """All values and middles, their neighbours in dtype, and what is far outside."""
    finite = np.unique(codec.values[np.isfinite(codec.values)])
    step = codec.largest - finite[-2]
    middles = np.concatenate([(finite[1:] + finite[:-1]) / 2, [codec.largest + step / 2, codec.largest + step]])
    around = np.concatenate([finite, middles, -middles]).astype(dtype)
    info = np.finfo(dtype)
    ends = np.array([0.0, -0.0, info.max, info.tiny, info.smallest_subnormal, np.inf], dtype=dtype)
    each = [around, np.nextafter(around, dtype(np.inf)), np.nextafter(around, dtype(-np.inf)), ends, -ends]
    return np.concatenate(each)


@every
def test_every_pattern_decodes_as_in_ml_dtypes(codec, oracle) -> None:
    patterns = np.arange(len(codec), dtype=np.uint8)
    ours, theirs = codec.decode(patterns), oracle.decode(codec, patterns)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(np.signbit(ours[: len(codec) // 2]), False)
    assert np.signbit(codec.decode(np.uint8(len(codec) // 2)))


@every
def test_every_half_precision_number(codec, oracle) -> None:
    x = np.arange(65536, dtype=np.uint16).view(np.float16)
    if codec.specials == "none":
        x = x[~np.isnan(x)]
    assert x.size > 60_000
    np.testing.assert_array_equal(as_ml_dtypes(codec, x), oracle(codec, x))


@every
def test_values_middles_and_their_neighbours(codec, oracle) -> None:
    x = tricky(codec, np.float32)
    np.testing.assert_array_equal(as_ml_dtypes(codec, x), oracle(codec, x))
    if codec.specials != "none":
        for dtype in (np.float32, np.float64):
            nans = np.array([np.nan, -np.nan], dtype=dtype)
            np.testing.assert_array_equal(codec.encode(nans), oracle(codec, nans))


@every
def test_ml_dtypes_rounds_float64_twice(codec, oracle) -> None:
    """By way of float32, and so not always to the nearest value: this is where we differ, and nowhere else."""
    x = tricky(codec, np.float64)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(as_ml_dtypes(codec, x.astype(np.float32)), oracle(codec, x))
    lifted = np.nextafter(0.5 * codec.unit, 1.0)
    differ = as_ml_dtypes(codec, x) != oracle(codec, x)
    assert differ.any()
    assert np.all(x[differ] != x[differ].astype(np.float32))
    assert codec.decode(codec.encode(lifted)) == codec.unit
    assert oracle.decode(codec, oracle(codec, np.array([lifted]))) == 0


@every
def test_random_bits(codec, oracle, rng) -> None:
    x = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    near = (rng.normal(size=200_000) * codec.largest / 3).astype(np.float32)
    for part in (x[~np.isnan(x)], near, near * np.float32(codec.unit)):
        np.testing.assert_array_equal(as_ml_dtypes(codec, part), oracle(codec, part))


@every
def test_patterns_survive(codec) -> None:
    """Decode and encode again: every finite number and infinity, with its sign, in three types."""
    patterns = np.arange(len(codec), dtype=np.uint8)
    kept = patterns[~np.isnan(codec.values)]
    for dtype in (np.float16, np.float32, np.float64):
        again = as_ml_dtypes(codec, codec.decode(kept).astype(dtype))
        np.testing.assert_array_equal(again, kept)


@every
def test_one_rounding_from_float64(codec) -> None:
    """Just above a middle in float64, and on it in float32: rounding twice would fall to the even side."""
    finite = np.unique(codec.values[np.isfinite(codec.values)])
    middles = (finite[1:] + finite[:-1]) / 2
    lifted = np.nextafter(middles, np.inf)
    assert np.array_equal(lifted.astype(np.float32), middles)
    np.testing.assert_array_equal(codec.decode(codec.encode(lifted)), finite[1:])
    np.testing.assert_array_equal(codec.decode(codec.encode(np.nextafter(middles, -np.inf))), finite[:-1])


@every
def test_overflow(codec) -> None:
    finite = codec.decode(codec.encode([np.inf, -np.inf, 1e300, -1e300, codec.largest * 2]))
    np.testing.assert_array_equal(finite, codec.largest * np.array([1, -1, 1, -1, 1]))
    if codec.specials == "none":
        with pytest.raises(FormatError, match="nonfinite"):
            codec.encode([1.0], overflow="nonfinite")
        with pytest.raises(DataError, match="NaN"):
            codec.encode([1.0, np.nan])
        return
    beyond = codec.decode(codec.encode([np.inf, -1e300, 1.0], overflow="nonfinite"))
    np.testing.assert_array_equal(beyond, [np.inf, -np.inf, 1] if codec.specials == "ieee" else [np.nan, np.nan, 1])
    assert np.isnan(codec.decode(codec.encode(np.nan))).all()


def test_the_facts_of_the_standards() -> None:
    """OFP8 table 1 and MX section 5.3: largest, smallest normal and subnormal value; where overflow begins."""
    facts = {c.name: (c.largest, 2.0 ** (1 - c.bias), c.unit, c.bits) for c in SMALL_FLOATS}
    assert facts == {
        "fp4_e2m1": (6.0, 1.0, 0.5, 4),
        "fp6_e2m3": (7.5, 1.0, 0.125, 6),
        "fp6_e3m2": (28.0, 0.25, 0.0625, 6),
        "fp8_e4m3fn": (448.0, 2.0**-6, 2.0**-9, 8),
        "fp8_e5m2": (57344.0, 2.0**-14, 2.0**-16, 8),
    }
    e4m3, e5m2 = small_float("fp8_e4m3fn"), small_float("fp8_e5m2")
    ties = np.array([464.0, np.nextafter(464.0, 500.0)])
    assert e4m3.encode(ties, overflow="nonfinite").tolist() == [0x7E, 0x7F]
    ties = np.array([np.nextafter(61440.0, 0.0), 61440.0])
    assert e5m2.encode(ties, overflow="nonfinite").tolist() == [0x7B, 0x7C]
    assert e5m2.encode(ties).tolist() == [0x7B, 0x7B]


@pytest.fixture(params=[("fp8_e4m3fn", "saturate"), ("fp8_e5m2", "nonfinite")], ids=lambda p: p[0])
def beside_torch(request):
    """Codec, the overflow that torch 2.13 has for it (earlier ones made NaN of e4m3fn's), and torch's patterns."""
    torch = pytest.importorskip("torch", reason="torch is not installed")
    name, overflow = request.param
    dtype = getattr(torch, "float8_e4m3fn" if name == "fp8_e4m3fn" else "float8_e5m2")

    def patterns(x) -> np.ndarray:
        tensor = x if isinstance(x, torch.Tensor) else torch.from_numpy(x)
        return tensor.to(dtype).view(torch.uint8).numpy()

    patterns.decode = lambda p: torch.from_numpy(p).view(dtype).to(torch.float32).numpy()
    return small_float(name), overflow, patterns


def test_torch_on_every_half_precision_number(beside_torch) -> None:
    """Of 16 bits both kinds: float16 and bfloat16."""
    import torch

    codec, overflow, theirs = beside_torch
    half = np.arange(65536, dtype=np.uint16).view(np.float16)
    numbers = half[~np.isnan(half)]
    np.testing.assert_array_equal(codec.encode(numbers, overflow=overflow), theirs(numbers))
    brain = torch.arange(65536, dtype=torch.int32).to(torch.uint16).view(torch.bfloat16)
    brain = brain[~brain.isnan()]
    np.testing.assert_array_equal(codec.encode(brain.float().numpy(), overflow=overflow), theirs(brain))


def test_torch_on_single_precision(beside_torch, rng) -> None:
    """All values and middles (ties), one step beside them, subnormal, largest, infinite; and random bits."""
    codec, overflow, theirs = beside_torch
    bits = rng.integers(0, 2**32, 200_000, dtype=np.uint32).view(np.float32)
    for x in (tricky(codec, np.float32), bits[~np.isnan(bits)]):
        np.testing.assert_array_equal(codec.encode(x, overflow=overflow), theirs(x))


def test_torch_reads_the_same_values(beside_torch) -> None:
    codec, _, theirs = beside_torch
    patterns = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(theirs.decode(patterns), codec.decode(patterns))
    np.testing.assert_array_equal(np.signbit(theirs.decode(patterns)), np.signbit(codec.decode(patterns)))


def test_differences_from_torch(beside_torch) -> None:
    """Its float64 is rounded twice, by way of float32; its NaN of e5m2 has another payload. Nothing else."""
    codec, overflow, theirs = beside_torch
    x = tricky(codec, np.float64)
    ours = codec.encode(x, overflow=overflow)
    with np.errstate(over="ignore", under="ignore"):
        np.testing.assert_array_equal(codec.encode(x.astype(np.float32), overflow=overflow), theirs(x))
    assert (ours != theirs(x)).any()
    below = {"fp8_e4m3fn": 431.99999999999994, "fp8_e5m2": 45055.99999999999}[codec.name]
    assert theirs(np.array([below])) == codec.encode(below) + 1
    nan = np.array([np.nan, -np.nan])
    ours, payload = codec.encode(nan, overflow=overflow), {"fp8_e4m3fn": 0x7F, "fp8_e5m2": 0x7E}[codec.name]
    assert ours.tolist() == [payload, payload | 0x80]
    assert theirs(nan).tolist() == [0x7F, 0xFF]


@settings(max_examples=examples(300))
@given(st.sampled_from(SMALL_FLOATS), st.floats(allow_nan=False, allow_infinity=False))
def test_nearest_by_exact_fractions(codec, x) -> None:
    finite = codec.values[: codec.top + 1]
    got = abs(float(codec.decode(codec.encode(x))))
    gap = abs(Fraction(got) - Fraction(abs(x)))
    assert all(gap <= abs(Fraction(v) - Fraction(abs(x))) for v in finite.tolist())


@every
def test_formats_hold_the_same_values(codec, rng) -> None:
    """Integers in the unit; the same nearest values, ties included, as the codec writes."""
    f = get_format(codec.name)
    assert f == codec.format()
    assert np.array_equal(f.values * codec.unit, np.unique(codec.values[np.isfinite(codec.values)]))
    x = tricky(codec, np.float64)
    x = np.concatenate([x[np.isfinite(x)], rng.normal(size=2000) * codec.largest / 4])
    np.testing.assert_array_equal(
        f.decode(f.encode(x, scale=codec.unit), scale=codec.unit), codec.decode(codec.encode(x))
    )
    codes = rng.integers(0, f.levels, 1001).astype(np.uint8)
    data = f.pack(codes)
    assert len(data) == -(-1001 * codec.bits // 8)
    assert np.array_equal(f.unpack(data, 1001), codes)


def test_integer_tables() -> None:
    assert get_format("fp4_e2m1").table[7:] == (0, 1, 2, 3, 4, 6, 8, 12)
    reach = {c.name: get_format(c.name).hi for c in SMALL_FLOATS}
    assert reach == {
        "fp4_e2m1": 12,
        "fp6_e2m3": 60,
        "fp6_e3m2": 448,
        "fp8_e4m3fn": 229_376,
        "fp8_e5m2": 3_758_096_384,
    }
    assert [get_format(n).levels for n in ("fp8_e4m3fn", "fp8_e5m2")] == [253, 247]
    assert get_format("fp8_e5m2").integers.dtype == np.int64
    assert all(f.fits_int16 for f in formats() if not (f.storing_alone or f.name.startswith("fp8")))


def test_no_operands() -> None:
    with pytest.raises(FormatError) as caught:
        quantize_weight(np.ones((2, 2), np.float32), get_format("fp8_e5m2"))
    assert "int8" in caught.value.remedy
    assert "fp8_e4m3fn" in caught.value.remedy


@pytest.mark.parametrize("name", ["fp4_e2m1", "fp6_e2m3", "fp6_e3m2", "fp8_e4m3fn"])
def test_operands(name, rng) -> None:
    w = rng.normal(size=(4, 50)).astype(np.float32)
    q = quantize_weight(w, get_format(name), method="mse")
    assert isinstance(q, QTensor)
    assert np.array_equal(q.format.unpack(q.pack(), w.size), q.codes.reshape(-1))


def test_bad_input() -> None:
    codec = small_float("fp8_e4m3fn")
    for bad in (np.zeros(2, np.longdouble), np.array([1j]), np.array(["1"])):
        with pytest.raises(DataError, match="fp8_e4m3fn"):
            codec.encode(bad)
    with pytest.raises(FormatError, match="saturate"):
        codec.encode([1.0], overflow="saturated")
    for patterns in ([256], [-1], [0.5]):
        with pytest.raises(FormatError, match=r"0\.\.255"):
            codec.decode(patterns)
    with pytest.raises(FormatError, match=r"0\.\.15"):
        small_float("fp4_e2m1").decode([16])
    with pytest.raises(FormatError, match="fp8_e4m3fn"):
        small_float("fp8_e4m3")
    assert codec.encode(np.zeros((0, 3))).shape == (0, 3)
    assert codec.encode(np.array([[3, -3]])).tolist() == [[0x44, 0xC4]]
