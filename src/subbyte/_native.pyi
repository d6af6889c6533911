"""Types of the native extension; it trusts no caller and raises ValueError."""

from typing import Any

import numpy as np
import numpy.typing as npt

MAX_THREADS: int

def available_isas() -> list[str]: ...

class Engine:
    @property
    def isa(self) -> str: ...
    @property
    def arena_bytes(self) -> int: ...
    @property
    def weight_bytes(self) -> int: ...
    def run(
        self, inputs: list[npt.NDArray[Any]], outputs: list[npt.NDArray[Any]], batch: int, threads: int
    ) -> None: ...
    def run_keep(
        self, inputs: list[npt.NDArray[Any]], outputs: list[npt.NDArray[Any]], batch: int, threads: int
    ) -> None: ...

class Builder:
    def __init__(self) -> None: ...
    def value(self, name: str, shape: list[int], storage: str, zero_point: int, lo: int, hi: int) -> int: ...
    def op(
        self,
        kind: str,
        name: str,
        inputs: list[int],
        output: int,
        attributes: dict[str, list[int]],
        arrays: dict[str, npt.NDArray[np.integer[Any]]],
    ) -> None: ...
    def build(self, inputs: list[int], outputs: list[int], weights: str = "auto") -> Engine: ...
