"""Activations of 16 bits and weights beyond int8: what they gain in accuracy, and what they cost in time.

    python -m benchmarks.wide                # everything; updates benchmarks/results/ and docs/results/
    python -m benchmarks.wide --speed        # times alone (or --accuracy); the other rows stay
    python -m benchmarks.wide --accuracy --recipes w8a16        # this one alone

Folds, scores and the float networks' answers, and the rows of 8-bit activations, are those of ``benchmarks.ptq``.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import subbyte as sb
from benchmarks.machine import facts
from benchmarks.nets import NETS, Net
from benchmarks.ptq import folded, quantized, session
from subbyte import _native
from subbyte.bench.latency import random_codes
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference

SMALL = ("mnist_mlp", "dscnn_kws", "honk_res8", "resnet8", "resnet20", "vww")
_FLOATS = ("wfp8_e4m3fn_a8", "wfp8_e4m3fn_a16", "w8_afp8_e4m3fn", "wfp8_e4m3fn_afp8_e4m3fn")
ACCURATE = ("w8a16", "w4a16_first_last_8", "w2a16_first_last_8", *_FLOATS)
BESIDE = ("w8a8", "w4a8_first_last_8", "w2a8_first_last_8")
TIMED = ("w8a8", "w8a16", "wfp6_e3m2_a8", *_FLOATS)
ISAS = ("avx512_vbmi", "avx2")
ROUNDS = 120
HERE = Path(__file__).resolve().parent
STORED = HERE / "results" / "wide.json"
PTQ = HERE / "results" / "ptq.json"
PAGE = HERE.parent / "docs" / "results" / "wide.md"

_INTRODUCTION = """\
# Wide numbers: what they gain and what they cost

<!-- made by benchmarks/wide.py: change the code, then run it again -->

Made by `python -m benchmarks.wide`. A layer of int16 activations, of activations stored as codes, or of weights whose
integers exceed int8, runs on one plain kernel for all widths instead of the tuned ones of bytes: int32 sums where they
are proved to fit (`w8a16`, `fp6_e3m2`), int64 sums elsewhere (`fp8_e4m3fn`). It is slower than int8 on all networks but
one on AVX2, and nothing gets smaller: int16 activations take two bytes instead of one, `fp8_e4m3fn` as many as int8.
"""

_ACCURACY = """\
## Accuracy

SQNR of the outputs in dB, agreement of top-1 with the float network in per cent, default methods, the calibration and
the scored samples of [ptq.md](ptq.md), whose rows those of 8-bit activations are. 16-bit activations gain 4 to 16 dB
with 8-bit weights, at most 5 with 4-bit ones and next to nothing with 2-bit ones, where the weights decide.
`fp8_e4m3fn` weights have more levels than the full stack of methods is for, so biases alone are corrected; int8 is
better at as many bits. So is uint8 for activations: three bits of mantissa leave about 31.5 dB of every operand,
whatever its range, so that the full stack runs there (with biases alone honk_res8 has 8.5 dB, dscnn_kws 28.9).
"""

_SPEED = """\
## Time

Microseconds per sample, one thread, batch 1, and the median of how many times longer than `w8a8` it takes, paired round
by round; {rounds} rounds in turns. On {processor}. Codes are looked up one by one, which costs most in depthwise
convolutions (dscnn_kws, vww): there they meet one weight each.
"""


def accuracy(net: Net, recipes: Sequence[str], before: Mapping[str, Any]) -> dict[str, Any]:
    """Rows by recipe; those that are not asked for stay as they are."""
    model, run_float, folds = sb.load_model(net.path), session(net.path), net.folds()
    exact = [run_float(f.x) for f in folds]
    known = json.loads(PTQ.read_text())["nets"].get(net.name, {})
    rows = {**before, **{recipe: known[recipe] for recipe in BESIDE if recipe in known}}
    for recipe in recipes:
        rows[recipe] = folded(partial(quantized, model, recipe, None), folds, exact)
        print(net.name, recipe, json.dumps(rows[recipe]), flush=True)
    return rows


def speed(net: Net) -> dict[str, dict[str, list[float]]]:
    """Median microseconds and median ratio to the first recipe, by recipe and instruction set; answers are checked."""
    model, fold = sb.load_model(net.path), net.folds()[0]
    graphs = {r: sb.quantize(model, fold.calibration[:64], recipe=r, samples=16).graph for r in TIMED}
    rows: dict[str, dict[str, list[float]]] = {}
    for isa in (i for i in ISAS if i in _native.available_isas()):
        os.environ["SUBBYTE_ISA"] = isa
        calls = []
        for graph in graphs.values():
            engine, codes = Engine(graph), {k: v[:1] for k, v in random_codes(graph, 0).items()}
            expected = run_reference(graph, codes)
            assert all(np.array_equal(y, expected[name]) for name, y in engine.run(codes).items())
            calls.append(partial(engine.run, codes))
        times = np.zeros((ROUNDS, len(calls)))
        for k, i in np.ndindex(*times.shape):
            begin = time.perf_counter_ns()
            calls[i]()
            times[k, i] = (time.perf_counter_ns() - begin) / 1e3
        medians, ratios = np.median(times, axis=0), np.median(times / times[:, :1], axis=0)
        rows[isa] = {
            r: [round(float(m), 1), round(float(q), 2)] for r, m, q in zip(TIMED, medians, ratios, strict=True)
        }
        print(net.name, isa, rows[isa], flush=True)
    return rows


def page(results: Mapping[str, Any]) -> str:
    """Markdown of both tables."""
    nets = results["nets"]
    shown = [n for n in SMALL if "accuracy" in nets.get(n, {})]
    recipes = [r for r in (*BESIDE, *ACCURATE) if any(r in nets[n]["accuracy"] for n in shown)]
    lines = [_INTRODUCTION, _ACCURACY, f"| recipe | {' | '.join(shown)} |", f"|---|{'--:|' * len(shown)}"]
    for recipe in recipes:
        cells = (_accurate(nets[n]["accuracy"].get(recipe)) for n in shown)
        lines.append(f"| {recipe} | {' | '.join(cells)} |")
    lines.append("\n" + _SPEED.format(rounds=ROUNDS, processor=results["machine"]["processor"]))
    lines += [f"| network | instructions | {' | '.join(TIMED)} |", f"|---|---|{'--:|' * len(TIMED)}"]
    for name in (n for n in SMALL if "speed" in nets.get(n, {})):
        for isa, row in nets[name]["speed"].items():
            cells = (f"{row[r][0]:,.1f} ({row[r][1]:.2f})" if r in row else "-" for r in TIMED)
            lines.append(f"| {name} | {isa} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _accurate(row: Mapping[str, Any] | None) -> str:
    return f"{row['sqnr_db']:.1f}, {row['agreement']:.1f}" if row else "-"


def main() -> None:
    """Measure and write; what is not asked for stays as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(SMALL), choices=SMALL)
    parser.add_argument("--recipes", nargs="*", default=list(ACCURATE), choices=ACCURATE)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    both = args.accuracy == args.speed
    for name in args.nets:
        found: dict[str, Any] = {}
        nets = dict(json.loads(STORED.read_text())["nets"]) if STORED.exists() else {}
        if args.accuracy or both:
            found["accuracy"] = accuracy(NETS[name], args.recipes, nets.get(name, {}).get("accuracy", {}))
        if args.speed or both:
            found["speed"] = speed(NETS[name])
        nets[name] = {**nets.get(name, {}), **found}
        results = {"command": "python -m benchmarks.wide", "machine": facts(), "nets": nets}
        STORED.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
