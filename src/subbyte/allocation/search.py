"""The search: sensitivities and costs, an allocation, the real network, and on until every promise holds."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from subbyte.allocation.candidates import BASE, weights_alone
from subbyte.allocation.costs import BitOperations, Bits, Bytes, CostModel
from subbyte.allocation.estimates import estimate
from subbyte.allocation.evaluate import Trial, allocation_task, recipe_task
from subbyte.allocation.executors import Executor, get_executor
from subbyte.allocation.found import Found, LayerRow
from subbyte.allocation.frontier import sweep
from subbyte.allocation.goal import Goal
from subbyte.allocation.journal import Journal
from subbyte.allocation.problem import Allocation, Budget, Candidate, Option, Problem, keeps
from subbyte.allocation.refine import refined
from subbyte.allocation.samples import Samples, split_samples
from subbyte.allocation.sensitivity import LayerTask, Measured, losses, measure_layer
from subbyte.allocation.settings import Settings
from subbyte.allocation.solver import number, smallest, solve
from subbyte.allocation.timing import Latency, measure_latency
from subbyte.allocation.trials import Trials
from subbyte.allocation.workbench import Report, make_workbench
from subbyte.digests import digest
from subbyte.errors import AllocationError
from subbyte.graph.ir import Graph, Node
from subbyte.quantization.recipe import Recipe
from subbyte.zeroshot.domain import declared

FRONTIER = 16
"""Points of the expected frontier."""

SECTIONS = 2
"""Allocations between the last one that failed and the first one that held, tried together."""

FINISH_REACH = 0.6
"""Share of the smallest cost found without learning down to which networks that learn are tried."""


def search(
    model: Graph,
    data: Any,
    *,
    bytes: float | None = None,
    latency_us: float | None = None,
    bits: float | None = None,
    max_drop: float | None = None,
    min_agreement: float | None = None,
    like: str | Recipe | None = None,
    settings: Settings | None = None,
    progress: Report | None = None,
) -> Found:
    """The best integer model under budgets, or the smallest that keeps promises; both kinds may be given together.

    Args:
        model: float graph from ``load_model`` or ``trace``.
        data: unlabelled samples, as for ``quantize``, or from ``synthesize``; half of them, or all beyond 256, are kept
            for judging.
        bytes: of the model file, at most.
        latency_us: microseconds of one sample on this CPU and one thread, at most.
        bits: stored bits per weight, mean, at most.
        max_drop: points of top-1 that may be lost on the judged samples. Without labels every disagreement counts.
        min_agreement: percent of the judged samples that keep the float network's best class, at least.
        like: a recipe (``w4a8``) that the answer must not be worse than: in loss, and in agreement as far as the
            judged samples can tell.
        settings: candidates, pins, ties, executor, journal and everything else.
        progress: called with (stage, done, total).

    Raises:
        AllocationError: budgets that cannot be met, or promises that cannot be kept under them.
        SubbyteError: a network, data or settings that do not do.
    """
    begin = time.perf_counter()
    chosen = settings or Settings()
    asked = {"bytes": bytes, "latency_us": latency_us, "bits": bits}
    goal = Goal(
        budgets={n: float(v) for n, v in asked.items() if v is not None},
        max_drop=max_drop,
        min_agreement=min_agreement,
        wants_like=like is not None,
        tolerance=chosen.tolerance,
        minimise=chosen.minimise,
    )
    executor = get_executor(chosen.executor)
    try:
        found = _Search(declared(model, data), data, goal, chosen, executor, progress or _silent).run(like)
    finally:
        if executor is not chosen.executor:
            executor.close()
    return replace(found, seconds=time.perf_counter() - begin)


class _Search:
    """The state of one search; results go through the journal, so that nothing is computed twice."""

    def __init__(
        self, model: Graph, data: Any, goal: Goal, settings: Settings, executor: Executor, report: Report
    ) -> None:
        self.goal, self.settings, self.executor, self.report = goal, settings, executor, report
        self.samples = split_samples(
            data,
            model,
            limit=settings.samples,
            seed=settings.seed,
            preprocess=settings.preprocess,
            labels=settings.labels,
        )
        self.journal = Journal(settings.journal, _question(model, self.samples, settings))
        operands = {c.partition("/")[2] for c in settings.candidates} - {""}
        operands |= set(settings.activations)
        self.bench = make_workbench(model, self.samples, settings.arithmetic, tuple(sorted(operands)), report)
        goal.check(self.bench.answer)
        self.candidates = settings.options(self.bench.layers)
        self.timed = "latency_us" in (*goal.budgets, goal.minimise)
        self.trials = Trials(self.bench, executor, self.journal, self.timed, report)
        self.measured: list[Measured] = []
        self.tried = 0

    @property
    def cost(self) -> str:
        """The cost that is traded against accuracy."""
        return next(iter(self.goal.budgets), self.goal.minimise)

    def run(self, like: str | Recipe | None) -> Found:
        """From the 8-bit network to the answer."""
        seed = self.settings.seed
        self.eight = self.trials.run([allocation_task(self.bench, {}, "w8a8", seed)])[0]
        if like is not None:
            like_it = self.trials.run([recipe_task(like, seed)])[0]
            self.goal = replace(self.goal, like=like_it, samples=self.samples.count)
        self._check_reachable()
        self.problem = self._problem(self._losses())
        self.trials.run([recipe_task(r, seed) for r in self.settings.compare])
        best = self._within_budgets() if self.goal.budgets else self._smallest()
        if self.settings.finish:
            best = self._finished(best)
        return self._found(best)

    # What a candidate costs and loses.

    @cached_property
    def latency(self) -> Latency:
        """Measured times of every layer and candidate."""
        asked = dict.fromkeys(c for cs in self.candidates.values() for c in cs)
        return measure_latency(self.bench, asked, self.report)

    @property
    def cost_models(self) -> list[CostModel]:
        """What is counted; time only where somebody asks for it."""
        graph = self.bench.graph
        seen = {(m.layer, m.candidate): m.nbytes for m in self.measured if m.nbytes}
        size = Bytes(graph, int(self.eight.costs["bytes"]), seen)
        found: list[CostModel] = [size, Bits(graph), BitOperations(graph)]
        return [*found, self.latency] if self.timed else found

    def _problem(self, lost: Mapping[tuple[str, Candidate], float]) -> Problem:
        models = self.cost_models
        layers = {
            node.name: tuple(
                Option(candidate=c, loss=lost[node.name, c], costs={m.name: m.of(node, c) for m in models})
                for c in self.candidates[node.name]
            )
            for node in self.bench.layers
        }
        ties = self.settings.ties(self.bench.graph)
        return Problem(layers=layers, budgets=self.goal.limits(), ties=ties, fixed={m.name: m.fixed for m in models})

    def _check_reachable(self) -> None:
        """Refuse what cannot be before hours are spent on it.

        A recipe that the answer shall be like keeps its own promise, even where 8 bits everywhere, whose weights are
        fitted with less care, happen to be worse on a few judged samples.
        """
        solve(self._problem({(n, c): 0.0 for n, cs in self.candidates.items() for c in cs}))
        if not any(self.goal.holds(t) for t in self.trials.found):
            raise self._unreachable(self.eight, "8 bits everywhere")

    def _unreachable(self, best: Trial, what: str) -> AllocationError:
        return AllocationError(
            f"{what}: {'; '.join(self.goal.broken(best))}",
            f"no allocation keeps a promise that {what} break",
            "promise less" + (f"; {c}" if (c := self.samples.caution(best.agreement)) else ""),
        )

    def _losses(self) -> dict[tuple[str, Candidate], float]:
        if self.settings.sensitivity != "divergence":
            return estimate(self.bench, self.settings.sensitivity, self.candidates, self.settings.seed, self.report)
        singles = {
            name: tuple(dict.fromkeys(s for c in cs for s in _singles(c))) for name, cs in self.candidates.items()
        }
        self.measured = self._measure(singles)
        alone = losses(self.measured, self.eight.loss)
        return {(n, c): sum(alone[n, s] for s in _singles(c)) for n, cs in self.candidates.items() for c in cs}

    def _measure(self, wanted: Mapping[str, Sequence[Candidate]]) -> list[Measured]:
        """Sensitivities, from the journal as far as it has them."""
        missing = {n: tuple(c for c in cs if self.journal.get(f"{n}|{c}") is None) for n, cs in wanted.items()}
        tasks = [LayerTask(layer=n, candidates=cs) for n, cs in missing.items() if cs]
        self.report("measuring layers", 0, len(tasks))
        for done, (_, rows) in enumerate(self.executor.run(measure_layer, self.bench, tasks), 1):
            for row in rows:
                self.journal.record(f"{row.layer}|{row.candidate}", row.to_json())
            self.report("measuring layers", done, len(tasks))
        return [Measured.from_json(self.journal.get(f"{n}|{c}")) for n, cs in wanted.items() for c in cs]

    # Real networks.

    def _try(self, allocations: Sequence[Allocation], learned: bool = False) -> list[Trial]:
        self.tried += len(allocations)
        finish, learning = self.settings.finish if learned else (), self.settings.learning
        seed, stage = self.settings.seed, "learning" if learned else "trying allocations"
        return self.trials.run(
            [allocation_task(self.bench, a.choice, "", seed, finish, learning) for a in allocations], stage
        )

    def _within_budgets(self) -> Trial:
        """The least loss under the budgets, that keeps the promises."""
        best, self.problem = self._fitted(self.problem)
        for _ in range(self.settings.refine):
            closer, _ = self._fitted(self._refined(best))
            best = min(best, closer, key=lambda t: t.loss)
        if not self.goal.holds(best):
            raise self._contradiction(best)
        return best

    def _fitted(self, problem: Problem) -> tuple[Trial, Problem]:
        """An allocation that meets the budgets by the real file and the real clock, and the problem that led to it."""
        for _ in range(self.settings.trials):
            allocation = solve(problem)
            trial = self._try([allocation])[0]
            if self.goal.fits(trial):
                return trial, problem
            # The parts do not add up to the whole exactly: what is over is fixed cost from now on.
            over = {n: max(trial.costs[n] - allocation.costs[n], 0.0) for n in self.goal.budgets}
            problem = replace(problem, fixed={n: v + over.get(n, 0.0) for n, v in problem.fixed.items()})
        raise AllocationError(
            f"{self.settings.trials} allocations were tried and none met the budgets",
            "budgets are met by the real file and the real clock",
            "raise the budget a little; on a busy machine times say little",
        )

    def _smallest(self) -> Trial:
        """The smallest cost that keeps the promises."""
        known = [t for t in self.trials.found if self._possible(t)]
        if not known:  # layers are pinned, or what it shall be like has other formats
            finest = self._try([solve(replace(self.problem, budgets=()))])[0]
            if not self.goal.holds(finest):
                raise self._unreachable(finest, "the finest candidates")
            known = [finest]
        best = min(known, key=lambda t: t.costs[self.cost])
        best = self._sections(self.problem, smallest(self.problem, self.cost), best.costs[self.cost], best)
        for _ in range(self.settings.refine):
            near = self._refined(best)
            reach = 0.1 * best.costs[self.cost]
            low = max(smallest(near, self.cost), best.costs[self.cost] - reach)
            best = self._sections(near, low, best.costs[self.cost], best)
        return best

    def _finished(self, best: Trial) -> Trial:
        """Once more with methods that learn: nearer under the same budgets, or smaller at the same promises."""
        if self.goal.budgets:
            learned = self._try([Allocation(choice=best.choice, loss=best.loss, costs=best.costs)], learned=True)[0]
            good = self.goal.fits(learned) and self.goal.holds(learned)
            return min(best, learned, key=lambda t: t.loss) if good else best
        high = best.costs[self.cost]
        low = max(smallest(self.problem, self.cost), FINISH_REACH * high)
        return self._sections(self.problem, low, high, best, learned=True)

    def _possible(self, trial: Trial) -> bool:
        """Whether a trial, perhaps of a recipe to compare with, may be the answer."""
        inside = all(c in self.candidates[n] for n, c in trial.choice.items())
        return inside and keeps(replace(self.problem, budgets=()), trial.choice) and self.goal.holds(trial)

    def _sections(self, problem: Problem, low: float, high: float, best: Trial, learned: bool = False) -> Trial:
        """Between a cost that is too small and one that does, several limits at once and ever closer."""
        cost, tried = self.cost, 0
        while tried + SECTIONS <= self.settings.trials and high > low:
            inside = [low + (high - low) * (k + 1) / (SECTIONS + 1) for k in range(SECTIONS)]
            limits = [low, *inside[1:]] if tried == 0 else inside
            asked = [solve(replace(problem, budgets=[Budget(cost=cost, limit=_above(m))])) for m in limits]
            results = list(zip(limits, self._try(asked, learned), strict=True))
            tried += SECTIONS
            good = [(m, t) for m, t in results if self.goal.holds(t)]
            best = min([best, *(t for _, t in good)], key=lambda t: t.costs[cost])
            high = min([high, *(m for m, _ in good)])
            low = max([low, *(m for m, t in results if m < high and not self.goal.holds(t))])
        return best

    def _refined(self, centre: Trial) -> Problem:
        return refined(self.problem, self.cost, centre, self.trials, self.bench, self.settings.seed)

    def _row(self, node: Node, candidate: Candidate) -> LayerRow:
        costs = {m.name: m.of(node, candidate) for m in self.cost_models[:3]}
        known = next((o for o in self.problem.layers[node.name] if o.candidate == candidate), None)
        alone = weights_alone(candidate)
        seen = next((m for m in self.measured if (m.layer, m.candidate) == (node.name, alone)), None)
        return LayerRow(
            layer=node.name,
            op=node.op.name,
            candidate=candidate,
            bytes=costs["bytes"],
            bops=costs["bops"],
            microseconds=known.costs.get("latency_us") if known else None,
            loss=known.loss if known else None,
            local_db=seen.local_db if seen else None,
        )

    def _contradiction(self, best: Trial) -> AllocationError:
        limits = ", ".join(f"{n} at most {number(v)}" for n, v in self.goal.budgets.items())
        return AllocationError(
            f"under {limits}: {'; '.join(self.goal.broken(best))}",
            f"the best allocation found agrees with float on {best.agreement:.2f} %, at a loss of {best.loss:.4g}",
            "raise the budget, promise less, or leave the budget out: the smallest network that keeps it is shown then",
            "budgets and promises contradict each other",
        )

    def _found(self, best: Trial) -> Found:
        model, task = self.trials.model(best)
        if self.settings.preprocess is not None:
            model.metadata["preprocess"] = self.settings.preprocess.to_dict()
        notes = [self.samples.caution(best.agreement)] if not math.isnan(best.agreement) else []
        if self.goal.max_drop is not None and self.samples.labels is None:
            notes.append("no labels: the drop is bounded by the disagreement with the float network")
        if (like := self.goal.like) is not None and best.costs[self.cost] > like.costs[self.cost]:
            least = number(like.costs[self.cost])
            notes.append(
                f"{like.name} itself takes less, {least} {self.cost}: its formats are not among the candidates"
            )
        return Found(
            model=model,
            recipe=task.recipe,
            trial=best,
            trials=self.trials.found,
            frontier=tuple(sweep(replace(self.problem, budgets=()), self.cost, points=FRONTIER)),
            cost=self.cost,
            problem=self.problem,
            base_loss=self.eight.loss,
            rows=tuple(self._row(node, best.choice[node.name]) for node in self.bench.layers),
            measured=tuple(self.measured),
            notes=tuple(n for n in notes if n),
            seconds=0.0,
        )


def _above(limit: float) -> float:
    """A limit that its own value meets: sums of costs are rounded."""
    return limit + 1e-9 * max(1.0, abs(limit))


def _singles(candidate: Candidate) -> tuple[Candidate, ...]:
    """What is measured for a candidate: its weights at 8-bit operands, and its operand at 8-bit weights."""
    weights = weights_alone(candidate)
    if candidate.activations == BASE.activations:
        return (weights,)
    return weights, Candidate(BASE.weights, candidate.activations)


def _question(model: Graph, samples: Samples, settings: Settings) -> dict[str, Any]:
    """What every entry of a journal depends on."""
    import subbyte

    parts = [repr([(name, model.types[name]) for name in model.inputs]).encode()]  # with their domains
    parts.extend(repr((n.name, n.op, n.inputs, n.output)).encode() for n in model)
    parts.extend(np.ascontiguousarray(c).tobytes() for c in model.constants.values() if isinstance(c, np.ndarray))
    feeds = [np.ascontiguousarray(x).tobytes() for f in (samples.fit, samples.judged) for x in f.values()]
    return {
        "network": digest(*parts),
        "samples": digest(*feeds),
        "seed": settings.seed,
        "arithmetic": settings.arithmetic,
        "subbyte": subbyte.__version__,
    }


def _silent(stage: str, done: int, total: int) -> None:
    del stage, done, total
