"""End to end: the whole quantized network learns to answer as the float network does, from unlabelled samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch

from subbyte.distill.losses import answer_loss, answers, feature_values, learning_loss
from subbyte.distill.samples import Feeds, Samples
from subbyte.distill.student import Student
from subbyte.errors import DataError
from subbyte.graph.torch_executor import FloatExecutor
from subbyte.quantization.calibrate import Progress
from subbyte.quantization.layers import LayerWeights
from subbyte.quantization.scheme import Scheme

if TYPE_CHECKING:
    from torch import Tensor

    from subbyte.quantization.learning import Learning

LOOKS = 20
"""How often the held-out samples are looked at."""


def distill(
    scheme: Scheme, layers: Mapping[str, LayerWeights], feeds: Feeds, settings: Learning, seed: int, progress: Progress
) -> tuple[Scheme, dict[str, LayerWeights]]:
    """Weights, biases and steps learned together; of all states looked at, the one nearest on held-out samples.

    The start is one of them, so on those samples nothing gets worse.

    Args:
        scheme: the quantized network.
        layers: its weights.
        feeds: float32 samples by input name, without labels.
        settings: of learning.
        seed: of the order and mixture of samples.
        progress: called after every step.

    Raises:
        DataError: there are too few samples, or the loss is not finite.
    """
    student = Student(scheme, layers, settings.device)
    return _Distillation(student, Samples.split(feeds, settings), settings, seed).run(progress)


class _Distillation:
    def __init__(self, student: Student, samples: Samples, settings: Learning, seed: int) -> None:
        self.student, self.samples, self.settings = student, samples, settings
        self.generator = torch.Generator().manual_seed(seed)
        self.teacher = FloatExecutor(student.graph, settings.device)
        self.answers = answers(student.graph)
        self.features = feature_values(student.graph) if settings.features else []

    def run(self, progress: Progress) -> tuple[Scheme, dict[str, LayerWeights]]:
        student, steps = self.student, self.settings.steps
        every = max(1, math.ceil(steps / LOOKS))
        best, kept = self.judge(), student.state()
        optimizer = make_optimizer(student.parameters(), self.settings)
        batches = self.samples.batches(self.settings, self.generator)
        for step in range(steps):
            set_rate(optimizer, self.settings.rate * cosine(step / steps))
            loss = self._loss(next(batches))
            require_finite(loss, step, "distill")
            optimizer.zero_grad()
            torch.autograd.backward(loss)
            optimizer.step()
            if (step + 1) % every == 0 or step + 1 == steps:
                found = self.judge()
                if found < best:
                    best, kept = found, student.state()
            progress("distill", step + 1, steps)
        student.restore(kept)
        return student.result()

    def _loss(self, feeds: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            want = self.teacher.run(feeds)
        return learning_loss(self.answers, self.features, self.student.run(feeds), want, self.settings)

    def judge(self) -> float:
        """Distance of the answers on the held-out samples."""
        return held_out_loss(self.student, self.teacher, self.samples, self.settings)


def held_out_loss(student: Student, teacher: FloatExecutor, samples: Samples, settings: Learning) -> float:
    """Mean distance of the answers from the float network's on held-out samples; infinite if it is no number."""
    found, total, count = answers(student.graph), 0.0, 0
    with torch.no_grad():
        for feeds in _slices(samples.held_out, settings.batch_size):
            size = len(next(iter(feeds.values())))
            total += size * float(answer_loss(found, student.run(feeds), teacher.run(feeds)))
            count += size
    return total / count if math.isfinite(total) else math.inf


def _slices(feeds: dict[str, Tensor], size: int) -> Iterator[dict[str, Tensor]]:
    count = len(next(iter(feeds.values())))
    for first in range(0, count, size):
        yield {n: x[first : first + size] for n, x in feeds.items()}


def cosine(share: float) -> float:
    """Of the rate, when a share of all steps is done: from 1 down to 0."""
    return 0.5 * (1 + math.cos(math.pi * share))


def make_optimizer(parameters: Sequence[Tensor], settings: Learning) -> torch.optim.Optimizer:
    """Adam, or stochastic gradient descent with momentum."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=settings.rate, momentum=0.9)
    return torch.optim.Adam(parameters, lr=settings.rate)


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """One rate for all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def require_finite(loss: Tensor, step: int, method: str) -> None:
    """Refuse to go on behind a loss that is no number.

    Raises:
        DataError: the loss is not finite.
    """
    if not math.isfinite(float(loss.detach())):
        raise DataError(
            f"the loss is {float(loss.detach())} at step {step + 1}",
            "learning needs finite losses; the float network gives finite values on calibration samples",
            "look for samples on which the float network overflows, or lower the rate",
            method,
        )
