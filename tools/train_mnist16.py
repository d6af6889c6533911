"""Train the float network of the demo and write the three files that the demo carries.

MNIST is shrunk from 28x28 to 16x16 by exact area averaging; a residual CNN of about 21,000 parameters learns it in a
few minutes on one core. Run from the repository root, with the four MNIST files of Yann LeCun in one folder:

    python tools/train_mnist16.py --data ../shared/data/mnist

Everything is seeded; on another machine or torch version the last digits of the weights may still differ.
"""

from __future__ import annotations

import argparse
import gzip
import math
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import nn

SIDE = 16
SEED = 20
TEST_IMAGES = 1000
CALIBRATION_IMAGES = 256
DEMO = Path(__file__).resolve().parent.parent / "src" / "subbyte" / "demo"

Images = npt.NDArray[np.uint8]


def read_idx(path: Path) -> Images:
    """An idx file of unsigned bytes: magic 0x0000080r, r dimensions in big endian, data."""
    raw = gzip.decompress(path.read_bytes())
    rank = raw[3]
    shape = np.frombuffer(raw, ">i4", count=rank, offset=4)
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * rank).reshape(shape)


def area_weights(source: int, target: int) -> npt.NDArray[np.float64]:
    """[target, source]: which share of each source cell every target cell covers; rows sum to 1."""
    edges = np.arange(target + 1) * source / target
    cells = np.arange(source)
    cover = np.minimum(edges[1:, None], cells + 1) - np.maximum(edges[:-1, None], cells)
    return np.asarray(np.maximum(cover, 0.0) * target / source)


def shrink(images: Images) -> Images:
    """uint8 [n, 28, 28] to uint8 [n, SIDE, SIDE] by area averaging, rounded once."""
    weights = area_weights(images.shape[1], SIDE)
    return np.rint(weights @ images.astype(np.float64) @ weights.T).astype(np.uint8)


class Network(nn.Module):
    """Stem, strided convolution, one residual block, strided convolution, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = self._conv(1, 16, 1)
        self.down1 = self._conv(16, 24, 2)
        self.block1 = self._conv(24, 24, 1)
        self.block2 = self._conv(24, 24, 1)
        self.down2 = self._conv(24, 32, 2)
        self.head = nn.Linear(32, 10)

    @staticmethod
    def _conv(inputs: int, outputs: int, stride: int) -> nn.Sequential:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(outputs)
        )

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Logits [n, 10] of images [n, 1, 16, 16] in 0..1."""
        x = torch.relu(self.down1(torch.relu(self.stem(image))))
        x = torch.relu(x + self.block2(torch.relu(self.block1(x))))
        x = torch.relu(self.down2(x))
        logits: torch.Tensor = self.head(x.mean((2, 3)))
        return logits


def shifted(batch: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """Every image moved by -1, 0 or 1 pixel in both directions; empty cells are black."""
    wide = nn.functional.pad(batch, (1, 1, 1, 1))
    n = batch.shape[0]
    top, left = torch.randint(0, 3, (2, n, 1), generator=generator)
    rows = (top + torch.arange(SIDE))[:, :, None]
    columns = (left + torch.arange(SIDE))[:, None, :]
    return wide[torch.arange(n)[:, None, None], 0, rows, columns][:, None]


def train(net: Network, images: Images, labels: Images, epochs: int, batch: int = 128) -> None:
    """One-cycle AdamW with label smoothing; prints the loss of every epoch."""
    x = torch.from_numpy(images)[:, None].float() / 255
    y = torch.from_numpy(labels.astype(np.int64))
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, weight_decay=1e-2)
    steps = epochs * math.ceil(len(x) / batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps)
    loss_of = nn.CrossEntropyLoss(label_smoothing=0.05)
    for epoch in range(epochs):
        net.train()
        start, total = time.perf_counter(), 0.0
        for part in torch.split(torch.randperm(len(x), generator=generator), batch):
            optimizer.zero_grad()
            loss = loss_of(net(shifted(x[part], generator)), y[part])
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item() * len(part)
        say(f"epoch {epoch + 1}/{epochs}: loss {total / len(x):.4f}, {time.perf_counter() - start:.0f} s")


def accuracy(net: Network, images: Images, labels: Images) -> float:
    """Top-1 in percent."""
    net.eval()
    with torch.no_grad():
        parts = torch.split(torch.from_numpy(images)[:, None].float() / 255, 1000)
        found = torch.cat([net(part).argmax(1) for part in parts]).numpy()
    return 100.0 * float(np.mean(found == labels))


def to_onnx(net: Network) -> onnx.ModelProto:
    """The network as ONNX, operator set 17, with the names of the modules; batch norm stays a node of its own."""
    nodes: list[onnx.NodeProto] = []
    weights: list[onnx.TensorProto] = []

    def constant(name: str, tensor: torch.Tensor) -> str:
        weights.append(numpy_helper.from_array(tensor.detach().numpy().astype(np.float32), name))
        return name

    def node(kind: str, name: str, *inputs: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def conv(name: str, x: str) -> str:
        conv_module, norm = getattr(net, name)
        stride = list(conv_module.stride)
        w = constant(f"{name}.weight", conv_module.weight)
        y = node("Conv", f"{name}.conv", x, w, kernel_shape=[3, 3], strides=stride, pads=[1, 1, 1, 1])
        fields = {"scale": norm.weight, "bias": norm.bias, "mean": norm.running_mean, "var": norm.running_var}
        operands = [constant(f"{name}.norm.{key}", tensor) for key, tensor in fields.items()]
        return node("BatchNormalization", f"{name}.norm", y, *operands, epsilon=norm.eps)

    x = node("Relu", "stem.relu", conv("stem", "image"))
    x = node("Relu", "down1.relu", conv("down1", x))
    y = conv("block2", node("Relu", "block1.relu", conv("block1", x)))
    x = node("Relu", "block.relu", node("Add", "block.add", x, y))
    x = node("Relu", "down2.relu", conv("down2", x))
    x = node("ReduceMean", "pool", x, axes=[2, 3], keepdims=0)
    w, b = constant("head.weight", net.head.weight), constant("head.bias", net.head.bias)
    node("Gemm", "logits", x, w, b, transB=1)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", 1, SIDE, SIDE])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 10])
    graph = helper.make_graph(nodes, "mnist16", [image], [logits], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    model.doc_string = "Residual CNN for MNIST at 16x16; input: image / 255."
    onnx.checker.check_model(model, full_check=True)
    return model


def pick(count: int, images: Images, labels: Images) -> tuple[Images, Images]:
    """A seeded random subset without repetition."""
    chosen = np.random.default_rng(SEED).permutation(len(images))[:count]
    return images[chosen], labels[chosen]


def say(text: str) -> None:
    """A line on the terminal at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Train, report, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with the four MNIST .gz files")
    parser.add_argument("--out", type=Path, default=DEMO, help="where the demo's files go")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.manual_seed(SEED)
    torch.set_num_threads(args.threads)
    x_train, y_train = (read_idx(args.data / f"train-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    x_test, y_test = (read_idx(args.data / f"t10k-{part}-ubyte.gz") for part in ("images-idx3", "labels-idx1"))
    x_train, x_test = shrink(x_train), shrink(x_test)
    net = Network()
    say(f"{sum(p.numel() for p in net.parameters())} parameters")
    train(net, x_train, y_train, args.epochs)
    test_images, test_labels = pick(TEST_IMAGES, x_test, y_test)
    whole, part = accuracy(net, x_test, y_test), accuracy(net, test_images, test_labels)
    say(f"top-1: {whole:.2f} % of 10,000 test images, {part:.2f} % of the demo's {TEST_IMAGES}")
    args.out.mkdir(parents=True, exist_ok=True)
    onnx.save(to_onnx(net), args.out / "mnist16.onnx")
    np.savez_compressed(args.out / "mnist16_test.npz", x=test_images, y=test_labels)
    calibration, _ = pick(CALIBRATION_IMAGES, x_train, y_train)
    np.savez_compressed(args.out / "mnist16_calibration.npz", x=calibration)


if __name__ == "__main__":
    main()
