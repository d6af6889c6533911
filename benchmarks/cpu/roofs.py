"""The machine's roofs, measured by ``benchmarks/roofs.cpp`` before and after each question."""

from __future__ import annotations

import json
import platform
import subprocess
from functools import cache
from pathlib import Path

from benchmarks.cpu import workshop

SOURCE = Path(__file__).resolve().parents[1] / "roofs.cpp"
Roofs = dict[str, float]


@cache
def _program() -> Path:
    compiler = subprocess.run(["g++", "-dumpfullversion"], check=True, capture_output=True).stdout
    command = ["g++", "-O3", "-std=c++17", "-march=native", "-Wall", "-Wextra", str(SOURCE), "-o"]
    parts: list[bytes | str] = [compiler, SOURCE.read_bytes(), platform.node(), *command[1:6]]
    return workshop.made("roofs.bin", parts, lambda to: _compile([*command, str(to)]))


def _compile(command: list[str]) -> None:
    subprocess.run(command, check=True)


def roofs() -> Roofs:
    """Billions of multiply-accumulates, or of bytes read, per second by name."""
    printed = subprocess.run([_program()], check=True, capture_output=True, text=True).stdout
    return {str(name): float(value) for name, value in json.loads(printed).items()}


def better(a: Roofs, b: Roofs) -> Roofs:
    """The larger figure of each."""
    return {name: max(a[name], b[name]) for name in a}
