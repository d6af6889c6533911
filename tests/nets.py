"""Real networks as PyTorch modules, with the parameter names of their published checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Block(nn.Module):
    """ResNet basic block with the parameter-free shortcut (option A): every second pixel, new channels of zeros."""

    def __init__(self, before: int, after: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(after)
        self.conv2 = nn.Conv2d(after, after, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(after)
        self.new = after - before

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        if self.new:
            x = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.new // 2, self.new // 2), "constant", 0)
        out += x
        return functional.relu(out)


class ResNet20(nn.Module):
    """ResNet-20 for CIFAR-10."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = self._stage(16, 16, 1)
        self.layer2 = self._stage(16, 32, 2)
        self.layer3 = self._stage(32, 64, 2)
        self.linear = nn.Linear(64, 10)

    @staticmethod
    def _stage(before: int, after: int, stride: int) -> nn.Sequential:
        return nn.Sequential(Block(before, after, stride), Block(after, after, 1), Block(after, after, 1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out = functional.relu(self.bn1(self.conv1(x)))
        out = self.layer3(self.layer2(self.layer1(out)))
        out = functional.avg_pool2d(out, out.size()[3])
        out = out.view(out.size(0), -1)
        return self.linear(out)


def tiny_darknet() -> nn.Sequential:
    """Tiny Darknet for ImageNet: convolutions with batch norm and leaky ReLU, then a 1x1 convolution as classifier."""
    plan: list[Any] = [16, "pool", 32, "pool", (16, 128), (16, 128), "pool", (32, 256), (32, 256), "pool"]
    plan += [(64, 512), (64, 512), (128,)]
    layers: list[nn.Module] = []
    channels = 3

    def conv(after: int, kernel: int) -> None:
        nonlocal channels
        layers.append(nn.Conv2d(channels, after, kernel, padding=kernel // 2, bias=False))
        layers.extend([nn.BatchNorm2d(after, eps=1e-3), nn.LeakyReLU(0.1)])
        channels = after

    for step in plan:
        if step == "pool":
            layers.append(nn.MaxPool2d(2))
        elif isinstance(step, int):
            conv(step, 3)
        else:
            for after, kernel in zip(step, (1, 3), strict=False):
                conv(after, kernel)
    layers += [nn.Conv2d(channels, 1000, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers)


def load(net: nn.Module, path: Path) -> nn.Module:
    """The net with the weights of a safetensors file, in evaluation mode."""
    from safetensors.torch import load_file

    net.load_state_dict(load_file(path))
    return net.eval()
