"""Fixtures that every test may use: real data and models, seeded randomness, hypothesis settings."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from tests.limits import examples

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("SUBBYTE_DATA", ROOT.parent / "shared" / "data"))

os.environ["SUBBYTE_TUNE"] = "off"  # what this machine remembers must not decide what is tested

settings.register_profile(
    "subbyte",
    max_examples=examples(100),
    deadline=None,  # machines differ and share their cores
    derandomize=True,  # a red run is red for everybody
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
settings.load_profile("subbyte")


def pytest_configure(config: pytest.Config) -> None:
    """Torch on one thread: runs are repeatable and pytest's workers do not fight over cores."""
    del config
    os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of real models and data sets (``$SUBBYTE_DATA`` or ``../shared/data``); skips where it is missing."""
    if not (DATA / "loaders.py").is_file():
        pytest.skip(f"real models and data are not at {DATA}; set SUBBYTE_DATA to their folder")
    return DATA


@pytest.fixture(scope="session")
def loaders(shared_data: Path) -> ModuleType:
    """The data folder's own readers as a module: ``loaders.mnist("test")`` and so on."""
    spec = importlib.util.spec_from_file_location("shared_loaders", shared_data / "loaders.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def shared_model(shared_data: Path) -> Callable[[str], Path]:
    """Path of a pretrained model by file name; skips where the file is missing."""

    def path(name: str) -> Path:
        found = shared_data / "models" / name
        if not found.is_file():
            pytest.skip(f"the model {name} is not in {found.parent}")
        return found

    return path


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator seeded the same in every test."""
    return np.random.default_rng(0)
