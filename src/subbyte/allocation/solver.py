"""The least loss under budgets: a one-hot integer program, solved exactly (HiGHS, through scipy).

Generalises the allocation of HAWQ-V3 (Yao et al. 2021, section 3.4: two widths per layer, one budget) to any candidates
and any number of budgets: a multiple-choice knapsack with equality rows for ties.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from subbyte.allocation.problem import Allocation, Budget, Candidate, Problem, tied_value, total
from subbyte.errors import AllocationError

Reals = npt.NDArray[np.float64]

_OBJECTIVE = 1e5
"""The largest loss after scaling: the solver stops at absolute gaps of 1e-6."""

_TRIES = 8
"""How often a limit is tightened by the solver's rounding before that counts as a defect."""


def solve(problem: Problem) -> Allocation:
    """The allocation of least loss; among equals the solver's.

    Raises:
        AllocationError: the budgets cannot be met; says the smallest reachable value and which budget binds.
    """
    rows = _Rows.of(problem)
    limits = [b.limit for b in problem.budgets]
    for _ in range(_TRIES):
        choice = rows.minimise(rows.losses, limits)
        if choice is None:
            break
        costs = total(problem, choice).costs
        over = [costs[b.cost] - b.limit for b in problem.budgets]
        if all(o <= 0 for o in over):
            return total(problem, choice)
        # Rows hold to a tolerance, budgets hold: ask for what is over, and twice the spacing of such numbers, less.
        limits = [m - 2 * max(o, 0.0) - (1e-12 * abs(m) if o > 0 else 0) for m, o in zip(limits, over, strict=True)]
    raise _infeasible(problem, rows)


def smallest(problem: Problem, cost: str) -> float:
    """The smallest reachable value of one cost, the other budgets kept; infinity where they contradict each other."""
    rows = _Rows.of(replace(problem, budgets=[b for b in problem.budgets if b.cost != cost]))
    return rows.smallest(cost)


@dataclass(frozen=True)
class _Rows:
    """The program's arrays: one 0/1 variable per layer and candidate."""

    problem: Problem
    variables: Sequence[tuple[str, Candidate]]
    losses: Reals
    costs: Mapping[str, Reals]
    equal: Reals
    right: Reals

    @classmethod
    def of(cls, problem: Problem) -> _Rows:
        flat = [(name, option) for name, options in problem.layers.items() for option in options]
        names = set.intersection(*(set(o.costs) for _, o in flat)) if flat else set()
        equal = [[float(owner == name) for owner, _ in flat] for name in problem.layers]
        right = [1.0] * len(equal)
        for tie in problem.ties:
            first = tie.layers[0]
            for other in tie.layers[1:]:
                for value in dict.fromkeys(tied_value(tie, o.candidate) for n, o in flat if n in {first, other}):
                    sign = {first: 1.0, other: -1.0}
                    equal.append([sign.get(n, 0.0) * (tied_value(tie, o.candidate) == value) for n, o in flat])
                    right.append(0.0)
        return cls(
            problem=problem,
            variables=[(n, o.candidate) for n, o in flat],
            losses=np.array([o.loss for _, o in flat]),
            costs={c: np.array([o.costs[c] for _, o in flat]) for c in names},
            equal=np.array(equal),
            right=np.array(right),
        )

    def minimise(self, objective: Reals, limits: Sequence[float]) -> dict[str, Candidate] | None:
        """The choice of the least objective under limits of the problem's budgets; None where there is none."""
        from scipy.optimize import Bounds, LinearConstraint, milp

        if not self.variables:
            return {}
        constraints: list[Any] = [LinearConstraint(self.equal, self.right, self.right)]
        for budget, limit in zip(self.problem.budgets, limits, strict=True):
            row, least = self._above_least(self.costs[budget.cost])
            unit = max(float(row.max()), 1e-300)
            top = (limit - self.problem.base(budget.cost) - least) / unit
            constraints.append(LinearConstraint(row[None] / unit, -np.inf, top))
        scaled, _ = self._above_least(objective)
        result = milp(
            scaled * (_OBJECTIVE / max(float(scaled.max()), 1e-300)),
            constraints=constraints,
            integrality=np.ones(len(scaled)),
            bounds=Bounds(0, 1),
            options={"mip_rel_gap": 0.0, "presolve": False},  # presolve prints on standard output now and then
        )
        if result.x is None:
            return None
        return {name: c for (name, c), x in zip(self.variables, result.x, strict=True) if x > 0.5}

    def _above_least(self, row: Reals) -> tuple[Reals, float]:
        """Each variable's value above the least of its layer, so that large equal parts cost no digits; their sum."""
        least = {
            name: min(v for (n, _), v in zip(self.variables, row, strict=True) if n == name)
            for name in self.problem.layers
        }
        return row - np.array([least[n] for n, _ in self.variables]), float(sum(least.values()))

    def smallest(self, cost: str) -> float:
        """The least total of one cost under the problem's budgets; infinity where they contradict each other."""
        choice = self.minimise(self.costs[cost], [b.limit for b in self.problem.budgets])
        return float("inf") if choice is None else total(self.problem, choice).costs[cost]


def _infeasible(problem: Problem, rows: _Rows) -> AllocationError:
    """Which budget cannot be met, and how far down its cost can go."""
    free = replace(rows, problem=replace(problem, budgets=()))
    alone = {b.cost: free.smallest(b.cost) for b in problem.budgets}
    missed = [b for b in problem.budgets if alone[b.cost] > b.limit]
    if missed:
        seen = "; ".join(f"the budget on {b.cost} is {number(b.limit)}" for b in missed)
        least = "; ".join(f"the smallest reachable {b.cost} is {number(alone[b.cost], up=True)}" for b in missed)
        return AllocationError(seen, least, _REMEDY, _binding(missed))
    together = {b.cost: smallest(problem, b.cost) for b in problem.budgets}
    seen = "budgets that contradict each other: " + ", ".join(
        f"{b.cost} at most {number(b.limit)}" for b in problem.budgets
    )
    least = "; ".join(f"with the others kept, {c} reaches {number(v, up=True)}" for c, v in together.items())
    return AllocationError(seen, least, _REMEDY, _binding(problem.budgets))


_REMEDY = "raise that budget, add candidates with fewer bits, or loosen ties and pinned layers"


def _binding(budgets: Sequence[Budget]) -> str:
    return f"binding: {', '.join(dict.fromkeys(b.cost for b in budgets))}"


def number(value: float, *, up: bool = False) -> str:
    """A cost for people; ``up`` never shows less than the value."""
    if value == round(value):
        return f"{round(value):,}"
    digits = 6
    text = f"{value:.{digits}g}"
    if up and float(text) < value:
        step = 10.0 ** (np.floor(np.log10(abs(value))) - digits + 1)
        text = f"{float(text) + step:.{digits}g}"
    return text
