"""Distances of statistics against their closed forms."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal, kl_divergence

from subbyte.zeroshot.losses import LOSSES, SOFT, kl, l2

KEPT = torch.tensor([0.5, -3.0, 100.0]), torch.tensor([1.0, 1e-6, 400.0])


@pytest.mark.parametrize("name", LOSSES)
def test_equal_statistics_are_at_distance_0(name):
    assert float(LOSSES[name](*KEPT, *KEPT)) == pytest.approx(0, abs=1e-6)


def test_kl_is_that_of_two_gaussians():
    mean, var = torch.tensor([0.0, -3.001, 90.0]), torch.tensor([2.0, 2e-6, 300.0])
    soft = SOFT * KEPT[1]
    exact = kl_divergence(Normal(KEPT[0], (KEPT[1] + soft).sqrt()), Normal(mean, (var + soft).sqrt())).mean()
    assert float(kl(mean, var, *KEPT)) == pytest.approx(float(exact), rel=1e-4)


def test_l2_is_in_units_of_the_values():
    mean, var = KEPT[0] + 1, KEPT[1] * 4
    stds = KEPT[1].sqrt()
    assert float(l2(mean, var, *KEPT)) == pytest.approx(float((1 + stds.square()).mean()), rel=0.01)


@pytest.mark.parametrize("name", LOSSES)
def test_a_batch_without_variance_has_a_finite_distance_and_gradient(name):
    var = torch.zeros(3, requires_grad=True)
    loss = LOSSES[name](KEPT[0] + 5, var, *KEPT)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(var.grad).all()
    assert (var.grad < 0).all()
