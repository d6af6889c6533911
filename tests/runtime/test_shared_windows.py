"""Codes with shared windows as bytes: definition and native engine, back and forth, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte import _native
from subbyte.errors import FormatError
from subbyte.formats import shared_windows as definition
from subbyte.formats.trims import get_trim, trimmed, trims
from subbyte.runtime import shared_windows as native
from tests.kernels.test_caller_memory import guarded
from tests.limits import examples

PACKED = [t.name for t in trims() if t.shared and t.window.bits == 4]
BOTH = pytest.mark.parametrize("form", [definition, native], ids=["numpy", "native"])


@settings(max_examples=examples(400))
@given(st.data())
def test_both_give_the_same_bytes_and_nothing_is_lost(data):
    trim = get_trim(data.draw(st.sampled_from(PACKED)))
    zero = data.draw(st.sampled_from([0, 0, 0, 1, 7, 128, 255]))
    shape = (*data.draw(st.lists(st.integers(0, 5), max_size=2)), data.draw(st.integers(1, 100)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    loud = rng.random((*shape[:-1], 1)) < 0.5  # whole rows of small numbers, so that all places occur
    codes = np.where(loud, rng.integers(0, 256, shape), np.clip(zero + rng.integers(-20, 20, shape), 0, 255))
    codes = trimmed(codes.astype(np.uint8), trim, zero)
    wanted = definition.pack_shared(codes, trim, zero)
    got = native.pack_shared(codes, trim, zero)
    np.testing.assert_array_equal(got, wanted)
    for form in (definition, native):
        np.testing.assert_array_equal(form.unpack_shared(wanted, shape, trim, zero), codes)


@BOTH
def test_known_bytes(form):
    """Two runs: the first at shift 3 (largest 96), the second of two channels at shift 0."""
    codes = np.zeros((1, 18), np.uint8)
    codes[0, [0, 1, 8, 15, 16, 17]] = [96, 8, 16, 120, 5, 9]
    packed = form.pack_shared(codes, get_trim("sparq4_5opt_shared16"))
    assert packed.tolist() == [12 | 2 << 4, 1, 0, 0, 0, 0, 0, 15 << 4, 5 | 9 << 4, 3 | 0 << 3]


def test_bytes_are_what_was_promised():
    for name, bits in (("sparq4_5opt_shared16", 4 + 3 / 16), ("sparq4_5opt_round_shared32", 4 + 3 / 32)):
        trim = get_trim(name)
        codes = trimmed(np.random.default_rng(0).integers(0, 256, (100, 64), dtype=np.uint8), trim)
        assert native.pack_shared(codes, trim).size == 100 * 64 * bits / 8
        assert sum(definition.parts(100, 64, trim, 3)) == 100 * 64 * (bits + 1) / 8
        assert trim.stored_bits == bits


def test_nothing_beyond_the_arrays_is_touched():
    trim = get_trim("sparq4_5opt_shared16")
    for channels, zero in ((16, 0), (19, 0), (33, 5)):
        codes = trimmed(np.full((3, channels), 200, np.uint8), trim, zero)
        packed = native.pack_shared(guarded(codes), trim, zero)
        out, back = guarded(packed), guarded(np.zeros_like(codes))
        arguments = (trim.shared, list(trim.window.shifts), zero)
        assert _native.pack_shared(guarded(codes), out, *arguments)
        assert _native.unpack_shared(out, back, *arguments) == "good"
        np.testing.assert_array_equal(back, codes)


@BOTH
def test_bad_bytes_and_codes(form):
    trim = get_trim("sparq4_5opt_shared16")
    codes = trimmed(np.full((2, 20), 200, np.uint8), trim)
    packed = form.pack_shared(codes, trim)
    cases = [
        lambda: form.pack_shared(np.full((2, 20), 199, np.uint8), trim),
        lambda: form.pack_shared(np.full((2, 3), 198, np.uint8), trim, 7),
        lambda: form.pack_shared(codes, get_trim("sparq3_6opt_shared16")),
        lambda: form.pack_shared(codes, get_trim("sparq4_5opt")),
        lambda: form.pack_shared(np.zeros((2, 0), np.uint8), trim),
        lambda: form.pack_shared(codes, trim, 256),
        lambda: form.unpack_shared(packed[:-1], (2, 20), trim),
        lambda: form.unpack_shared(packed, (2, 21), trim),
        lambda: form.unpack_shared(packed, (), trim),
        lambda: form.unpack_shared(np.full_like(packed, 255), (2, 20), trim),  # place 7 of 5
        lambda: form.unpack_shared(np.full(10, 255, np.uint8), (1, 16), get_trim("sparq4_2opt_shared16"), 9),  # length
        lambda: form.unpack_shared(np.full(11, 255, np.uint8), (1, 16), get_trim("sparq4_2opt_shared16"), 9),  # 9 - 240
    ]
    for case in cases:
        with pytest.raises(FormatError) as caught:
            case()
        assert all((caught.value.seen, caught.value.rule, caught.value.remedy))


@pytest.mark.parametrize(
    ("run", "shifts", "zero", "size"),
    [
        (8, [0, 4], 0, 17),
        (16, [0], 0, 17),
        (16, [4, 0], 0, 17),
        (16, [0, 5], 0, 17),
        (16, [0, 4], 256, 17),
        (16, [0, 4], 0, 16),
    ],
)
def test_the_extension_checks_for_itself(run, shifts, zero, size):
    with pytest.raises(ValueError, match="shared windows"):
        _native.pack_shared(np.zeros((2, 16), np.uint8), np.zeros(size, np.uint8), run, shifts, zero)
