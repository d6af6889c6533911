"""Where evaluations run: in this process, in others, or on a Ray cluster; the results are the same everywhere.

A job is a function of a module, a *shared* value that all tasks read (networks, samples: large, shipped once), and
small tasks. Every task is deterministic, so it does not matter who computes it, or whether it is computed again because
its worker died.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from subbyte.errors import SubbyteError, unknown_name

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

RETRIES = 3
"""How often a task is tried again after its worker died."""

START_SECONDS = 600.0
"""In which all workers of a pool must have started."""


class Executor(Protocol):
    """Runs many tasks of one job."""

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """(number of the task, its result) as each becomes known, in any order.

        Raises:
            SubbyteError: what a task raised, or workers that die again and again.
        """

    def close(self) -> None:
        """End what was started."""


class InProcess:
    """One task after the other, here."""

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """See ``Executor``."""
        for number, task in enumerate(tasks):
            yield number, _alone(function, shared, task)

    def close(self) -> None:
        """Nothing was started."""


class Processes:
    """Processes of this machine (``concurrent.futures``); each gets the shared value once.

    Args:
        workers: how many; 0 takes one per core.
    """

    def __init__(self, workers: int = 0) -> None:
        self.workers = workers or os.cpu_count() or 1

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """See ``Executor``."""
        from concurrent.futures.process import BrokenProcessPool

        open_tasks = dict(enumerate(tasks))
        for attempt in range(RETRIES + 1):
            try:
                for number, result in self._round(function, shared, open_tasks):
                    del open_tasks[number]
                    yield number, result
            except BrokenProcessPool:
                if attempt == RETRIES:
                    raise _died(len(open_tasks)) from None
            if not open_tasks:
                return

    def _round(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: dict[int, Task]
    ) -> Iterator[tuple[int, Result]]:
        """One pool's life; it ends with the first worker that dies."""
        from concurrent.futures import ProcessPoolExecutor, as_completed
        from multiprocessing import get_context

        if not tasks:
            return
        workers = min(self.workers, len(tasks))
        # Forked from a server that has torch loaded but no thread started: threads do not survive a fork, and a
        # spawned process would load torch again.
        context = get_context("forkserver")
        context.set_forkserver_preload(["torch", "subbyte.quantization.layers"])
        # No task begins before all workers are there: a pool in which one dies while another starts waits for ever.
        together = context.Barrier(workers)
        pool = ProcessPoolExecutor(workers, context, initializer=_receive, initargs=(shared, together))
        try:
            futures = {pool.submit(_in_worker, function, task): number for number, task in dict(tasks).items()}
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def close(self) -> None:
        """Pools end with their jobs."""


class Ray:
    """A Ray cluster: the shared value lies in its object store, arrays are read there without a copy.

    Ray itself runs a task again, on another worker, if its worker died.

    Args:
        address: of a running cluster; empty uses the one this process is connected to, or starts one here.
        workers: cores of a cluster started here; 0 takes all.

    Raises:
        SubbyteError: Ray is not installed.
    """

    def __init__(self, address: str = "", workers: int = 0) -> None:
        try:
            import ray
        except ImportError:
            raise SubbyteError(
                "ray is not installed",
                "the executor 'ray' needs it",
                "install subbyte[ray], or use the executor 'processes'",
            ) from None
        self._ray: Any = ray
        self._started = not ray.is_initialized()
        if self._started:
            if address:
                ray.init(address=address, log_to_driver=False)
            else:
                ray.init(num_cpus=workers or None, include_dashboard=False, log_to_driver=False)

    def run(
        self, function: Callable[[Shared, Task], Result], shared: Shared, tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Result]]:
        """See ``Executor``."""
        ray = self._ray
        stored = ray.put(shared)
        remote = ray.remote(max_retries=RETRIES, num_cpus=1)(_alone)
        open_tasks = {remote.remote(function, stored, task): number for number, task in enumerate(tasks)}
        while open_tasks:
            ready, _ = ray.wait(list(open_tasks))
            for reference in ready:
                try:
                    result = ray.get(reference)
                except ray.exceptions.RayTaskError as error:
                    raise error.cause from error
                except ray.exceptions.WorkerCrashedError:
                    raise _died(len(open_tasks)) from None
                yield open_tasks.pop(reference), result

    def close(self) -> None:
        """Stop the cluster if it was started here, else leave it."""
        if self._started:
            self._ray.shutdown()


NAMES = ("local", "processes", "ray")


def get_executor(name: str | Executor) -> Executor:
    """An executor by name: ``local``, ``processes`` or ``ray``, the last two also as ``processes:4``.

    Raises:
        SubbyteError: an unknown name, or a number of workers below 1.
    """
    if not isinstance(name, str):
        return name
    kind, _, count = name.partition(":")
    if kind not in NAMES:
        raise SubbyteError(*unknown_name("executor", name, NAMES))
    if count and (not count.isdigit() or int(count) < 1 or kind == "local"):
        raise SubbyteError(f"executor {name!r}", "workers are counted from 1, as in processes:2", "correct the number")
    if kind == "local":
        return InProcess()
    return Processes(int(count or 0)) if kind == "processes" else Ray(workers=int(count or 0))


_shared: Any = None
"""In a worker process: what all tasks of its job read."""


def _receive(shared: Any, together: Barrier) -> None:
    global _shared  # noqa: PLW0603 - the only state that outlives a task in a worker
    _shared = shared
    together.wait(START_SECONDS)


def _in_worker(function: Callable[[Any, Any], Any], task: Any) -> Any:
    return _alone(function, _shared, task)


def _alone(function: Callable[[Shared, Task], Result], shared: Shared, task: Task) -> Result:
    with _one_thread():
        return function(shared, task)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Torch on one thread: sums are taken in the same order everywhere, and workers do not fight over cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _died(count: int) -> SubbyteError:
    return SubbyteError(
        f"workers died {RETRIES + 1} times with {count} tasks left",
        f"a task is tried again {RETRIES} times",
        "look for what ends the processes, usually too little memory: use fewer workers, or the executor 'local'",
    )
