"""The pretrained float networks of the shared data with their inputs, calibration samples and scored samples."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import ModuleType

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int64]

CALIBRATION = 256
"""Unlabelled samples given to every method."""


def data_folder() -> Path:
    """The shared data: ``SUBBYTE_DATA``, or ``../shared/data`` beside the repository."""
    return Path(os.environ.get("SUBBYTE_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def loaders() -> ModuleType:
    """The shared data's own reader."""
    if "subbyte_shared_loaders" not in sys.modules:
        spec = importlib.util.spec_from_file_location("subbyte_shared_loaders", data_folder() / "loaders.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return sys.modules["subbyte_shared_loaders"]


@dataclass(frozen=True, kw_only=True)
class Fold:
    """One calibration set and the samples scored with it; nothing is chosen on scored samples."""

    calibration: Floats
    x: Floats
    y: Labels | None


@dataclass(frozen=True, kw_only=True)
class Net:
    """A network: its file and its folds, ``folds(count)`` with at most ``count`` calibration samples each."""

    name: str
    file: str
    folds: Callable[..., list[Fold]]
    large: bool = False
    """Whether its samples are too large for all of them to be looked at hundreds of times."""

    @property
    def path(self) -> Path:
        """The ONNX file."""
        return data_folder() / "models" / self.file

    def brief(self) -> list[Fold]:
        """What hundreds of rows are measured with: of large samples one fold with a quarter of the calibration."""
        return self.folds(CALIBRATION // 4)[:1] if self.large else self.folds()


def _pick(n: int, count: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng(0).permutation(n)[:count]


def _two_fold(x: Floats, y: Labels | None, count: int) -> list[Fold]:
    """Calibrate on one half, score the other, and swap."""
    order = np.random.default_rng(0).permutation(len(x))
    halves = order[: len(x) // 2], order[len(x) // 2 :]
    return [Fold(calibration=x[a][:count], x=x[b], y=None if y is None else y[b]) for a, b in (halves, halves[::-1])]


def _mnist(count: int = CALIBRATION) -> list[Fold]:
    train, _ = loaders().mnist("train")
    x, y = loaders().mnist("test")
    flat = [(a.reshape(len(a), -1) / np.float32(255)).astype(np.float32) for a in (train[_pick(len(train), count)], x)]
    return [Fold(calibration=flat[0], x=flat[1], y=y.astype(np.int64))]


def _cifar(prepare: Callable[[npt.NDArray[np.uint8]], Floats], count: int = CALIBRATION) -> list[Fold]:
    train, _ = loaders().cifar10("train_lossless")
    x, y = loaders().cifar10("test_a")
    return [Fold(calibration=prepare(train[_pick(len(train), count)]), x=prepare(x), y=y.astype(np.int64))]


def _raw(x: npt.NDArray[np.uint8]) -> Floats:
    return x.astype(np.float32)


def _normalised(x: npt.NDArray[np.uint8]) -> Floats:
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    std = np.array([0.229, 0.224, 0.225], np.float32)
    z = (x.astype(np.float32) / np.float32(255) - mean) / std
    return np.ascontiguousarray(z.transpose(0, 3, 1, 2))


def _kws(count: int = CALIBRATION) -> list[Fold]:
    data = loaders().kws()
    return _two_fold(data["mfcc"].astype(np.float32), data["labels"].astype(np.int64), count)


def _honk(count: int = CALIBRATION) -> list[Fold]:
    x, y, _ = loaders().honk()
    return _two_fold(x, y.astype(np.int64), count)


def _vww(count: int = CALIBRATION) -> list[Fold]:
    from PIL import Image

    images, _ = loaders().imagenet()
    small = np.stack([np.asarray(Image.fromarray(i).resize((96, 96), Image.Resampling.BILINEAR)) for i in images])
    return _two_fold(small.astype(np.float32) / np.float32(255), None, count)


def _darknet(count: int = CALIBRATION) -> list[Fold]:
    images, y = loaders().imagenet()
    x = np.ascontiguousarray(images.transpose(0, 3, 1, 2)).astype(np.float32) / np.float32(255)
    return _two_fold(x, y.astype(np.int64), count)


NETS = {
    net.name: net
    for net in (
        Net(name="mnist_mlp", file="mnist_mlp_784_128_32_10.onnx", folds=_mnist),
        Net(name="dscnn_kws", file="mlperf_dscnn_kws.onnx", folds=_kws),
        Net(name="honk_res8", file="honk_res8_narrow_kws.onnx", folds=_honk),
        Net(name="resnet8", file="mlperf_resnet8.onnx", folds=partial(_cifar, _raw)),
        Net(name="resnet20", file="cifar_resnet20.onnx", folds=partial(_cifar, _normalised)),
        Net(name="vww", file="mlperf_vww_mobilenetv1_025_96.onnx", folds=_vww),
        Net(name="tiny_darknet", file="tiny_darknet_imagenet.onnx", folds=_darknet, large=True),
    )
}
