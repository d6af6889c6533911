"""The allocation problem as data: layers with options, budgets on what they cost, and ties between layers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, get_args

from subbyte.errors import AllocationError

TieBy = Literal["candidate", "weights", "activations"]


@dataclass(frozen=True, order=True)
class Candidate:
    """One way to carry out a layer.

    Attributes:
        weights: format of the weights.
        activations: format of the operand, or a trim of its 8-bit codes.
        kernel: which kernel runs it; empty leaves that to the engine.
        granularity: of the weights' scales; empty: one per channel.
    """

    weights: str
    activations: str
    kernel: str = ""
    granularity: str = ""

    def __str__(self) -> str:
        weights = f"{self.weights}:{self.granularity}" if self.granularity else self.weights
        return f"{weights}/{self.activations}" + (f"/{self.kernel}" if self.kernel else "")


@dataclass(frozen=True, kw_only=True)
class Option:
    """A candidate of one layer with what it loses and what it costs.

    Attributes:
        candidate: what is chosen.
        loss: expected loss of accuracy, additive over layers, in any one unit.
        costs: by name of the cost (``bytes``, ``bops``, ``latency_us``), additive over layers.
    """

    candidate: Candidate
    loss: float
    costs: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Budget:
    """An upper limit on the sum of one cost."""

    cost: str
    limit: float


@dataclass(frozen=True, kw_only=True)
class Tie:
    """Layers that agree.

    Attributes:
        layers: two or more.
        by: what they agree in.
        why: in words.
    """

    layers: tuple[str, ...]
    by: TieBy = "candidate"
    why: str = ""


@dataclass(frozen=True, kw_only=True)
class Problem:
    """One option per layer, the least total loss, no budget exceeded.

    Attributes:
        layers: options by layer name; a layer with one option is pinned.
        budgets: any number of them; several on one cost are all kept.
        ties: between layers.
        fixed: costs that no choice changes, by name.

    Raises:
        AllocationError: a layer without options, one candidate twice, numbers that are not finite, a budget on a cost
            that an option does not tell, a tie of an unknown layer, or ties that leave no option.
    """

    layers: Mapping[str, Sequence[Option]]
    budgets: Sequence[Budget] = ()
    ties: Sequence[Tie] = ()
    fixed: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, options in self.layers.items():
            _check_options(name, options, {b.cost for b in self.budgets})
        for budget in self.budgets:
            if not math.isfinite(budget.limit):
                raise _wrong(f"the budget on {budget.cost} is {budget.limit}", "budgets are finite numbers")
        for tie in self.ties:
            _check_tie(tie, self.layers)

    def base(self, cost: str) -> float:
        """The part of a cost that no choice changes."""
        return self.fixed.get(cost, 0.0)


@dataclass(frozen=True, kw_only=True)
class Allocation:
    """A solution.

    Attributes:
        choice: candidate of every layer.
        loss: total.
        costs: totals by name, fixed ones included.
    """

    choice: Mapping[str, Candidate]
    loss: float
    costs: Mapping[str, float]


def pin(options: Sequence[Option], candidate: Candidate) -> tuple[Option, ...]:
    """The options of a pinned layer.

    Raises:
        AllocationError: the candidate is not among them.
    """
    kept = tuple(o for o in options if o.candidate == candidate)
    if not kept:
        known = ", ".join(str(o.candidate) for o in options)
        raise _wrong(f"a layer is pinned to {candidate}", f"its candidates are {known}")
    return kept


def total(problem: Problem, choice: Mapping[str, Candidate]) -> Allocation:
    """Loss and costs of a choice; costs that some option does not tell are left out."""
    picked = [next(o for o in options if o.candidate == choice[name]) for name, options in problem.layers.items()]
    names = set.intersection(*(set(o.costs) for o in picked)) if picked else set(problem.fixed)
    return Allocation(
        choice=dict(choice),
        loss=math.fsum(o.loss for o in picked),
        costs={n: problem.base(n) + math.fsum(o.costs[n] for o in picked) for n in sorted(names)},
    )


def tied_value(tie: Tie, candidate: Candidate) -> object:
    """What the layers of a tie agree in."""
    return candidate if tie.by == "candidate" else getattr(candidate, tie.by)


def keeps(problem: Problem, choice: Mapping[str, Candidate]) -> bool:
    """Whether a choice keeps every tie and every budget."""
    tied = all(len({tied_value(t, choice[n]) for n in t.layers}) == 1 for t in problem.ties)
    costs = total(problem, choice).costs
    return tied and all(costs[b.cost] <= b.limit for b in problem.budgets)


def _check_options(name: str, options: Sequence[Option], costs: Iterable[str]) -> None:
    place = f"layer {name!r}"
    if not options:
        raise _wrong("it has no candidate", "every layer has at least one", place)
    if len({o.candidate for o in options}) != len(options):
        raise _wrong("a candidate is listed twice", "candidates of a layer differ", place)
    for option in options:
        if not all(math.isfinite(v) for v in (option.loss, *option.costs.values())):
            raise _wrong(
                f"candidate {option.candidate} has a loss or cost that is not finite", "both are finite", place
            )
        for cost in costs:
            if cost not in option.costs:
                known = ", ".join(option.costs)
                raise _wrong(f"candidate {option.candidate} does not tell {cost!r}", f"it tells {known}", place)


def _check_tie(tie: Tie, layers: Mapping[str, Sequence[Option]]) -> None:
    place = f"tie of {', '.join(tie.layers)}"
    unknown = [n for n in tie.layers if n not in layers]
    if unknown or len(set(tie.layers)) < 2 or tie.by not in get_args(TieBy):
        raise _wrong(f"unknown are {unknown}, tied by {tie.by!r}", "a tie joins two or more layers", place)
    shared = set.intersection(*({tied_value(tie, o.candidate) for o in layers[n]} for n in tie.layers))
    if not shared:
        raise _wrong(f"no {tie.by} is open to all of them", "tied layers share at least one", place)


def _wrong(seen: str, rule: str, place: str = "") -> AllocationError:
    return AllocationError(seen, rule, "correct the allocation problem", place)
