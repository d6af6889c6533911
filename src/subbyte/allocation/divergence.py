"""How far an integer network's answers are from the float network's: agreement, divergence, noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.errors import DataError
from subbyte.graph.answer import Answer, Kind

Reals = npt.NDArray[np.float64]


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
