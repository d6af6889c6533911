"""What trims cost on a CPU, and how fast codes with shared windows are packed and unpacked.

    python -m benchmarks.sparq_time               # updates benchmarks/results/sparq_time.json

Everything that is compared takes turns, round by round, on one thread; ratios are medians of paired rounds. The page is
written by ``python -m benchmarks.sparq --page``.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import subbyte as sb
from benchmarks.machine import facts
from benchmarks.nets import NETS
from subbyte.formats.trims import get_trim, trimmed
from subbyte.runtime.engine import Engine
from subbyte.runtime.shared_windows import pack_shared, unpack_shared

STORED = Path(__file__).resolve().parent / "results" / "sparq_time.json"
OPERANDS = ("uint8", "sparq4_5opt_round", "sparq4_5opt_round_v", "sparq4_5opt_round_shared16")
NETWORKS = ("resnet8", "dscnn_kws")
PACKED = ("sparq4_5opt_round_shared16", "sparq4_5opt_round_shared32")
PIECE = 2**18
"""Codes at a time, so that results stay in a cache."""

RUNS = 20
"""Of a network in a round."""

SIZES = (PIECE, 2**28)
"""Codes in all: in a cache, and in memory."""


def rounds(runs: Mapping[str, Callable[[], object]], seconds: float) -> dict[str, list[float]]:
    """Seconds of each run, one after the other, round by round for so long, at least five times."""
    found: dict[str, list[float]] = {name: [] for name in runs}
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(next(iter(found.values()))) < 5:
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            found[name].append(time.perf_counter() - begin)
    return found


def _repeat(engine: Engine, codes: Mapping[str, Any]) -> None:
    for _ in range(RUNS):
        engine.run(codes)


def network(name: str) -> dict[str, float]:
    """Microseconds of one sample under each operand; integers are the reference's."""
    net = NETS[name]
    model, fold = sb.load_model(net.path), net.folds(16)[0]
    runs: dict[str, Callable[[], object]] = {}
    for operand in OPERANDS:
        recipe = sb.Recipe(name=operand, rules=(sb.Rule(weights="int8", activations=operand),), methods=())
        q = sb.quantize(model, fold.calibration, recipe=recipe, samples=16)
        codes, engine = q.encode(fold.x[:1]), Engine(q.graph)
        for value, integers in q.reference(codes).items():
            np.testing.assert_array_equal(engine.run(codes)[value], integers)
        runs[operand] = partial(_repeat, engine, codes)
    found = rounds(runs, 5.0)
    plain = found[OPERANDS[0]]
    us = statistics.median(plain) / RUNS * 1e6
    return {o: us * statistics.median(t / p for t, p in zip(ts, plain, strict=True)) for o, ts in found.items()}


def packed(name: str, size: int) -> dict[str, Any]:
    """GB of codes a second."""
    trim, rng = get_trim(name), np.random.default_rng(0)
    shape = (PIECE // 64, 64)
    some = rng.integers(0, 256, shape) * (rng.random(shape) < 0.5)
    codes = np.tile(trimmed(some.astype(np.uint8), trim), (size // PIECE, 1)).reshape(-1, *shape)
    data = [pack_shared(piece, trim) for piece in codes]
    np.testing.assert_array_equal(unpack_shared(data[0], shape, trim), codes[0])
    runs = {
        "pack": lambda: [None for piece in codes if pack_shared(piece, trim) is None],
        "unpack": lambda: [None for piece in data if unpack_shared(piece, shape, trim) is None],
        "copy": lambda: [None for piece in codes if piece.copy() is None],
    }
    found = rounds(runs, 1.0)
    ratio = statistics.median(a / b for a, b in zip(found["unpack"], found["copy"], strict=True))
    speeds = {key: codes.size / statistics.median(times) / 1e9 for key, times in found.items()}
    return {"codes": codes.size, "trim": name, "bytes_per_code": data[0].size / PIECE, **speeds, "ratio": ratio}


def write(changes: Mapping[str, Any]) -> None:
    """What was measured now over what was there."""
    known: dict[str, Any] = json.loads(STORED.read_text()) if STORED.exists() else {"networks": {}}
    networks = {**known["networks"], **changes.get("networks", {})}
    new = {"command": "python -m benchmarks.sparq_time", "machine": facts(), "recipes": OPERANDS, **known, **changes}
    STORED.write_text(json.dumps({**new, "networks": networks}, indent=1) + "\n")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parts", nargs="*", default=[*NETWORKS, "packed"], choices=[*NETWORKS, "packed"])
    for part in parser.parse_args(arguments).parts:
        found = [packed(name, size) for size in SIZES for name in PACKED] if part == "packed" else network(part)
        write({"packed": found} if part == "packed" else {"networks": {part: found}})
        print(part, json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
