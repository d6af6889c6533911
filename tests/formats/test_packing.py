"""Packing: every level count there and back, sizes to the byte, damaged bytes refused."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import subbyte as sb
from subbyte.errors import FormatError
from subbyte.formats import Format, QTensor, get_format, packed_size
from subbyte.formats.packing import Radix, default_packing, get_packing
from subbyte.runtime.modelfile import breakdown, from_bytes, to_bytes
from tests.e2e.format_nets import float_net, samples
from tests.limits import examples

COUNTS = (0, 1, 2, 3, 5, 7, 8, 9, 26, 27, 28, 63, 64, 65, 257)


def names(levels: int) -> list[str]:
    narrow = (levels - 1).bit_length()
    some = {f"bits{narrow}", f"bits{min(16, narrow + 1)}", f"radix{levels}", default_packing(levels)}
    some |= {f"planes{narrow}", *(f"radix{levels}x{size}" for size in (1, 2, 4, 8))}
    return sorted(some | ({"nibble_plane"} if levels <= 32 else set()))


@pytest.mark.parametrize("levels", range(2, 257))
def test_there_and_back(levels: int) -> None:
    rng = np.random.default_rng(levels)
    for name in names(levels):
        packing = get_packing(name)
        assert packing.name == name
        for count in COUNTS:
            for codes in (rng.integers(0, levels, count), np.full(count, levels - 1), np.zeros(count)):
                flat = codes.astype(np.uint8)
                data = packing.pack(flat, levels)
                assert len(data) == packing.size(count)
                back = packing.unpack(data, count, levels)
                assert back.dtype == np.uint8
                assert np.array_equal(back, flat)


@pytest.mark.parametrize("levels", [257, 1000, 65535, 65536])
def test_wide_codes(levels: int) -> None:
    packing = get_packing(default_packing(levels))
    codes = np.array([0, levels - 1, 1, 256, levels // 2], dtype=np.uint16)
    assert np.array_equal(packing.unpack(packing.pack(codes, levels), 5, levels), codes)


def test_bit_order_is_fixed() -> None:
    nibbles = get_packing("bits4").pack(np.array([1, 2, 15], dtype=np.uint8), 16)
    assert nibbles == bytes([0x21, 0x0F])
    assert get_packing("bits3").pack(np.array([1, 2, 4], dtype=np.uint8), 8) == bytes([0b00010001, 0b1])
    assert get_packing("bits8").pack(np.array([7, 255], dtype=np.uint8), 256) == bytes([7, 255])
    assert get_packing("bits16").pack(np.array([258], dtype=np.uint16), 65536) == bytes([2, 1])
    trits = np.array([2, 1, 0, 0, 2, 1], dtype=np.uint8)
    assert get_packing("radix3").pack(trits, 3) == bytes([2 + 3 + 2 * 81, 1])
    five = get_packing("radix5").pack(np.array([4] * 27 + [3, 1], dtype=np.uint8), 5)
    assert five == (5**27 - 1).to_bytes(8, "little") + bytes([3 + 5])


def test_words_hold_as_many_digits_as_fit() -> None:
    layouts = {base: Radix(base).layout for base in range(2, 257)}
    assert layouts[3] == (5, 1)
    assert layouts[5] == (27, 8)
    assert layouts[17] == (15, 8)
    assert layouts[31] == (3, 2)  # as dense as 12 in 8 bytes
    for base, (digits, size) in layouts.items():
        assert base**digits <= 256**size < base ** (digits + 1)
        best = max(math.floor(w * 8 * math.log(2) / math.log(base) + 1e-12) / w for w in (1, 2, 4, 8))
        assert digits / size == best


def test_default_is_the_smallest_and_plain_on_ties() -> None:
    for levels in range(2, 257):
        bits = (levels - 1).bit_length()
        chosen = get_packing(default_packing(levels)).bits_per_code
        assert chosen == min(bits, Radix(levels).bits_per_code)
        assert chosen >= math.log2(levels)
    assert default_packing(4) == "bits2"
    assert default_packing(3) == "radix3"
    assert default_packing(31) == "bits5"


def test_sizes_of_formats() -> None:
    assert packed_size(get_format("ternary"), 11) == 3
    assert packed_size(get_format("int4"), 3) == 2
    assert packed_size(get_format("levels17"), 15) == 8
    assert packed_size(get_format("levels17"), 16) == 9
    assert packed_size(get_format("binary"), 9) == 2
    assert packed_size(get_format("int8"), 10) == 10
    assert packed_size(get_format("levels5"), 0) == 0


@pytest.mark.parametrize("levels", [2, 3, 4, 5, 6, 16, 17, 31, 100, 255, 256])
def test_wrong_length_is_refused(levels: int) -> None:
    for name in names(levels):
        packing = get_packing(name)
        data = packing.pack(np.zeros(29, dtype=np.uint8), levels)
        for wrong in (data[:-1], data + b"\0", b""):
            with pytest.raises(FormatError, match="cannot be"):
                packing.unpack(wrong, 29, levels)
        for count in (-1, 10**30):
            with pytest.raises(FormatError, match="cannot be"):
                packing.unpack(data, count, levels)


@settings(max_examples=examples(2000))
@given(st.data())
def test_bytes_are_refused_or_canonical(data: st.DataObject) -> None:
    """Whatever the bytes: unpack refuses them, or packing the codes again gives the same bytes."""
    levels = data.draw(st.integers(2, 256))
    packing = get_packing(data.draw(st.sampled_from(names(levels))))
    count = data.draw(st.integers(0, 70))
    size = packing.size(count)
    raw = data.draw(st.one_of(st.binary(min_size=size, max_size=size), st.just(b"\xff" * size)))
    try:
        codes = packing.unpack(raw, count, levels)
    except FormatError:
        return
    assert codes.size == count
    assert packing.pack(codes, levels) == raw


def test_hostile_codes_and_padding() -> None:
    cases = [
        ("bits2", 3, bytes([0b11]), 1),  # code 3 of 3 levels
        ("bits2", 4, bytes([0b0100]), 1),  # padding bit
        ("bits9", 256, bytes([0, 1]), 1),  # code 256 of 256 levels
        ("bits16", 256, bytes([0, 1]), 1),
        ("radix3", 3, bytes([243]), 5),  # 243 = 3**5
        ("radix3", 3, bytes([3]), 1),  # digit beyond the last code
        ("radix3", 2, bytes([2]), 1),  # digit 2 of 2 levels
        ("radix5", 5, b"\xff" * 8, 27),
        ("radix5", 5, (5**27).to_bytes(8, "little"), 27),
        ("radix17", 17, (17**15).to_bytes(8, "little"), 15),
        ("bits16", 65535, b"\xff\xff", 1),
    ]
    for name, levels, raw, count in cases:
        with pytest.raises(FormatError, match="packed data"):
            get_packing(name).unpack(raw, count, levels)


def test_pack_refuses_codes_outside_the_format() -> None:
    hostile: list[Any] = [np.array([3], np.uint8), np.array([-1], np.int8), np.array([1.0])]
    for codes in hostile:
        with pytest.raises(FormatError, match="below 3"):
            get_packing("radix3").pack(codes, 3)
    with pytest.raises(FormatError, match="holds"):
        get_packing("bits2").pack(np.zeros(1, np.uint8), 5)
    with pytest.raises(FormatError, match="holds"):
        get_packing("radix3").unpack(b"", 0, 0)


@pytest.mark.parametrize(
    "name",
    [
        "bits0",
        "bits17",
        "radix1",
        "radix257",
        "bits04",
        "nibbles",
        "",
        "bits４",
        "radix-3",
        "planes0",
        "planes17",
        "radix3x3",
        "radix3x16",
        "bits4x1",
        "planes4x1",
        "nibble_planes",
        "radix3x",
        "radix3x01",
    ],
)
def test_unknown_packing(name: str) -> None:
    with pytest.raises(FormatError, match="unknown"):
        get_packing(name)


def test_a_matrix_packs_in_c_order() -> None:
    f = Format(name="six_levels", table=(-4, -2, -1, 0, 1, 2))
    codes = np.arange(24, dtype=np.uint8).reshape(4, 6) % 6
    assert f.pack(codes) == f.pack(codes.reshape(-1))
    assert f.pack(np.asfortranarray(codes)) == f.pack(codes)
    assert np.array_equal(f.unpack(f.pack(codes), 24), codes.reshape(-1))


@pytest.mark.parametrize("k", range(1, 17))
def test_bits_are_a_little_endian_stream(k: int) -> None:
    """Against one large integer, which is what the rule says."""
    rng = np.random.default_rng(k)
    levels = 2**k
    for count in (1, 7, 8, 9, 40, 41):
        codes = rng.integers(0, levels, count).astype(np.uint8 if k <= 8 else np.uint16)
        stream = sum(int(c) << i * k for i, c in enumerate(codes))
        data = get_packing(f"bits{k}").pack(codes, levels)
        assert data == stream.to_bytes(-(-count * k // 8), "little")
        back = get_packing(f"bits{k}").unpack(data, count, levels)
        assert back.dtype == codes.dtype
        assert back.flags.writeable
        assert np.array_equal(back, codes)


def test_planes_are_bits_of_codes() -> None:
    codes = np.array([0b101, 0b001, 0b110, 0, 0, 0, 0, 0b111, 0b010], dtype=np.uint8)
    assert get_packing("planes3").pack(codes, 8) == bytes([0b10000011, 0, 0b10000100, 1, 0b10000101, 0])
    five = np.array([0x1F, 0x02, 0x13], dtype=np.uint8)
    assert get_packing("nibble_plane").pack(five, 32) == bytes([0x2F, 0x03, 0b101])
    assert get_packing("planes16").pack(np.array([0x8001], np.uint16), 65536) == bytes([1, *[0] * 14, 1])


@pytest.mark.parametrize(
    ("name", "levels", "digits", "size"),
    [
        ("radix3", 3, 5, 1),
        ("radix3x2", 3, 10, 2),
        ("radix5", 5, 27, 8),
        ("radix17", 17, 15, 8),
        ("radix31x8", 31, 12, 8),
    ],
)
def test_words_of_the_literature(name: str, levels: int, digits: int, size: int) -> None:
    packing = get_packing(name)
    assert isinstance(packing, Radix)
    assert packing.layout == (digits, size)
    assert packing.bits_per_code == 8 * size / digits
    assert packing.size(3 * digits) == 3 * size
    largest = np.full(digits, levels - 1, np.uint8)
    assert packing.pack(largest, levels) == (levels**digits - 1).to_bytes(size, "little")


@pytest.mark.parametrize("name", ["radix3", "radix3x2"])
def test_every_ternary_word_there_and_back(name: str) -> None:
    """All 243 and all 59049 words, and each word above them refused."""
    packing = get_packing(name)
    assert isinstance(packing, Radix)
    digits, size = packing.layout
    every = np.arange(3**digits)
    codes = (every[:, None] // 3 ** np.arange(digits) % 3).astype(np.uint8)
    data = packing.pack(codes, 3)
    assert data == every.astype(f"<u{size}").tobytes()
    np.testing.assert_array_equal(packing.unpack(data, codes.size, 3), codes.reshape(-1))
    for word in (3**digits, 256**size - 1):
        with pytest.raises(FormatError, match="exceeds"):
            packing.unpack(word.to_bytes(size, "little"), digits, 3)


@pytest.mark.parametrize(("name", "levels"), [("planes2", 4), ("bits4", 16), ("nibble_plane", 32), ("planes5", 32)])
def test_every_pair_of_codes_there_and_back(name: str, levels: int) -> None:
    packing = get_packing(name)
    pairs = np.stack(np.meshgrid(np.arange(levels), np.arange(levels)), axis=-1).reshape(-1).astype(np.uint8)
    for count in (pairs.size, pairs.size - 1, pairs.size - 3):
        data = packing.pack(pairs[:count], levels)
        assert len(data) == packing.size(count)
        np.testing.assert_array_equal(packing.unpack(data, count, levels), pairs[:count])


@pytest.mark.parametrize(
    ("name", "packing", "bits"),
    [
        ("int5", "nibble_plane", 5),
        ("int3", "planes3", 3),
        ("ternary", "radix3x2", 1.6),
        ("levels31", "radix31x8", 16 / 3),
    ],
)
def test_files_hold_what_the_chosen_packing_takes(name: str, packing: str, bits: float) -> None:
    """The size in the file is the packing's; what is loaded has the packing, the table and the integers."""
    f = Format(name=name, table=get_format(name).table, packing=packing)
    q = sb.quantize(float_net("weight", f), samples(float_net("weight", f)), recipe=f"w{name}_a8_first_last_same")
    own = {k: replace(v, format=f) if isinstance(v, QTensor) else v for k, v in q.graph.constants.items()}
    graph = replace(q.graph, constants=own)
    parts = {p.constant: p.nbytes for p in breakdown(graph) if p.role == "codes"}
    weights = {k: v for k, v in own.items() if isinstance(v, QTensor)}
    assert all(parts[k] == get_packing(packing).size(v.codes.size) for k, v in weights.items())
    most = max(weights.values(), key=lambda v: v.codes.size)
    assert abs(8 * most.packed_size / most.codes.size - bits) < 0.2
    loaded, _ = from_bytes(to_bytes(graph, q.metadata))
    for k, v in weights.items():
        again = loaded.constants[k]
        assert isinstance(again, QTensor)
        assert again.format.packing == packing
        np.testing.assert_array_equal(again.integers(), v.integers())
