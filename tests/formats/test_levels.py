"""The 4.6-bit rule: 21 maximal pairs."""

from __future__ import annotations

import numpy as np
import pytest

from subbyte.errors import FormatError
from subbyte.formats.levels import check_pair, pairs, partner

HALF = [(255, 3), (127, 5), (85, 7), (63, 9), (51, 11), (43, 13), (37, 15), (31, 17), (29, 19), (25, 21)]


def test_the_21_pairs() -> None:
    assert [tuple(p) for p in pairs()] == [*HALF, (23, 23), *[(w, x) for x, w in reversed(HALF)]]
    bits = [p.mean_bits for p in pairs()]
    assert np.mean(bits) == pytest.approx(4.587, abs=5e-4)
    assert min(bits) == pytest.approx(4.518, abs=5e-4)
    assert max(bits) == pytest.approx(4.790, abs=5e-4)
    assert {p.recipe for p in pairs()} >= {"x31_w17", "x23_w23"}
    assert all(120 <= p.product <= 127 for p in pairs())


def test_pairs_are_maximal_by_brute_force() -> None:
    odd = range(3, 256, 2)
    legal = {(x, w) for x in odd for w in odd if (x // 2) * (w // 2) <= 127}
    maximal = {(x, w) for x, w in legal if not {(x + 2, w), (x, w + 2)} & legal}
    assert maximal == {tuple(p) for p in pairs()}


def test_check_pair_agrees_with_the_rule() -> None:
    for x in range(3, 256, 2):
        for w in range(3, 256, 2):
            if (x // 2) * (w // 2) <= 127:
                check_pair(x, w)
            else:
                with pytest.raises(FormatError) as caught:
                    check_pair(x, w)
                assert f"x{x}_w{partner(x)}" in caught.value.remedy


@pytest.mark.parametrize(("x", "w"), [(32, 17), (31, 16), (1, 3), (257, 3), (0, 0), (-3, 3)])
def test_bad_counts(x: int, w: int) -> None:
    with pytest.raises(FormatError, match="odd"):
        check_pair(x, w)
