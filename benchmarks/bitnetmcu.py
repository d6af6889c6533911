"""Nets of the BitNetMCU kind, trained here: what their integers lose, how many bytes they take and how long an image.

    python -m benchmarks.bitnetmcu            # trains each kind on MNIST (some minutes each), prints rows for the page
    python -m benchmarks.bitnetmcu --time     # times alone, of random weights of the same shapes

Training is plain: weights are rounded in the forward pass and learn as if they were not, with steps fitted to them
before every epoch; activations of linear layers are rounded to 127 parts of the sample's largest. Test images choose
nothing. Bytes are those of exported weights; the table stands in ``docs/bitnetmcu.md``.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

import subbyte as sb
from benchmarks.machine import facts
from benchmarks.nets import loaders
from subbyte.bench.latency import random_codes, spread, timed
from subbyte.formats.qtensor import QTensor
from subbyte.ingest.bitnetmcu import ENCODINGS, Convolution, chain
from subbyte.runtime.engine import Engine

SIDE = 16  # of images, as the project takes them


class Kind(NamedTuple):
    """Channels of the convolutions (0: none), encoding of each linear layer, and numbers between them."""

    title: str
    channels: int
    encodings: tuple[int, ...]
    sizes: tuple[int, ...]

    @property
    def image(self) -> tuple[int, ...]:
        """Shape of an input."""
        return (SIDE, SIDE) if self.channels else (SIDE * SIDE,)


FULLY = (SIDE * SIDE, 64, 64, 64, 10)
KINDS = {
    "fc_2bit": Kind("linear, 2 bits, 16 wide", 0, (2, 2, 2), (SIDE * SIDE, 16, 16, 10)),
    "fc_4bit": Kind("linear, 4 bits", 0, (4,) * 4, FULLY),
    "fc_fp130": Kind("linear, FP1.3.0", 0, (20,) * 4, FULLY),
    "fc_ternary": Kind("linear, ternary", 0, (64,) * 4, FULLY),
    "cnn_16": Kind("convolutions of 16 channels, 2 and 4 bits", 16, (2, 4, 4), (64, 96, 64, 10)),
    "cnn_64": Kind("convolutions of 64 channels, 2 and 4 bits", 64, (2, 4, 4), (256, 96, 64, 10)),
}
POOLS = (1, 2, 2)


class Weights:
    """Learned reals, and the integers of a table that stand for them."""

    def __init__(self, shape: tuple[int, ...], table: Sequence[int], fan_in: int) -> None:
        self.real = torch.nn.Parameter(torch.randn(shape) * (2 / fan_in) ** 0.5)
        self.table = torch.tensor(table, dtype=torch.float32)
        self.fit()

    def integers(self, step: float) -> torch.Tensor:
        """The nearest ones."""
        edges = (self.table[1:] + self.table[:-1]) / 2
        return self.table[torch.bucketize(self.real.detach() / step, edges)]

    def fit(self) -> None:
        """The step of the least squared error, from a tenth of the largest weight at the last value to all of it."""
        largest = float(self.real.detach().abs().max() / self.table.abs().max())
        steps = [largest * i / 40 for i in range(4, 41)]
        self.step = min(steps, key=lambda s: float((self.integers(s) * s - self.real.detach()).square().sum()))

    def rounded(self) -> torch.Tensor:
        """Straight through: rounded forward, as they are backward."""
        return self.real + (self.integers(self.step) * self.step - self.real).detach()


class Net:
    """A kind with its weights."""

    def __init__(self, kind: Kind) -> None:
        c, int8 = kind.channels, range(-128, 128)
        self.windows = [Weights((c, 1, 3, 3), int8, 9) for _ in POOLS] if c else []
        tables = [ENCODINGS[e].format.integers.tolist() for e in kind.encodings]
        shapes = zip(kind.sizes[1:], kind.sizes, strict=False)
        self.linear = [Weights(s, t, s[1]) for s, t in zip(shapes, tables, strict=True)]
        self.weights = [*self.windows, *self.linear]
        self.kind = kind

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """Scores of images [N, 16, 16]."""
        v = x.unsqueeze(1) / 64
        for w, pool in zip(self.windows, POOLS, strict=False):
            v = functional.max_pool2d(functional.conv2d(v, w.rounded(), groups=v.shape[1]).relu(), pool)
        v = v.flatten(1)
        for i, layer in enumerate(self.linear):
            if i or self.windows:
                v = v.relu()
                parts = v / v.amax(1, keepdim=True).clamp(min=1e-9) * 127
                v = parts + (parts.round() - parts).detach()
            v = functional.linear(v / v.square().mean(1, keepdim=True).clamp(min=1e-9).sqrt(), layer.rounded())
        return v

    def model(self) -> sb.QuantizedModel:
        """The integers alone."""
        tensors = []
        for w, encoding in zip(self.linear, self.kind.encodings, strict=True):
            f, integers = ENCODINGS[encoding].format, w.integers(w.step).numpy().astype(np.int64)
            codes = np.searchsorted(f.integers, integers).astype(np.uint8)
            ones = np.ones(len(codes), np.float32)
            tensors.append(QTensor(codes=codes, format=f, scale=ones, zero_point=np.zeros(len(ones), np.int32)))
        windows = [w.integers(w.step).numpy().astype(np.int64)[:, 0] for w in self.windows]
        convolutions = [Convolution(w, pool) for w, pool in zip(windows, POOLS, strict=False)]
        return sb.QuantizedModel(chain(tensors, convolutions=convolutions), {"source": "benchmarks/bitnetmcu.py"})


def images(split: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """MNIST at 16 x 16, each image standardised and scaled to int8 by its own largest number."""
    x, y = loaders().mnist(split)
    pixels = torch.tensor(x[:, None] / np.float32(255))
    small = functional.interpolate(pixels, (SIDE, SIDE), mode="bilinear", antialias=True)
    reals = (small[:, 0].numpy() - 0.1307) / 0.3081
    return np.rint(reals * 127 / np.abs(reals).max((1, 2), keepdims=True)).astype(np.float32), y


def train(net: Net, x: torch.Tensor, y: torch.Tensor, epochs: int, batch: int = 128) -> None:
    """Adam, one cycle."""
    optimizer = torch.optim.Adam([w.real for w in net.weights])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=-(-len(x) // batch) * epochs)
    for epoch in range(epochs):
        for w in net.weights:
            w.fit()
        order = torch.randperm(len(x))
        for i in range(0, len(x), batch):
            part = order[i : i + batch]
            loss: Any = functional.cross_entropy(net(x[part]), y[part])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
        print(f"epoch {epoch}: loss {float(loss.detach()):.4f}", flush=True)


def stored_bytes(kind: Kind) -> int:
    """Of exported weights: rows of linear layers in whole words."""
    total = 9 * len(POOLS) * kind.channels
    for (inputs, outputs), e in zip(zip(kind.sizes, kind.sizes[1:], strict=False), kind.encodings, strict=True):
        bits = ENCODINGS[e].bits
        total += outputs * (2 * -(-inputs // 10) if bits == 0 else inputs * bits // 8)
    return total


def microseconds(kind: Kind) -> float:
    """Of the fastest call with one image, one thread, stored integers in and out."""
    graph = Net(kind).model().graph
    engine, codes = Engine(graph), random_codes(graph, 0)
    return spread(timed(lambda: engine.run(codes), None)).least


def accuracy(kind: Kind, epochs: int) -> list[float]:
    """Of the trained net in floats and in integers, in per cent, and how often they agree."""
    torch.manual_seed(0)
    net = Net(kind)
    x, y = images("train")
    train(net, torch.tensor(x), torch.tensor(y.astype(np.int64)), epochs)
    x, y = images("test")
    with torch.no_grad():
        floats = np.concatenate([net(torch.tensor(part)).argmax(1).numpy() for part in np.split(x, 10)])
    positions = net.model()(x.reshape(-1, *kind.image))
    return [100 * float(np.mean(a == b)) for a, b in ((floats, y), (positions, y), (floats, positions))]


def main(arguments: Sequence[str] | None = None) -> None:
    """Print rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--time", action="store_true", help="times alone")
    given = parser.parse_args(arguments)
    print(facts()["processor"])
    for name in given.kinds:
        kind = KINDS[name]
        row = [f"{microseconds(kind):.1f}"] if given.time else [f"{stored_bytes(kind):,}"]
        row += [] if given.time else [f"{percent:.2f}" for percent in accuracy(kind, given.epochs)]
        print(f"| {' | '.join([kind.title, *row])} |", flush=True)


if __name__ == "__main__":
    main()
