"""How far an integer network's answers are from the float network's: agreement, divergence, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError
from subbyte.graph.ir import Graph
from subbyte.graph.ops.argmax import Argmax
from subbyte.graph.ops.log_softmax import LogSoftmax
from subbyte.graph.ops.softmax import Softmax

Reals = npt.NDArray[np.float64]
Kind = Literal["classes", "reals"]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a network is judged by.

    Attributes:
        value: name of the value, the same in the float and in the integer graph.
        kind: ``classes`` where its last axis holds the scores of at least two classes and all other axes but the
            batch have length 1; else ``reals``.
    """

    value: str
    kind: Kind


@dataclass(frozen=True, kw_only=True)
class Distance:
    """Integer network against float network on some samples.

    Attributes:
        loss: per sample: Kullback-Leibler divergence from the float network's class probabilities in nats, or, where
            there are no classes, the squared error relative to the float answer's mean square.
        agreement: percent of samples with the same best class; NaN where there are no classes.
        sqnr_db: signal to noise of the scores.
        samples: how many.
    """

    loss: float
    agreement: float
    sqnr_db: float
    samples: int


def find_answer(graph: Graph) -> Answer:
    """The first output, or what a softmax or argmax behind it reads: scores carry more than their normalised form."""
    value = graph.outputs[0]
    made = graph.producer(value)
    while (
        made is not None and isinstance(made.op, Softmax | LogSoftmax | Argmax) and made.op.axis in _last(graph, value)
    ):
        value = made.inputs[0]
        made = graph.producer(value)
    shape = [d or 0 for d in graph.types[value].shape[1:]]
    classes = bool(shape) and max(shape) > 1 and math.prod(shape) == max(shape)
    return Answer(value=value, kind="classes" if classes else "reals")


def _last(graph: Graph, value: str) -> tuple[int, ...]:
    made = graph.producer(value)
    assert made is not None
    rank = len(graph.types[made.inputs[0]].shape)
    return (-1, *(a for a in range(1, rank) if all((d or 2) == 1 for d in _rest(graph, made.inputs[0], a))))


def _rest(graph: Graph, value: str, axis: int) -> list[Any]:
    shape = graph.types[value].shape
    return [d for i, d in enumerate(shape) if i not in {0, axis}]


def require_classes(answer: Answer, why: str) -> None:
    """Refuse a network without classes where a promise speaks of them.

    Raises:
        DataError: always, for answers of kind ``reals``.
    """
    if answer.kind != "classes":
        raise DataError(
            f"the network's first output {answer.value!r} is no row of class scores",
            f"{why} speaks of the best class",
            "give budgets alone (bytes, latency_us, bits): the network is then judged by its squared error",
        )


def distance(exact: npt.NDArray[Any], approximate: npt.NDArray[Any], kind: Kind) -> Distance:
    """Distance between two answers [samples, ...]."""
    want, got = (np.asarray(a, np.float64).reshape(len(a), -1) for a in (exact, approximate))
    noise, signal = float(np.square(got - want).sum()), float(np.square(want).sum())
    ratio = noise / max(signal, 1e-300)
    classes = kind == "classes"
    return Distance(
        loss=float(np.mean(divergences(want, got))) if classes else ratio,
        agreement=100 * float(np.mean(want.argmax(1) == got.argmax(1))) if classes else math.nan,
        sqnr_db=math.inf if noise == 0 else -10 * math.log10(max(ratio, 1e-300)),
        samples=len(want),
    )


def divergences(want: Reals, got: Reals) -> Reals:
    """Kullback-Leibler divergence in nats of each row of scores [samples, classes]."""
    p, q = _log_probabilities(want), _log_probabilities(got)
    return np.asarray((np.exp(p) * (p - q)).sum(axis=1))


def _log_probabilities(scores: Reals) -> Reals:
    shifted = scores - scores.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def agreement_interval(agreement: float, samples: int) -> tuple[float, float]:
    """95 % Wilson interval of an agreement in percent, in percent.

    Source: Wilson 1927; it stays inside 0..100 and does not collapse at 100 %.
    """
    z, p = 1.959964, agreement / 100
    middle = p + z * z / (2 * samples)
    half = z * math.sqrt(p * (1 - p) / samples + z * z / (4 * samples * samples))
    unit = 1 + z * z / samples
    return 100 * (middle - half) / unit, 100 * (middle + half) / unit
