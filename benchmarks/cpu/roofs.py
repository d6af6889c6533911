"""The machine's roofs, measured by ``benchmarks/roofs.cpp`` before and after each question."""

from __future__ import annotations

import ctypes
import json
import math
import platform
import subprocess
from pathlib import Path

import numpy as np

from benchmarks.cpu import workshop
from benchmarks.cpu.rounds import Runner
from subbyte.bench.latency import timed
from subbyte.formats import get_format
from subbyte.graph.ir import Graph, IntType, Node
from subbyte.graph.ops import Identity
from subbyte.runtime.engine import Engine
from subbyte.runtime.profile import Roof

SOURCE = Path(__file__).resolve().parents[1] / "roofs.cpp"
LOOPS = Path(__file__).resolve().parents[2] / "native" / "src" / "roof_loops.h"
Roofs = dict[str, float]


def _built(name: str, *more: str) -> Path:
    compiler = subprocess.run(["g++", "-dumpfullversion"], check=True, capture_output=True).stdout
    options = ["-O3", "-std=c++17", "-march=native", "-Wall", "-Wextra", *more]
    parts: list[bytes | str] = [compiler, SOURCE.read_bytes(), LOOPS.read_bytes(), platform.node(), *options]

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
    """Billions per second by name: of multiply-accumulates, of rescaled results, or of bytes read."""
    printed = subprocess.run([_built("roofs.bin")], check=True, capture_output=True, text=True).stdout
    return {str(name): float(value) for name, value in json.loads(printed).items()}


def better(a: Roofs, b: Roofs) -> Roofs:
    """The larger figure of each."""
    return {name: max(a[name], b[name]) for name in a}


CALLS = 20_000


def call_floor() -> float:
    """Microseconds of a call from Python that computes nothing: one number in, the same number out."""
    kind = IntType(shape=(None, 1), format=get_format("uint8"), scale=1.0, zero_point=0)
    node = Node(name="same", op=Identity(), inputs=("x",), output="y")
    engine = Engine(Graph(name="nothing", inputs=("x",), outputs=("y",), types={"x": kind, "y": kind}, nodes=(node,)))
    codes = {"x": np.zeros((1, 1), np.uint8)}
    return min(timed(lambda: engine.run(codes), CALLS)) / 1e3


def least_us(engine: Engine, measured: Roofs, dot: str) -> float:
    """Microseconds that a network's operators need at least on one core.

    Products run at the peak, every sum is rescaled by one multiply-add, 3x3 depthwise convolutions run from the first
    cache, weights are read from as near as all weights and activations fit, activations from the first cache.

    Args:
        engine: of the network.
        measured: see ``roofs``.
        dot: name of the roof of the products.
    """
    width = dot.rsplit("_", 1)[1]
    sizes = {"read_16k": 16 << 10, "read_512k": 512 << 10, "read_8m": 8 << 20, "read_256m": math.inf}
    near = next(name for name, size in sizes.items() if engine.weight_bytes + engine.arena_bytes <= size)
    roof = Roof(
        macs=measured[dot],
        rescaled=measured.get(f"rescale_beside_{width}", 0.0),
        depthwise=measured.get(f"depthwise_{width}", 0.0),
        pieces=measured.get(f"depthwise_pieces_{width}", 0.0),
        wide_macs=measured.get(f"wide_{width}", 0.0),
        wide_depthwise=measured.get(f"wide_depthwise_{width}", 0.0),
        weights=measured[near],
        activations=measured["read_16k"],
    )
    return sum(roof.nanoseconds(work)[0] for work in engine.work()) / 1e3
