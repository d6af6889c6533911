"""Trims against the paper's rules written out bit by bit, and their properties."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from subbyte.errors import FormatError
from subbyte.formats.trims import WINDOWS, Trim, get_trim, is_trim, trimmed, trims
from subbyte.graph.ops.trim import trimmed_tensor
from tests.limits import examples

EVERY = [t.name for t in trims()]
OPTIONS = list(WINDOWS)
ALL = np.arange(256, dtype=np.uint8)


class Paper(NamedTuple):
    """An option as the paper's table has it."""

    bits: int
    shifts: list[int]
    values: int


PAPER = {
    "4_5opt": Paper(4, [4, 3, 2, 1, 0], 48),
    "4_3opt": Paper(4, [4, 2, 0], 40),
    "4_2opt": Paper(4, [4, 0], 31),
    "3_6opt": Paper(3, [5, 4, 3, 2, 1, 0], 28),
    "2_7opt": Paper(2, [6, 5, 4, 3, 2, 1, 0], 16),
    "6_3opt": Paper(6, [2, 1, 0], 128),
}
"""Bits, shifts, and how many values 0..255 keep."""


def one(size: int, bits: int, shifts: list[int], rounded: bool) -> int:
    """A magnitude without neighbours, in Python integers."""
    shift = min(s for s in shifts if size < 1 << (bits + s))
    kept, rest = divmod(size, 1 << shift)
    if rounded and (2 * rest > 1 << shift or (2 * rest == 1 << shift and kept % 2)):
        kept = min(kept + 1, (1 << bits) - 1)
    return kept << shift


def doubled(size: int, bits: int, rounded: bool) -> int:
    """What a number beside a zero becomes."""
    return size if bits >= 4 else one(size, 2 * bits, list(range(9 - 2 * bits)), rounded)


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("rounded", [False, True])
def test_every_code_alone(option, rounded):
    bits, shifts, _ = PAPER[option]
    wanted = [one(a, bits, shifts, rounded) for a in range(256)]
    codes = trimmed(ALL.reshape(-1, 1), Trim(option=option, rounded=rounded))
    assert codes.ravel().tolist() == wanted


@pytest.mark.parametrize("option", OPTIONS)
def test_error_and_number_of_values(option):
    bits, shifts, count = PAPER[option]
    a = ALL.astype(int)
    cut, near = (trimmed(ALL[:, None], Trim(option=option, rounded=r))[:, 0].astype(int) for r in (False, True))
    step = np.array([1 << min(s for s in shifts if v < 1 << (bits + s)) for v in a])
    assert len(np.unique(cut)) == count
    assert np.all((a - cut >= 0) & (a - cut < step))
    assert np.all(abs(a - near) <= abs(a - cut))
    saturated = near == cut
    assert np.all(2 * abs(a - near)[~saturated] <= step[~saturated])


def test_known_values():
    """27 = 0b11011 with four bits: 26 truncated, half goes to the even 14 * 2 = 28; 255 saturates at 240."""
    codes = np.array([[27], [29], [255], [31], [16], [0]], np.uint8)
    assert trimmed(codes, get_trim("sparq4_5opt"))[:, 0].tolist() == [26, 28, 240, 30, 16, 0]
    assert trimmed(codes, get_trim("sparq4_5opt_round"))[:, 0].tolist() == [28, 28, 240, 30, 16, 0]
    assert trimmed(codes, get_trim("sparq4_2opt"))[:, 0].tolist() == [16, 16, 240, 16, 16, 0]


@pytest.mark.parametrize("option", OPTIONS)
@pytest.mark.parametrize("rounded", [False, True])
def test_all_pairs(option, rounded):
    bits, shifts, _ = PAPER[option]
    codes = np.stack(np.meshgrid(ALL, ALL), axis=-1).reshape(-1, 2)
    left, right = trimmed(codes, Trim(option=option, rounded=rounded, pairing="pairs")).T
    alone = np.array([one(a, bits, shifts, rounded) for a in range(256)])
    wide = np.array([doubled(a, bits, rounded) for a in range(256)])
    np.testing.assert_array_equal(left, np.where(codes[:, 1] == 0, wide[codes[:, 0]], alone[codes[:, 0]]))
    np.testing.assert_array_equal(right, np.where(codes[:, 0] == 0, wide[codes[:, 1]], alone[codes[:, 1]]))


def test_pairs_stay_in_their_group_and_the_odd_one_is_whole():
    codes = np.array([[0, 27, 27, 27, 29, 27]], np.uint8)
    trim = get_trim("sparq4_5opt_v")
    assert trimmed(codes, trim).tolist() == [[0, 27, 26, 26, 28, 26]]  # (0 27) (27 27) (29 27)
    assert trimmed(codes, trim, group=3).tolist() == [[0, 27, 27, 26, 28, 27]]  # (0 27) 27 | (27 29) 27
    assert trimmed(codes, trim, group=1).tolist() == codes.tolist()  # depthwise: nobody has a partner


def test_four_versions_of_a_channel():
    """Channel i beside i + 1, i + 2, i + 3 of its four, in a circle, then alone."""
    codes = np.array([[27, 0, 29, 31]], np.uint8)
    versions = trimmed(codes, get_trim("sparq4_5opt_stc")).reshape(4, 4)
    assert versions.tolist() == [[27, 26, 26, 27], [0, 0, 0, 0], [28, 28, 29, 29], [30, 31, 30, 31]]
    tail = trimmed(codes[:, 2:], get_trim("sparq4_5opt_stc")).reshape(2, 4)
    assert tail.tolist() == [[28, 29, 29, 29], [31, 31, 30, 31]]


def test_a_shared_window_follows_the_largest():
    codes = np.full((1, 40), 9, np.uint8)
    codes[0, 3], codes[0, 39] = 200, 31
    shared = trimmed(codes, get_trim("sparq4_5opt_shared16"))[0]
    assert shared[:3].tolist() == [0, 0, 0]
    assert shared[3] == 192
    assert shared[16:32].tolist() == [9] * 16
    assert shared[32:].tolist() == [8] * 7 + [30]
    near = trimmed(codes, get_trim("sparq4_5opt_round_shared32"))[0]
    assert near[:5].tolist() == [16, 16, 16, 192, 16]
    assert near[32:].tolist() == [8] * 7 + [30]  # 4.5 goes to the even 4; 15.5 saturates


@pytest.mark.parametrize("zero_point", [1, 7, 128, 200, 255])
@pytest.mark.parametrize("name", EVERY)
def test_signs_and_zero_points(name, zero_point):
    """Magnitudes are trimmed as codes without zero point are; what rounding would push beyond the codes stays below."""
    trim = get_trim(name)
    result = trimmed(ALL[:, None], trim, zero_point).reshape(256, -1).astype(int)
    size = abs(ALL.astype(int) - zero_point)
    plain = trimmed(size.astype(np.uint8)[:, None], trim).reshape(256, -1).astype(int)
    centred = result - zero_point
    assert np.all(np.sign(centred) * np.sign(ALL.astype(int) - zero_point)[:, None] >= 0)
    beyond = plain > np.where(zero_point < ALL, 255 - zero_point, zero_point)[:, None]
    np.testing.assert_array_equal(abs(centred)[~beyond], plain[~beyond])
    assert np.all(abs(centred)[beyond] < plain[beyond])
    assert trim.rounded or not beyond.any()


@settings(max_examples=examples(400))
@given(st.data())
def test_torch_and_tables_give_the_definition(data):
    trim = get_trim(data.draw(st.sampled_from(EVERY)))
    group = data.draw(st.sampled_from([1, 2, 3, 4, 5, 7, 8, 16, 33]))
    shape = (data.draw(st.integers(0, 3)), data.draw(st.integers(1, 3)), group * data.draw(st.integers(1, 3)))
    zero_point = data.draw(st.sampled_from([0, 1, 100, 128, 255]))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    codes = rng.integers(0, 256, shape, dtype=np.uint8)
    codes[rng.random(shape) < 0.4] = zero_point
    expected = trimmed(codes, trim, zero_point, group)
    tensor = trimmed_tensor(torch.tensor(codes.astype(np.int64)), trim, zero_point, group)
    np.testing.assert_array_equal(tensor.numpy(), expected)
    if trim.pairing != "stc":
        again = trimmed(expected, trim, zero_point, group)
        assert again.shape == codes.shape


@pytest.mark.parametrize("name", [n for n in EVERY if "stc" not in n])
def test_trimming_twice_changes_nothing(name):
    """What is kept fits its window, but for pairs, where a number may have become a zero only if it was one."""
    rng = np.random.default_rng(1)
    codes = rng.integers(0, 256, (50, 32), dtype=np.uint8)
    codes[rng.random(codes.shape) < 0.3] = 0
    once = trimmed(codes, get_trim(name))
    np.testing.assert_array_equal(trimmed(once, get_trim(name)), once)


def test_bits_stored():
    bits = {t.name: t.stored_bits for t in trims()}
    assert bits["sparq4_5opt"] == 7
    assert bits["sparq4_5opt_v"] == 7.5  # a pair: 8 bits, two places of 3, one bit that says what it is
    assert bits["sparq4_2opt_round_v"] == 5.5
    assert bits["sparq4_5opt_shared16"] == 4 + 3 / 16
    assert bits["sparq4_5opt_round_shared32"] == 4 + 3 / 32


def test_names():
    assert len(EVERY) == len(set(EVERY)) == 6 * 2 * 5
    assert get_trim("sparq6_3opt_round_stc") == Trim(option="6_3opt", rounded=True, pairing="stc")
    assert is_trim("sparq9")
    assert not is_trim("uint8")
    with pytest.raises(FormatError, match=r"did you mean.*sparq4_5opt") as caught:
        get_trim("sparq4_4opt")
    assert all((caught.value.seen, caught.value.rule, caught.value.remedy))
