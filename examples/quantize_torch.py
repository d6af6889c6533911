"""A PyTorch module becomes an integer-only model; the layers that lose most are shown.

python examples/quantize_torch.py
"""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

import subbyte as sb


class Network(nn.Module):
    """A residual block and a classifier: any nn.Module of supported operators works."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.Hardswish())
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.block(x)
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def main() -> None:
    torch.manual_seed(0)
    module = Network().eval()
    x = torch.randn(64, 3, 32, 32)
    graph = sb.trace(module, (x[:1],))
    q = sb.quantize(graph, x.numpy(), recipe="x31_w17")
    with torch.no_grad():
        expected = module(x).numpy()
    found = q(x.numpy())
    print(f"relative error {np.linalg.norm(found - expected) / np.linalg.norm(expected):.3f}, {q.nbytes:,} bytes")
    for layer in q.compare(graph, x.numpy()):
        print(f"{layer.name:14} {layer.op:12} {layer.format:7} {layer.sqnr_local:5.1f} dB local")


if __name__ == "__main__":
    main()
