"""Sensitivities once more, around one allocation and through the ordinary pipeline.

Behind a coarse layer the weight methods make good part of what it lost, and the more layers follow, the better. A layer
exchanged in the 8-bit network does not show that. So each layer of a good allocation is moved one step down and one up,
and the whole network is quantized and judged again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from subbyte.allocation.evaluate import Trial, TrialTask, allocation_task
from subbyte.allocation.problem import Candidate, Option, Problem
from subbyte.allocation.trials import Trials
from subbyte.allocation.workbench import Workbench

LEAST_CHANGE = 0.002
"""Steps that change the cost by less than this share are not worth a trial."""

_SMALLEST = 1e-9


def refined(problem: Problem, cost: str, centre: Trial, trials: Trials, bench: Workbench, seed: int) -> Problem:
    """The problem with each layer's neighbouring candidates alone, and losses measured around ``centre``.

    The loss of a step is the mean of what was measured here and what the problem expected, scaled to the network's
    real loss: single trials are noisy.

    Args:
        problem: losses and costs of all candidates.
        cost: by which a layer's candidates are ordered.
        centre: a trial.
        trials: run here.
        bench: of the network.
        seed: of the trials.
    """
    steps = {n: _steps(options, centre.choice[n], cost) for n, options in problem.layers.items()}
    worth = LEAST_CHANGE * centre.costs[cost]
    asked = [
        (name, o.candidate)
        for name, (now, around) in steps.items()
        for o in around
        if abs(o.costs[cost] - now.costs[cost]) >= worth
    ]
    tasks = [_moved(bench, centre, name, candidate, seed) for name, candidate in asked]
    losses = {a: t.loss for a, t in zip(asked, trials.run(tasks, "trying neighbours"), strict=True)}
    expected = sum(now.loss for now, _ in steps.values())
    scale = centre.loss / max(expected, _SMALLEST)
    layers = {}
    for name, (now, around) in steps.items():
        options = [replace(now, loss=0.0)]
        for option in around:
            prior = scale * (option.loss - now.loss)
            seen = losses.get((name, option.candidate))
            change = prior if seen is None else (prior + seen - centre.loss) / 2
            down = option.costs[cost] < now.costs[cost]
            options.append(replace(option, loss=max(change, _SMALLEST) if down else min(change, -_SMALLEST)))
        layers[name] = tuple(options)
    return replace(problem, layers=layers)


def _steps(options: Sequence[Option], current: Candidate, cost: str) -> tuple[Option, list[Option]]:
    """A layer's option in use, and the nearest one on either side by cost."""
    now = next(o for o in options if o.candidate == current)
    below = [o for o in options if o.costs[cost] < now.costs[cost]]
    above = [o for o in options if o.costs[cost] > now.costs[cost]]
    around = [max(below, key=lambda o: (o.costs[cost], -o.loss))] if below else []
    return now, [*around, min(above, key=lambda o: (o.costs[cost], o.loss))] if above else around


def _moved(bench: Workbench, centre: Trial, name: str, candidate: Candidate, seed: int) -> TrialTask:
    choice: Mapping[str, Candidate] = {**centre.choice, name: candidate}
    return allocation_task(bench, choice, f"{centre.name or 'search'}, {name} in {candidate.weights}", seed)
