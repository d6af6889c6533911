"""What the user asks of a search: budgets that must be met, and promises about accuracy that must hold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from subbyte.allocation.divergence import require_classes
from subbyte.allocation.evaluate import Trial
from subbyte.allocation.problem import Budget
from subbyte.errors import AllocationError
from subbyte.graph.answer import Answer

COSTS = ("bytes", "latency_us", "bits", "bops")
"""What budgets may be set on."""


@dataclass(frozen=True, kw_only=True)
class Goal:
    """Budgets, promises, and what is made small where no budget says how small.

    Attributes:
        budgets: upper limit by name of the cost.
        max_drop: points of top-1, on labelled samples; without labels no sample may be lost whatever its label, so
            that the agreement is at least 100 minus this.
        min_agreement: with the float network, percent.
        wants_like: whether ``like`` will be given once it was tried.
        like: a trial that the answer must not be worse than: in loss, and in agreement as far as the judged samples can
            tell (one standard error of the difference).
        samples: how many are judged.
        tolerance: see ``Settings``.
        minimise: the cost that is made small where only promises are given.

    Raises:
        AllocationError: nothing is asked, or a number means nothing.
    """

    budgets: Mapping[str, float]
    max_drop: float | None = None
    min_agreement: float | None = None
    wants_like: bool = False
    like: Trial | None = None
    samples: int = 1
    tolerance: float = 0.0
    minimise: str = "bytes"

    def __post_init__(self) -> None:
        if not self.budgets and not self.promises:
            raise AllocationError(
                "the search was asked for nothing",
                "it needs a budget or a promise",
                f"give one of {', '.join(COSTS)}, max_drop, min_agreement or like",
            )
        for name, limit in self.budgets.items():
            if not (math.isfinite(limit) and limit > 0):
                raise AllocationError(f"{name} is {limit}", "budgets are positive", f"correct {name}")
        for name, value in (("max_drop", self.max_drop), ("min_agreement", self.min_agreement)):
            if value is not None and not 0 <= value <= 100:
                raise AllocationError(f"{name} is {value}", "it is given in points, 0..100", f"correct {name}")

    @property
    def promises(self) -> bool:
        """Whether accuracy was promised."""
        return self.max_drop is not None or self.min_agreement is not None or self.wants_like

    def check(self, answer: Answer) -> None:
        """Refuse promises about classes where there are none.

        Raises:
            DataError: the network's output is no row of class scores.
        """
        if self.max_drop is not None or self.min_agreement is not None:
            require_classes(answer, "max_drop" if self.max_drop is not None else "min_agreement")

    def limits(self) -> list[Budget]:
        """Budgets for the solver."""
        return [Budget(cost=name, limit=limit) for name, limit in self.budgets.items()]

    def fits(self, trial: Trial) -> bool:
        """Whether every budget is met."""
        return all(trial.costs[name] <= limit for name, limit in self.budgets.items())

    def holds(self, trial: Trial) -> bool:
        """Whether every promise is kept."""
        return not self.broken(trial)

    def broken(self, trial: Trial) -> list[str]:
        """Promises that are not kept, in words."""
        words = []
        if self.min_agreement is not None and trial.agreement < self.min_agreement:
            words.append(f"agreement {trial.agreement:.2f} % is below {self.min_agreement:g} %")
        if self.max_drop is not None and self.lost(trial) > self.max_drop + 1e-9:
            words.append(f"{self._lost_words(trial)} is above {self.max_drop:g} points")
        if self.like is not None and trial.agreement < (least := self.like.agreement - self._error(self.like)):
            words.append(f"agreement {trial.agreement:.2f} % is clearly below that of {self.like.name}, {least:.2f} %")
        if self.like is not None and trial.loss > (bound := self._most_loss(self.like)):
            words.append(f"loss {trial.loss:.4g} is above {bound:.4g}, from {self.like.loss:.4g} of {self.like.name}")
        return words

    def _error(self, like: Trial) -> float:
        """One standard error of a difference of agreements in points, or one sample; NaN for no classes."""
        p = like.agreement / 100
        return 100 * max(math.sqrt(2 * p * (1 - p) / self.samples), 1 / self.samples)

    def _most_loss(self, like: Trial) -> float:
        """The loss at which disagreements, which grow as its root, are ``tolerance`` standard errors more."""
        if math.isnan(like.agreement):
            return like.loss
        missed = max(100 - like.agreement, 100 / self.samples)
        return like.loss * max(1 + self.tolerance * self._error(like) / missed, 0.0) ** 2

    @staticmethod
    def lost(trial: Trial) -> float:
        """Points of top-1 lost: measured with labels, at most the disagreement without."""
        return 100 - trial.agreement if math.isnan(trial.drop) else trial.drop

    def _lost_words(self, trial: Trial) -> str:
        if math.isnan(trial.drop):
            return f"a possible drop of {100 - trial.agreement:.2f} points (no labels: all disagreements count)"
        return f"a drop of {trial.drop:.2f} points"
