"""Jobs for tests of executors: functions that worker processes import."""

import os
import signal
from pathlib import Path

import numpy as np
import torch

from subbyte.errors import DataError


def scaled_sum(shared, task):
    """A number that depends on the shared array and the task."""
    return float((shared["x"] * task).sum())


def whoami(shared, task):
    return os.getpid(), torch.get_num_threads()


def refuses(shared, task):
    if task == 2:
        raise DataError("a task was 2", "tasks are not 2", "use 3", "task 2")
    return task


def dies_once(shared, task):
    """Kill the worker the first time that the marked task is tried, as the system does when memory runs out."""
    mark = Path(shared["folder"]) / f"tried_{task}"
    if task == shared["deadly"] and not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return float(np.square(shared["x"]).sum()) + task


def dies_always(shared, task):
    os.kill(os.getpid(), signal.SIGKILL)
