"""Weights in groups with integer scales beside one scale per channel, at 4, 3 and 2 bits, on the small networks.

    python -m benchmarks.groups                   # everything; updates benchmarks/results/ and docs/results/
    python -m benchmarks.groups --nets resnet8 --formats int4 --no-write
    python -m benchmarks.groups --page            # the page again from stored rows

Folds, scores and the float networks' answers are those of ``benchmarks.ptq``; methods are the default ones.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

import subbyte as sb
from benchmarks.groups_page import page
from benchmarks.machine import facts
from benchmarks.nets import NETS, Floats, Fold, Net
from benchmarks.ptq import score, session
from subbyte.formats import PerGroup, quantize_weight
from subbyte.formats.quantize import squared_error
from subbyte.graph.passes import prepare
from subbyte.quantization.recipe import load_recipe
from subbyte.quantization.resolve import LayerChoice, resolve
from subbyte.summary import node_facts

GROUPED = ("_g128", "_g64", "_g32", "_mx")
FORMATS = {
    "int4": ("", *GROUPED, "_dg64"),
    "fp4_e2m1": ("", *GROUPED),
    "int3": ("", *GROUPED, "_dg64"),
    "int2": ("", *GROUPED, "_dg64"),
}
"""Suffixes of recipes that each format is tried with."""

HELD = ("_g32", "_mx", "_dg64")
"""Suffixes whose weights are held against the same groups with real scales."""

SMALL = ("mnist_mlp", "dscnn_kws", "honk_res8", "resnet8", "resnet20", "vww")
ENDS = {"mnist_mlp": "_first_last_same"}
"""Nearly all of the MLP's weights are in its first layer; elsewhere the first and the last keep 8 bits."""

HERE = Path(__file__).resolve().parent
STORED = HERE / "results" / "groups.json"
PAGE = HERE.parent / "docs" / "results" / "groups.md"


def recipe(net: str, format_: str, suffix: str) -> str:
    """Short name."""
    return f"w{format_}_a8{suffix}{ENDS.get(net, '_first_last_8')}"


def quantized(model: sb.Graph, name: str, format_: str, fold: Fold) -> tuple[Floats, dict[str, Any]]:
    """Outputs of one fold, and what its model takes: bytes, bits of a weight with its scales, seconds."""
    begin = time.perf_counter()
    q = sb.quantize(model, fold.calibration, recipe=name)
    seconds = time.perf_counter() - begin
    low = [f for f in node_facts(q.graph) if f.weights == format_]
    bits = sum(f.weight_bits * f.weight_count for f in low) / sum(f.weight_count for f in low)
    outputs = [np.asarray(q(fold.x[i : i + 100])) for i in range(0, len(fold.x), 100)]
    return np.concatenate(outputs), {"bits": bits, "bytes": q.nbytes, "seconds": round(seconds, 1)}


def evaluate(net: Net, formats: Sequence[str], suffixes: Sequence[str]) -> dict[str, Any]:
    """Rows by recipe of one network, that of the float network, and what MX loses by its limit."""
    model, run_float, folds = sb.load_model(net.path), session(net.path), net.brief()
    exact, labels = [run_float(f.x) for f in folds], [f.y for f in folds]
    rows: dict[str, Any] = {}
    for format_ in formats:
        for suffix in (s for s in FORMATS[format_] if s in suffixes):
            made = [quantized(model, recipe(net.name, format_, suffix), format_, fold) for fold in folds]
            row = {**score([m[0] for m in made], exact, labels), **made[0][1]}
            rows[f"{format_}{suffix}"] = row
            print(net.name, f"{format_}{suffix}", json.dumps(row), flush=True)
    return {"float32": score(exact, exact, labels), "rows": rows, "limits": limits(model, net.name, formats)}


def limits(model: sb.Graph, net: str, formats: Sequence[str]) -> dict[str, dict[str, float]]:
    """What integer scales cost, by row: SQNR of the trained weights as they are, and with a real scale for each group.

    A group that stands alone as a channel has whatever scale it likes (of MX: any power of two). ``moved`` are per cent
    of groups whose scale is another than that one's, by more than a tenth.
    """
    graph, found = prepare(model), {}
    for format_, suffix in ((f, s) for f in formats for s in HELD if s in FORMATS[f]):
        chosen = resolve(load_recipe(recipe(net, format_, suffix)), graph)
        weights = [
            (np.asarray(graph.constants[n.inputs[1]], np.float32), chosen[n.name])
            for n in graph
            if n.name in chosen and chosen[n.name].weights.name == format_
        ]
        tallies = [_tally(w.reshape(len(w), -1), choice) for w, choice in weights]
        power, held, alone = (sum(t[k] for t in tallies) for k in range(3))
        apart = np.abs(np.concatenate([t[3] for t in tallies]))
        decibels = [10 * math.log10(power / noise) for noise in (held, alone)]
        moved = 100 * float(np.mean(apart > math.log2(1.1)))
        found[f"{format_}{suffix}"] = {"held_db": decibels[0], "free_db": decibels[1], "moved": moved}
    return found


def _tally(rows: Floats, choice: LayerChoice) -> tuple[float, float, float, Floats]:
    """Power of the weights, squared error with integer and with real scales, and log2 of the scales' quotient."""
    assert isinstance(choice.granularity, PerGroup)
    size = choice.granularity.size
    held = quantize_weight(rows, choice.weights, choice.granularity, "mse", symmetric=choice.symmetric)
    assert held.groups is not None
    alone, apart = 0.0, []
    for g in range(held.groups.scale.shape[1]):
        part = rows[:, g * size : (g + 1) * size]
        free = quantize_weight(part, choice.weights, choice.granularity, "mse", symmetric=choice.symmetric)
        assert free.groups is not None
        alone += squared_error(part, free)
        steps = [np.log2(held.scale * held.groups.scale[:, g]), np.log2(free.scale * free.groups.scale[:, 0])]
        apart.append((steps[0] - steps[1])[np.any(part != 0, axis=1)])
    power = float(np.square(rows.astype(np.float64)).sum())
    return power, squared_error(rows, held), alone, np.concatenate(apart)


def stored_results() -> dict[str, Any]:
    """By network, what earlier runs left."""
    return dict(json.loads(STORED.read_text())["nets"]) if STORED.exists() else {}


def merged(stored: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """What is known of one network: new rows over old ones, in the order of ``FORMATS``."""
    both = {**stored, **new}
    names = [f"{f}{suffix}" for f, suffixes in FORMATS.items() for suffix in suffixes]
    for key in ("rows", "limits"):
        known = {**stored.get(key, {}), **new.get(key, {})}
        both[key] = {name: known[name] for name in names if name in known}
    return both


def write(nets: Mapping[str, Any]) -> None:
    """Rows and page."""
    ordered = {name: nets[name] for name in [*SMALL, *nets] if name in nets}
    results = {"command": "python -m benchmarks.groups", "machine": facts(), "nets": ordered}
    STORED.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results))


def main() -> None:
    """Evaluate and write the results; rows that are not asked for stay as they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(SMALL), choices=list(NETS))
    parser.add_argument("--formats", nargs="*", default=list(FORMATS), choices=list(FORMATS))
    parser.add_argument("--suffixes", nargs="*", default=["", *GROUPED, "_dg64"], help="of rows, e.g. _mx")
    parser.add_argument("--page", action="store_true", help="write the page from stored rows, measure nothing")
    parser.add_argument("--limits", action="store_true", help="what integer scales cost the weights, without running")
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    if args.page:
        write(stored_results())
        return
    if args.limits:
        nets = stored_results()
        for name in args.nets:
            found = limits(sb.load_model(NETS[name].path), name, args.formats)
            nets[name] = merged(nets.get(name, {}), {"limits": found})
        write(nets)
        return
    for name in args.nets:
        for format_ in args.formats:  # written after each: a long run that stops keeps what it has
            rows = evaluate(NETS[name], [format_], args.suffixes)
            if not args.no_write:
                nets = stored_results()
                write({**nets, name: merged(nets.get(name, {}), rows)})


if __name__ == "__main__":
    main()
