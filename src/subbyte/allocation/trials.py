"""Real networks of a search: each is quantized and judged once, whatever is asked again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from subbyte.allocation.evaluate import Trial, TrialTask, try_recipe
from subbyte.allocation.executors import Executor
from subbyte.allocation.journal import Journal
from subbyte.allocation.timing import measure_network
from subbyte.allocation.workbench import Report, Workbench
from subbyte.digests import digest
from subbyte.model import QuantizedModel
from subbyte.runtime.modelfile import from_bytes


class Trials:
    """Runs trials on an executor, through the journal.

    Args:
        bench: of the network.
        executor: where they run.
        journal: what is known already.
        timed: whether each network's time is taken, here and one at a time.
        report: progress.

    Attributes:
        found: in the order in which they were first asked for.
    """

    def __init__(self, bench: Workbench, executor: Executor, journal: Journal, timed: bool, report: Report) -> None:
        self.bench = bench
        self.executor, self.journal, self.timed, self.report = executor, journal, timed, report
        self.tasks: dict[str, TrialTask] = {}
        self._found: dict[str, Trial] = {}
        self._files: dict[str, bytes] = {}

    @property
    def found(self) -> tuple[Trial, ...]:
        """All of them."""
        return tuple(self._found.values())

    def run(self, tasks: Sequence[TrialTask], stage: str = "trying allocations") -> list[Trial]:
        """Quantize and judge, as far as the journal does not know it; in the order of the tasks."""
        keys = [_key(t) for t in tasks]
        self.tasks.update(zip(keys, tasks, strict=True))
        missing = [k for k in dict.fromkeys(keys) if self.journal.get(k) is None]
        results = self.executor.run(try_recipe, self.bench, [self.tasks[k] for k in missing])
        self.report(stage, 0, len(missing))
        for done, (i, (trial, file)) in enumerate(results, 1):
            self._files[missing[i]] = file
            self.journal.record(missing[i], self._clocked(trial, file).to_json())
            self.report(stage, done, len(missing))
        for key in keys:
            self._found.setdefault(key, Trial.from_json(self.journal.get(key)))
        return [self._found[k] for k in keys]

    def model(self, trial: Trial) -> tuple[QuantizedModel, TrialTask]:
        """The integer model of a trial of this search, and its task; it is built again after an interruption."""
        key = next(k for k, t in self._found.items() if t is trial)
        if key not in self._files:
            _, (_, self._files[key]) = next(self.executor.run(try_recipe, self.bench, [self.tasks[key]]))
        graph, metadata = from_bytes(self._files[key])
        return QuantizedModel(graph, metadata), self.tasks[key]

    def _clocked(self, trial: Trial, file: bytes) -> Trial:
        if not self.timed:
            return trial
        graph, _ = from_bytes(file)
        return replace(trial, costs={**trial.costs, "latency_us": measure_network(graph)})


def _key(task: TrialTask) -> str:
    return f"trial:{digest(repr((replace(task.recipe, name=''), task.seed)).encode())}"
