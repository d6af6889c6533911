"""Rounding with gradients: every format through one function."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from subbyte.distill.rounding import activation_grid, rounded, straight, weight_grid
from subbyte.formats import get_format
from subbyte.formats.registry import formats
from subbyte.graph.ir import IntType
from subbyte.quantization.fake_quant import fake_quantize

BYTES = [f for f in formats() if f.levels <= 256]


@pytest.mark.parametrize("format_", BYTES, ids=lambda f: f.name)
def test_weights_round_to_the_values_that_the_format_encodes(format_):
    reals = np.random.default_rng(0).standard_normal(400) * 0.6 * max(2, format_.max_abs)
    scale = 0.37
    got = rounded(
        torch.tensor(reals), torch.tensor(scale).double(), weight_grid(format_, torch.zeros(()).double()), 400
    )
    codes = format_.encode(reals, np.float64(np.float32(scale)))
    np.testing.assert_allclose(got.numpy(), format_.decode(codes, np.float64(np.float32(scale))), rtol=1e-12)


@pytest.mark.parametrize("format_", BYTES, ids=lambda f: f.name)
def test_gradients_are_those_of_the_papers(format_):
    """Inside the range 1 and Q(u) - u; outside 0 and the value at that end; the step's over sqrt(N Q_p)."""
    x = torch.linspace(1.7 * format_.lo - 1, 1.7 * format_.hi + 1, 301, dtype=torch.float64) * 0.5 + 0.0101
    x, step = x.requires_grad_(), torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    grad = torch.linspace(-1.0, 2.0, 301, dtype=torch.float64)
    (rounded(x, step, weight_grid(format_, torch.zeros(()).double()), 301) * grad).sum().backward()
    u = x.detach().numpy() / 0.5
    nearest = format_.decode(format_.encode(u))
    inside = (u >= format_.lo) & (u <= format_.hi)
    np.testing.assert_allclose(x.grad.numpy(), grad.numpy() * inside)
    slope = np.where(inside, nearest - u, nearest)
    want = float((grad.numpy() * slope).sum()) / math.sqrt(301 * max(1, format_.hi))
    assert step.grad.item() == pytest.approx(want, rel=1e-9)


@pytest.mark.parametrize(("name", "zero"), [("uint8", 131), ("uint4", 5), ("levels31", 15), ("ternary", 1)])
def test_activations_round_as_calibration_sees_them(name, zero):
    type_ = IntType(shape=(None, 50), format=get_format(name), scale=0.03125, zero_point=zero)
    x = torch.randn(20, 50, generator=torch.Generator().manual_seed(0)) * 2
    got = rounded(x, torch.tensor(type_.scale), activation_grid(type_, "cpu"), 50)
    torch.testing.assert_close(got, fake_quantize(x, type_), rtol=0, atol=0)


def test_each_channel_has_a_step_and_a_zero_point_of_its_own():
    zero = torch.tensor([[0.0], [-1.0]], dtype=torch.float64)
    step = torch.tensor([[1.0], [2.0]], dtype=torch.float64, requires_grad=True)
    x = torch.tensor([[-9.0, 9.0], [-18.0, 18.0]], dtype=torch.float64)
    y = rounded(x, step, weight_grid(get_format("int4"), zero), 2)
    assert y.tolist() == [[-8.0, 7.0], [-14.0, 16.0]]
    y.sum().backward()
    np.testing.assert_allclose(step.grad.numpy(), np.array([[-1.0], [1.0]]) / math.sqrt(2 * 8))


def test_straight_rounding_passes_gradients_as_they_are():
    x = torch.tensor([0.26, -0.9], requires_grad=True)
    y = straight(x, torch.tensor([0.5, 0.25]))
    (y * torch.tensor([3.0, 5.0])).sum().backward()
    np.testing.assert_allclose(y.detach().numpy(), [0.5, -1.0])
    assert x.grad.tolist() == [3.0, 5.0]
