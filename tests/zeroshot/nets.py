"""Two tiny networks that have seen structured data, so that their batch norms remember something."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import subbyte as sb


def images(count: int, seed: int) -> np.ndarray:
    """Smooth bright stripes of bytes with a colour cast, [n, 3, 12, 12], float32 0..255."""
    rng = np.random.default_rng(seed)
    place = np.arange(12)
    phase = rng.uniform(0, 6, (count, 1, 1, 1))
    stripes = np.sin(phase + (place[:, None] + rng.integers(0, 2, (count, 1, 1, 1)) * place) * 0.6)
    cast = np.array([40.0, 0.0, -30.0])[None, :, None, None]
    return np.clip(130 + cast + 70 * stripes + rng.normal(0, 8, (count, 3, 12, 12)), 0, 255).astype(np.float32)


def waves(count: int, seed: int) -> np.ndarray:
    """Features of a sound, [n, 5, 40]: walks of different sizes, within -20..20."""
    rng = np.random.default_rng(seed)
    walks = np.cumsum(rng.normal(0, 1, (count, 5, 40)), -1) * np.array([1.0, 0.5, 0.2, 1.5, 0.7])[:, None]
    return np.clip(walks + np.array([-4.0, 0, 2, 0, 5])[:, None], -20, 20).astype(np.float32)


class Images(nn.Module):
    """Two convolutions with batch norm, one channel of which is dead and one constant, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8, momentum=None)
        self.conv2, self.bn2 = nn.Conv2d(8, 8, 3, stride=2, bias=False), nn.BatchNorm2d(8, momentum=None)
        self.last = nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(x / 64)))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.last(x.mean((2, 3)))


class Waves(nn.Module):
    """The same in one dimension, with a batch norm right behind the input."""

    def __init__(self) -> None:
        super().__init__()
        self.bn0 = nn.BatchNorm1d(5, momentum=None)
        self.conv1, self.bn1 = nn.Conv1d(5, 8, 5, padding=2, groups=1, bias=False), nn.BatchNorm1d(8, momentum=None)
        self.conv2, self.bn2 = nn.Conv1d(8, 6, 3, dilation=2), nn.BatchNorm1d(6, momentum=None)
        self.last = nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.bn1(self.conv1(self.bn0(x))))
        x = torch.relu(self.bn2(self.conv2(x)))
        return self.last(x.mean(2))


def trained(net: nn.Module, x: np.ndarray) -> nn.Module:
    """The network in evaluation mode after its batch norms have seen the data."""
    with torch.no_grad():
        net.train()(torch.from_numpy(x))
    return net.eval()


def images_module() -> Images:
    """Channel 2 of the first layer is dead (weights 0)."""
    torch.manual_seed(0)
    net = Images()
    with torch.no_grad():
        net.conv1.weight[2] = 0
    return trained(net, images(64, 1))


def images_net() -> sb.Graph:
    return sb.trace(images_module(), (torch.zeros(2, 3, 12, 12),))


def waves_net() -> sb.Graph:
    torch.manual_seed(1)
    return sb.trace(trained(Waves(), waves(64, 1)), (torch.zeros(2, 5, 40),))
