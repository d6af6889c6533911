"""The machine's roofs, measured by ``benchmarks/roofs.cpp`` before and after each question."""

from __future__ import annotations

import ctypes
import json
import platform
import subprocess
from pathlib import Path

import numpy as np

from benchmarks.cpu import workshop
from benchmarks.cpu.rounds import Runner

SOURCE = Path(__file__).resolve().parents[1] / "roofs.cpp"
Roofs = dict[str, float]


def _built(name: str, *more: str) -> Path:
    compiler = subprocess.run(["g++", "-dumpfullversion"], check=True, capture_output=True).stdout
    options = ["-O3", "-std=c++17", "-march=native", "-Wall", "-Wextra", *more]
    parts: list[bytes | str] = [compiler, SOURCE.read_bytes(), platform.node(), *options]

    def compile_it(target: Path) -> None:
        subprocess.run(["g++", *options, str(SOURCE), "-o", str(target)], check=True)

    return workshop.made(name, parts, compile_it)


def reader(size: int) -> Runner:
    """Reads ``size`` bytes, rounded up to 2048, and nothing else: what weights of that size cost at least."""
    library = ctypes.CDLL(str(_built("roofs.so", "-shared", "-fPIC")))
    data = np.ones(-(-size // 2048) * 2048, np.uint8)
    read, address, count = library.subbyte_bench_read, ctypes.c_void_p(data.ctypes.data), ctypes.c_size_t(data.size)
    return Runner(name="plain read", kind="roof", call=lambda: read(address, count), output=lambda: data, counts=False)


def roofs() -> Roofs:
    """Billions of multiply-accumulates, or of bytes read, per second by name."""
    printed = subprocess.run([_built("roofs.bin")], check=True, capture_output=True, text=True).stdout
    return {str(name): float(value) for name, value in json.loads(printed).items()}


def better(a: Roofs, b: Roofs) -> Roofs:
    """The larger figure of each."""
    return {name: max(a[name], b[name]) for name in a}
