"""Beside the exact solver: a greedy one to compare with, and the frontier of loss over one cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from subbyte.allocation.problem import Allocation, Budget, Candidate, Option, Problem, Tie, keeps, tied_value, total
from subbyte.allocation.solver import smallest, solve
from subbyte.errors import AllocationError

_MOST_JOINT = 20_000
"""Joint options of tied layers that the greedy allocator looks at."""


def greedy(problem: Problem) -> Allocation:
    """From the least loss of every layer downwards: always the step that loses least per unit of cost gained.

    A step changes one layer, or all layers that ties join. No optimum, but every step can be told.

    Raises:
        AllocationError: it ran out of steps above a budget (the exact solver may still find an allocation).
    """
    parts = [_joint(problem, names) for names in _components(problem)]
    state = [min(options, key=lambda o: o.loss) for options in parts]
    while not keeps(problem, choice := _merged(state)):
        costs = total(problem, choice).costs
        over = {b.cost: max(abs(b.limit), 1e-300) for b in problem.budgets if costs[b.cost] > b.limit}
        steps = [
            ((o.loss - now.loss) / gain, i, o)
            for i, (options, now) in enumerate(zip(parts, state, strict=True))
            for o in options
            if (gain := sum((now.costs[c] - o.costs[c]) / unit for c, unit in over.items())) > 0
        ]
        if not steps:
            raise AllocationError(
                f"no step leads below {', '.join(over)}",
                "a greedy allocation takes one step at a time",
                "use the exact solver, or raise the budget",
            )
        _, i, best = min(steps, key=lambda s: s[:2])
        state[i] = best
    return total(problem, choice)


def sweep(problem: Problem, cost: str, points: int = 16) -> list[Allocation]:
    """Exact solutions along one cost, the cheapest first; none is beaten by another in both loss and cost.

    Args:
        problem: its budgets on other costs are kept, one on ``cost`` bounds the sweep from above.
        cost: name of the cost.
        points: how many limits are tried between the smallest value and that of the least loss.

    Raises:
        AllocationError: the other budgets cannot be met.
    """
    others = [b for b in problem.budgets if b.cost != cost]
    top = solve(problem).costs[cost]
    low = smallest(problem, cost)
    found: dict[float, Allocation] = {}
    for limit in np.linspace(low, top, max(points, 2)):
        # The end points themselves are reachable; between them a limit's last digit does not matter.
        allowed = float(limit) + 1e-9 * max(1.0, abs(float(limit)))
        allocation = solve(replace(problem, budgets=[*others, Budget(cost=cost, limit=allowed)]))
        found.setdefault(allocation.costs[cost], allocation)
    ordered = [found[c] for c in sorted(found)]
    return [a for i, a in enumerate(ordered) if all(a.loss < b.loss for b in ordered[:i])]


class _Joint:
    """Options of layers that move together, as one."""

    def __init__(self, choice: dict[str, Candidate], options: Sequence[Option]) -> None:
        self.choice = choice
        self.loss = sum(o.loss for o in options)
        names = set.intersection(*(set(o.costs) for o in options))
        self.costs = {c: sum(o.costs[c] for o in options) for c in names}


def _merged(state: Sequence[_Joint]) -> dict[str, Candidate]:
    return {name: c for part in state for name, c in part.choice.items()}


def _components(problem: Problem) -> list[list[str]]:
    """Layers that ties join directly or through others."""
    owner = {name: name for name in problem.layers}
    for tie in problem.ties:
        joined = {owner[n] for n in tie.layers}
        owner = {n: tie.layers[0] if o in joined else o for n, o in owner.items()}
    return [[n for n in problem.layers if owner[n] == root] for root in dict.fromkeys(owner.values())]


def _joint(problem: Problem, names: Sequence[str]) -> list[_Joint]:
    """Combinations of one component's options that keep its ties."""
    ties = [t for t in problem.ties if set(t.layers) <= set(names)]
    found = itertools.islice(_combinations(problem, names, ties, {}), _MOST_JOINT)
    return [_Joint({n: o.candidate for n, o in picked.items()}, list(picked.values())) for picked in found]


def _combinations(
    problem: Problem, names: Sequence[str], ties: Sequence[Tie], picked: dict[str, Option]
) -> Iterator[dict[str, Option]]:
    """Every way to go on from the layers picked so far, in depth first order."""
    if len(picked) == len(names):
        yield dict(picked)
        return
    name = names[len(picked)]
    for option in problem.layers[name]:
        agrees = all(
            tied_value(t, option.candidate) == tied_value(t, picked[n].candidate)
            for t in ties
            if name in t.layers
            for n in t.layers
            if n in picked
        )
        if agrees:
            yield from _combinations(problem, names, ties, {**picked, name: option})
