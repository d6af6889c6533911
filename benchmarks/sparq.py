"""SPARQ: every trim of 8-bit activations beside plain 8 and 4 bits, on the small networks of the shared data.

    python -m benchmarks.sparq                    # everything; updates benchmarks/results/ and docs/results/
    python -m benchmarks.sparq --nets resnet8 --weights 8 --stacks none --no-write
    python -m benchmarks.sparq --page             # the page again from stored rows

Folds, scores and the float networks' answers are those of ``benchmarks.ptq``. Rows that are stored are not measured
again unless ``--again`` asks for it, so a run that stops goes on where it was.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import subbyte as sb
from benchmarks.machine import facts
from benchmarks.nets import NETS, Fold, Net
from benchmarks.ptq import folded, quantized, score, scored, session
from benchmarks.repeated import Repeated
from benchmarks.sparq_page import FOUR, page
from subbyte.comparison import compare, sqnr
from subbyte.formats.trims import WINDOWS, Trim, get_trim, is_trim, trimmed, trims
from subbyte.formats.two_of_four import prune
from subbyte.graph.ir import IntType
from subbyte.graph.torch_executor import run_float

SMALL = ("mnist_mlp", "resnet8", "honk_res8", "vww", "dscnn_kws", "resnet20")
STACKS: dict[str, tuple[str, ...] | None] = {
    "none": (),
    "bn": ("batch_norm_reestimation",),
    "default": None,
}
"""Nothing behind rounding to nearest; channel means and variances restored behind the trimmed prefix; the house's own
(refit, rescale, gptq, bias correction), which sees trimmed operands too."""

HERE = Path(__file__).resolve().parent
STORED = HERE / "results" / "sparq.json"
TIMES = HERE / "results" / "sparq_time.json"
PAGE = HERE.parent / "docs" / "results" / "sparq.md"
KINDS = ("plain", "four", "shared", "other", "layers", "pruned")
PRUNABLE = ("resnet8", "vww")
"""Networks with convolutions of many inputs, for the table of ``stc``."""

COMPARED = 16
"""Samples of the table of layers."""


def operands() -> list[str]:
    """What is tried: plain codes, windows of four bits, of other widths, shared ones; ``stc`` wants pruning."""
    named = [t.name for t in trims() if t.pairing != "stc" and (not t.shared or t.option == "4_5opt")]
    first = [n for n in named if get_trim(n).window.bits == 4]
    return ["uint8", "uint4", *first, *(n for n in named if n not in first)]


def kind(operand: str) -> str:
    """Which of ``KINDS`` an operand is."""
    if not is_trim(operand):
        return "plain"
    trim = get_trim(operand)
    return "shared" if trim.shared else "four" if trim.window.bits == 4 else "other"


def rows_of(weights: int, stacks: list[str], kinds: list[str]) -> Iterator[tuple[str, str, tuple[str, ...] | None]]:
    """Name of a row, its recipe and its methods."""
    for operand in (name for name in operands() if kind(name) in kinds):
        for stack in stacks:
            recipe = f"wint{weights}_a{operand}_first_last_8"
            if stack == "default" and is_trim(operand) and operand not in SHOWN:
                continue
            methods = STACKS[stack]
            if operand == "uint4" and methods is not None:  # its best clip; a range of 8 bits has room for outliers
                methods = ("output_error_clipping", *methods)
            yield f"w{weights} {operand} {stack}", recipe, methods


SHOWN = [Trim(option=o, rounded=True, pairing=p).name for o in WINDOWS for p in ("none", "pairs")]
SHOWN += [Trim(option="4_5opt", rounded=True, shared=n).name for n in (16, 32)]
"""Trims that are tried behind the default methods too."""


def layers(net: Net, fold: Fold) -> dict[str, Any]:
    """By trim: per layer the noise of its operand and that of its result, each alone, and what the operand holds."""
    model, x = sb.load_model(net.path), fold.x[:COMPARED]
    found: dict[str, Any] = {}
    for name in (n for n in operands() if is_trim(n)):
        if kind(name) != "four":
            continue
        recipe = sb.Recipe(name=name, rules=(sb.Rule(weights="int8", activations=name),), methods=())
        q = sb.quantize(model, fold.calibration, recipe=recipe, samples=64)
        local = {row.name: row.sqnr_local for row in compare(q, model, {q.graph.inputs[0]: x})}
        values = q.engine.run_all(q.encode(x))
        found[name] = [
            {"layer": node.name, "result_db": round(local[node.name], 2), **_operand(q.graph, node.inputs[0], values)}
            for node in q.graph
            if node.inputs[0].endswith(f"::{name}")
        ]
    return found


PRUNED = ("uint8", *(Trim(option=o, rounded=True, pairing=p).name for o in FOUR for p in ("none", "pairs", "stc")))
PRUNED_SAMPLES = 1000


def pruned(net: Net, fold: Fold) -> dict[str, Any]:
    """Rows of the network with all convolutions but the first pruned 2:4 by magnitude, against that float network."""
    model = sb.load_model(net.path)
    constants = dict(model.constants)
    for name in [node.inputs[1] for node in model if node.op.name == "conv"][1:]:
        weights = np.moveaxis(np.asarray(constants[name], np.float32), 1, -1)
        constants[name] = np.ascontiguousarray(np.moveaxis(prune(weights), -1, 1))
    model = model.evolve(constants=constants)
    part = Fold(calibration=fold.calibration, x=fold.x[:PRUNED_SAMPLES], y=None)
    (name,) = model.inputs
    outputs = run_float(model, {name: part.x})
    exact = outputs[model.outputs[0]].numpy()
    rows = {}
    for operand in PRUNED:
        for stack in ("none", "bn"):
            recipe = f"wint8_a{operand}_first_last_8"
            rows[f"w8 {operand} {stack}"] = folded(partial(quantized, model, recipe, STACKS[stack]), [part], [exact])
            print(net.name, "pruned", operand, stack, json.dumps(rows[f"w8 {operand} {stack}"]), flush=True)
    return rows


def _operand(graph: sb.Graph, value: str, values: Mapping[str, Any]) -> dict[str, float]:
    """Decibels of the trimmed codes, per cent that are 0 and per cent that the trim leaves as they were."""
    made = graph.producer(value)
    assert made is not None
    kind = graph.types[value]
    assert isinstance(kind, IntType)
    before, after = (values[v].astype(np.float64) - kind.zero_point for v in (made.inputs[0], value))
    return {
        "operand_db": round(min(sqnr(before, after), 99.0), 2),
        "zeros": round(100 * float(np.mean(before == 0)), 1),
        "whole": round(100 * float(np.mean(before == after)), 1),
    }


def proxy() -> dict[str, float]:
    """Decibels of half-normal numbers on 8-bit codes at four standard deviations, half of them 0."""
    rng = np.random.default_rng(0)
    reals = np.abs(rng.standard_normal((20000, 32))) * (rng.random((20000, 32)) < 0.5)
    scale = 4.0 / 255
    codes = np.clip(np.rint(reals / scale), 0, 255).astype(np.uint8)
    found = {"uint8": sqnr(reals, scale * codes)}
    for name in (n for n in operands() if is_trim(n)):
        found[name] = sqnr(reals, scale * trimmed(codes, get_trim(name)))
    return {name: round(v, 1) for name, v in found.items()}


def stored_results() -> dict[str, Any]:
    """By network, what earlier runs left."""
    return dict(json.loads(STORED.read_text())["nets"]) if STORED.exists() else {}


def write(nets: Mapping[str, Any]) -> None:
    """Rows and page."""
    ordered = {name: nets[name] for name in [*NETS, *nets] if name in nets}
    results = {"command": "python -m benchmarks.sparq", "machine": facts(), "proxy": proxy(), "nets": ordered}
    STORED.write_text(json.dumps(results, indent=1) + "\n")
    PAGE.write_text(page(results, json.loads(TIMES.read_text()) if TIMES.exists() else None))


def measure(net: Net, args: argparse.Namespace) -> None:
    """All rows of one network, each stored as soon as it is there."""
    model, answer, folds = sb.load_model(net.path), session(net.path), net.brief()[: args.folds]
    exact = [answer(f.x) for f in folds]
    trials = [Repeated(model, fold) for fold in folds]
    keep = not args.no_write
    known = stored_results().get(net.name, {}) if keep else {}
    known["float32"] = score(exact, exact, [f.y for f in folds])
    rows = known.setdefault("rows", {})
    for bits in args.weights:
        for name, recipe, methods in rows_of(bits, args.stacks, args.kinds):
            if name in rows and not args.again:
                continue
            rows[name] = scored([t.made(recipe, methods) for t in trials], folds, exact)
            print(net.name, name, json.dumps(rows[name]), flush=True)
            if keep:
                write({**stored_results(), net.name: known})
    if "layers" in args.kinds and ("layers" not in known or args.again):
        known["layers"] = layers(net, folds[0])
    if net.name in PRUNABLE and "pruned" in args.kinds and ("pruned" not in known or args.again):
        known["pruned"] = pruned(net, folds[0])
    if keep:
        write({**stored_results(), net.name: known})


def main() -> None:
    """Measure and write; what is stored stays."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(SMALL), choices=list(NETS))
    parser.add_argument("--weights", nargs="*", type=int, default=[8, 4], choices=[8, 4])
    parser.add_argument("--stacks", nargs="*", default=list(STACKS), choices=list(STACKS))
    parser.add_argument(
        "--kinds", nargs="*", default=list(KINDS), choices=KINDS, help="of operands; layers, pruned: their tables"
    )
    parser.add_argument("--folds", type=int, default=1, help="of the networks that have two, how many are scored")
    parser.add_argument("--again", action="store_true", help="measure stored rows again")
    parser.add_argument("--page", action="store_true", help="write the page from stored rows, measure nothing")
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    if args.page:
        write(stored_results())
        return
    for name in args.nets:
        measure(NETS[name], args)


if __name__ == "__main__":
    main()
