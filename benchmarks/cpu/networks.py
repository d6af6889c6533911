"""The networks that are timed: four pretrained ones of the shared data, three with random weights for timing only."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.cpu import workshop
from benchmarks.nets import NETS, Floats

if TYPE_CHECKING:
    from torch import nn

SAMPLES = 16
"""Calibration samples of every method: scales do not change how long a network takes."""


@dataclass(frozen=True, kw_only=True)
class Subject:
    """A network to time.

    Attributes:
        name: in tables.
        title: in words.
        target: smallest ratio (fastest peer / ours at w8a8) that the milestone asks for; 0 where it asks for none.
        random: weights are random, so answers are compared but mean nothing.
        source: writes or finds the ONNX file, whose batch may be open.
        inputs: float32 samples [n, ...]; the first is timed, all calibrate.
    """

    name: str
    title: str
    target: float
    random: bool
    source: Callable[[], Path]
    inputs: Callable[[], Floats]

    @property
    def path(self) -> Path:
        """The ONNX file with batch 1, which every peer likes best."""
        source = self.source()
        return workshop.made(f"{self.name}.onnx", ["batch 1", source.read_bytes()], lambda to: _fix_batch(source, to))


def _fix_batch(source: Path, target: Path) -> None:
    import onnx

    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    del model.graph.value_info[:]
    onnx.save(onnx.shape_inference.infer_shapes(model), target)


def _pretrained(name: str, shown: str, title: str, target: float) -> Subject:
    @cache
    def inputs() -> Floats:
        return NETS[name].folds()[0].calibration[:SAMPLES]

    return Subject(name=shown, title=title, target=target, random=False, source=lambda: NETS[name].path, inputs=inputs)


def _random(name: str, title: str, target: float, shape: tuple[int, ...], build: Callable[[], nn.Module]) -> Subject:
    @cache
    def inputs() -> Floats:
        return np.random.default_rng(1).standard_normal((SAMPLES, *shape)).astype(np.float32)

    def source() -> Path:
        here = Path(__file__).read_bytes()
        return workshop.made(f"{name}-export.onnx", [here], lambda to: _export(build, shape, to))

    return Subject(name=name, title=title, target=target, random=True, source=source, inputs=inputs)


def _export(build: Callable[[], nn.Module], shape: tuple[int, ...], target: Path) -> None:
    import torch

    torch.manual_seed(0)
    net = build().eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the older exporter, which needs no further packages, says that it is old
        torch.onnx.export(
            net, (torch.zeros(1, *shape),), str(target), dynamo=False, input_names=["x"], output_names=["y"]
        )


def _conv(before: int, after: int, kernel: int, stride: int = 1, groups: int = 1, act: str = "relu") -> nn.Sequential:
    """A convolution as it is after its batch norm is folded: with a bias, variance kept by He initialization."""
    from torch import nn

    conv = nn.Conv2d(before, after, kernel, stride, kernel // 2, groups=groups)
    nn.init.kaiming_normal_(conv.weight, nonlinearity="relu" if act else "linear")
    nn.init.normal_(conv.bias, std=0.05) if conv.bias is not None else None
    acts: dict[str, list[nn.Module]] = {"relu": [nn.ReLU()], "relu6": [nn.ReLU6()], "": []}
    return nn.Sequential(conv, *acts[act])


def mobilenet_v2() -> nn.Module:
    """MobileNetV2 1.0 for 224x224 (Sandler et al. 2018, table 2)."""
    import torch
    from torch import nn

    class Bottleneck(nn.Module):
        def __init__(self, before: int, after: int, stride: int, expansion: int) -> None:
            super().__init__()
            wide = before * expansion
            grow = [_conv(before, wide, 1, act="relu6")] if expansion > 1 else []
            depthwise = _conv(wide, wide, 3, stride, groups=wide, act="relu6")
            self.body = nn.Sequential(*grow, depthwise, _conv(wide, after, 1, act=""))
            self.residual = stride == 1 and before == after

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.body(x)
            return x + y if self.residual else y

    plan = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))
    layers: list[nn.Module] = [_conv(3, 32, 3, 2, act="relu6")]
    channels = 32
    for expansion, after, count, stride in plan:
        for i in range(count):
            layers.append(Bottleneck(channels, after, stride if i == 0 else 1, expansion))
            channels = after
    layers += [_conv(channels, 1280, 1, act="relu6"), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
    return nn.Sequential(*layers)


def resnet18() -> nn.Module:
    """ResNet-18 for 224x224 (He et al. 2015, table 1)."""
    import torch
    from torch import nn

    class Block(nn.Module):
        def __init__(self, before: int, after: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(_conv(before, after, 3, stride), _conv(after, after, 3, act=""))
            plain = stride == 1 and before == after
            self.shortcut = nn.Identity() if plain else _conv(before, after, 1, stride, act="")

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.relu(self.body(x) + self.shortcut(x))

    layers: list[nn.Module] = [_conv(3, 64, 7, 2), nn.MaxPool2d(3, 2, 1)]
    channels = 64
    for after, stride in ((64, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1)):
        layers.append(Block(channels, after, stride))
        channels = after
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1000))


def autoencoder() -> nn.Module:
    """The anomaly detector of MLPerf Tiny: 640-128x4-8-128x4-640."""
    from torch import nn

    widths = (640, 128, 128, 128, 128, 8, 128, 128, 128, 128, 640)
    layers: list[nn.Module] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


SUBJECTS = {
    subject.name: subject
    for subject in (
        _pretrained("dscnn_kws", "ds_cnn", "MLPerf Tiny DS-CNN, keyword spotting", 3.5),
        _pretrained("resnet8", "resnet8", "MLPerf Tiny ResNet-8, CIFAR-10", 2.2),
        _pretrained("vww", "vww", "MLPerf Tiny MobileNetV1-0.25, 96x96", 3.5),
        _random("mobilenet_v2", "MobileNetV2-1.0, 224x224", 1.9, (3, 224, 224), mobilenet_v2),
        _random("resnet18", "ResNet-18, 224x224", 1.2, (3, 224, 224), resnet18),
        _pretrained("tiny_darknet", "tiny_darknet", "Tiny Darknet, 224x224", 1.2),
        _random("autoencoder", "MLPerf Tiny autoencoder", 0, (640,), autoencoder),
    )
}
