"""Promises: what counts as no worse than another network, as far as a few judged samples can tell."""

from __future__ import annotations

import math

import pytest

from subbyte.allocation.evaluate import Trial
from subbyte.allocation.goal import Goal
from subbyte.allocation.settings import Settings
from subbyte.errors import AllocationError


def trial(agreement: float, loss: float) -> Trial:
    return Trial(choice={}, loss=loss, agreement=agreement, drop=math.nan, sqnr_db=20.0, costs={"bytes": 1.0}, name="x")


def goal(samples: int, margin: float = 0.0, agreement: float = 96.0) -> Goal:
    return Goal(budgets={}, wants_like=True, like=trial(agreement, 0.01), samples=samples, margin=margin)


def test_agreement_may_fall_by_one_standard_error():
    """96 % on 768 samples: sqrt(2 * 0.96 * 0.04 / 768) is a point."""
    assert goal(768).holds(trial(95.01, 0.01))
    assert not goal(768).holds(trial(94.99, 0.01))
    assert "clearly below" in goal(768).broken(trial(94.0, 0.01))[0]
    assert not goal(12_000).holds(trial(95.7, 0.01))


def test_one_sample_may_always_differ():
    assert goal(100, agreement=100.0).holds(trial(99.0, 0.01))
    assert not goal(100, agreement=100.0).holds(trial(98.0, 0.01))


def test_loss_is_undercut_by_the_margin():
    assert not goal(768).holds(trial(99.0, 0.0101))
    assert goal(768, margin=0.2).holds(trial(96.0, 0.0079))
    assert "0.008" in goal(768, margin=0.2).broken(trial(96.0, 0.0081))[0]


def test_networks_without_classes_are_held_by_their_loss():
    assert goal(100, agreement=math.nan).holds(trial(math.nan, 0.01))
    assert len(goal(100, agreement=math.nan).broken(trial(math.nan, 0.02))) == 1


@pytest.mark.parametrize("margin", [-1.1, 1.0, math.nan])
def test_margins_are_shares(margin):
    with pytest.raises(AllocationError, match="margin"):
        Settings(margin=margin)
