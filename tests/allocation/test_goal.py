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


def goal(samples: int, tolerance: float = 0.0, agreement: float = 96.0) -> Goal:
    return Goal(budgets={}, wants_like=True, like=trial(agreement, 0.01), samples=samples, tolerance=tolerance)


def test_agreement_may_fall_by_one_standard_error():
    """96 % on 768 samples: sqrt(2 * 0.96 * 0.04 / 768) is a point."""
    assert goal(768).holds(trial(95.01, 0.01))
    assert not goal(768).holds(trial(94.99, 0.01))
    assert "clearly below" in goal(768).broken(trial(94.0, 0.01))[0]
    assert not goal(12_000).holds(trial(95.7, 0.01))


def test_one_sample_may_always_differ():
    assert goal(100, agreement=100.0).holds(trial(99.0, 0.01))
    assert not goal(100, agreement=100.0).holds(trial(98.0, 0.01))


def test_loss_may_be_worth_a_share_of_the_standard_error():
    """A point beside 4 that disagree: (1 + tolerance / 4) ** 2 of the loss."""
    assert not goal(768).holds(trial(99.0, 0.0101))
    assert goal(768, tolerance=0.5).holds(trial(96.0, 0.01265))
    assert "0.01266" in goal(768, tolerance=0.5).broken(trial(96.0, 0.0127))[0]
    assert not goal(76_800, tolerance=0.5).holds(trial(96.0, 0.0104)), "more samples tell more"
    assert goal(768, tolerance=-0.5).holds(trial(96.0, 0.0076))
    assert not goal(768, tolerance=-0.5).holds(trial(96.0, 0.0077))


def test_networks_without_classes_are_held_by_their_loss():
    assert goal(100, agreement=math.nan).holds(trial(math.nan, 0.01))
    assert len(goal(100, agreement=math.nan).broken(trial(math.nan, 0.02))) == 1


@pytest.mark.parametrize("tolerance", [-1.1, 1.1, math.nan])
def test_tolerances_that_mean_nothing(tolerance):
    with pytest.raises(AllocationError, match="tolerance"):
        Settings(tolerance=tolerance)
