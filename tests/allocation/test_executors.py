import os
import sys
import time

import numpy as np
import pytest

from subbyte.allocation.executors import InProcess, Processes, Ray, get_executor
from subbyte.errors import DataError, SubbyteError
from tests.allocation import jobs

SHARED = {"x": np.arange(12, dtype=np.float32).reshape(3, 4)}


@pytest.fixture(scope="module")
def ray_executor():
    pytest.importorskip("ray", reason="ray is not installed: pip install subbyte[ray]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", os.pathsep.join(sys.path))  # workers import tests.allocation.jobs
        executor = Ray(workers=2)
        yield executor
        executor.close()


@pytest.fixture(params=["local", "processes", "ray"])
def executor(request):
    if request.param == "ray":
        return request.getfixturevalue("ray_executor")
    return InProcess() if request.param == "local" else Processes(2)


def test_results_by_number(executor):
    found = dict(executor.run(jobs.scaled_sum, SHARED, [1.0, 2.0, 0.5, 3.0]))
    assert found == {0: 66.0, 1: 132.0, 2: 33.0, 3: 198.0}
    assert dict(executor.run(jobs.scaled_sum, SHARED, [])) == {}


def test_tasks_run_on_one_thread_where_they_should(executor):
    found = [pid for _, (pid, threads) in executor.run(jobs.whoami, SHARED, [0, 1, 2]) if threads == 1]
    assert len(found) == 3
    assert (os.getpid() in found) == isinstance(executor, InProcess)


def test_errors_of_tasks_arrive_whole(executor):
    with pytest.raises(DataError, match="a task was 2") as caught:
        list(executor.run(jobs.refuses, SHARED, [1, 2, 3]))
    assert caught.value.remedy == "use 3"
    assert caught.value.place == "task 2"


@pytest.mark.parametrize("executor", ["processes", "ray"], indirect=True)
def test_tasks_of_a_killed_worker_are_tried_again(executor, tmp_path):
    shared = {**SHARED, "folder": str(tmp_path), "deadly": 1}
    assert dict(executor.run(jobs.dies_once, shared, [0, 1, 2])) == {0: 506.0, 1: 507.0, 2: 508.0}
    assert (tmp_path / "tried_1").exists()


def test_no_worker_dies_of_a_task_before_all_have_started(tmp_path, monkeypatch):
    from concurrent.futures import ProcessPoolExecutor

    start = ProcessPoolExecutor._spawn_process

    def late(pool):
        if pool._processes:
            time.sleep(1.0)  # in which the first one must not get its deadly task
        start(pool)

    monkeypatch.setattr(ProcessPoolExecutor, "_spawn_process", late)
    shared = {**SHARED, "folder": str(tmp_path), "deadly": 0}
    assert dict(Processes(2).run(jobs.dies_once, shared, [0, 1, 2])) == {0: 506.0, 1: 507.0, 2: 508.0}


def test_workers_that_always_die_are_an_error():
    executor = Processes(1)
    with pytest.raises(SubbyteError, match="workers died 4 times"):
        list(executor.run(jobs.dies_always, SHARED, [0]))


def test_names():
    assert isinstance(get_executor("local"), InProcess)
    assert get_executor("processes:3").workers == 3
    given = InProcess()
    assert get_executor(given) is given
    for wrong in ("cluster", "processes:0", "processes:x", "local:2"):
        with pytest.raises(SubbyteError):
            get_executor(wrong)
