"""Accuracy of every recipe, with every stack of methods, on every network of the shared data; ONNX Runtime beside it.

    python -m benchmarks.ptq                      # everything; updates benchmarks/results/ and docs/results/
    python -m benchmarks.ptq --nets resnet8 --recipes w8a8 --stacks default --no-write
    python -m benchmarks.ptq --nets tiny_darknet --recipes benchmarks/recipes/w4a4_second_operand_8.toml

All methods get the same unlabelled samples. Integer models run on the native engine.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import subbyte as sb
from benchmarks.machine import facts
from benchmarks.nets import NETS, Floats, Fold, Net
from subbyte.quantization.recipe import METHODS, load_recipe

RECIPES = (
    "w8a8",
    "w4a8_first_last_8",
    "w3a8_first_last_8",
    "w2a8_first_last_8",
    "wternary_a8_first_last_8",
    "w4a4_first_last_8",
    "x31_w17_first_last_8",
    "x23_w23_first_last_8",
)
WITHOUT_DESCENT = tuple(m for m in METHODS if m != "descent")
"""The default methods of formats with more than 5 levels; stacks that were measured before ``descent`` was there."""

STACKS: dict[str, tuple[str, ...] | None] = {
    "default": None,
    "nearest": (),
    "bias_correction": ("bias_correction",),
    "gptq": ("gptq", "bias_correction"),
    "inq": ("inq", "bias_correction"),
    "refit": ("refit", "bias_correction"),
    "refit_gptq": ("refit", "gptq", "bias_correction"),
    "equalization": ("equalization",),
    "bias_absorption": ("bias_absorption",),
    "smoothing": ("smoothing",),
    "channel_splitting": ("channel_splitting",),
    "analytic_bias_correction": ("analytic_bias_correction",),
    "batch_norm_reestimation": ("batch_norm_reestimation",),
    "equalized": ("equalization", "bias_absorption", "analytic_bias_correction"),
    "refit_rescale_gptq": WITHOUT_DESCENT,
    "visible_bias": (*(m for m in METHODS if m != "bias_correction"), "visible_bias_correction"),
    "smoothing_default": ("smoothing", *WITHOUT_DESCENT),
    "clipping": ("output_error_clipping",),
    "clipping_default": ("output_error_clipping", *WITHOUT_DESCENT),
    "splitting_default": ("activation_splitting", *WITHOUT_DESCENT),
    "adaround": ("bias_correction", "adaround"),
    "block_reconstruction": (*WITHOUT_DESCENT, "block_reconstruction"),
    "distill": (*WITHOUT_DESCENT, "distill"),
}
NOTES = {
    "tiny_darknet": (
        "With 8-bit weights and 4-bit operands (`w8a4_first_last_8`) nearly as much is lost as with 4-bit weights: it",
        "is the operands. A quarter of it is one of them: `w4a4_second_operand_8` gives 8 bits to what the second",
        "convolution reads, 16 channels between -2.6 and 12, some of which stay near 4 or 5, so that 16 steps of one",
        "range leave them a few codes. `activation_splitting` (`splitting_default`) finds that layer by itself and",
        "gives its channels, and some of three other layers, steps half as large by copies of them: still 4-bit",
        "operands, a quarter more multiplications (with 35 % more: +16.2 and 63.2 %). How much work copies may add was",
        "chosen on calibration samples. Methods that learn did not help: on the first half alone `distill` ends at",
        "+18.0 and 54.4 %, `block_reconstruction` (16 samples a step) at +18.4 and 55.2 %.",
    ),
}
"""What the figures of a network do not say by themselves."""
PEERS = ("ort_min_max", "ort_percentile", "nncf")
HERE = Path(__file__).resolve().parent
STORED = HERE / "results" / "ptq.json"
PAGE = HERE.parent / "docs" / "results" / "ptq.md"
Predict = Callable[[Floats], Floats]


def session(path: Path | str) -> Predict:
    """ONNX Runtime on one thread, one sample at a time (one of the models is unsafe in batches)."""
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    run = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    name = run.get_inputs()[0].name
    return lambda x: np.concatenate([run.run(None, {name: x[i : i + 1]})[0] for i in range(len(x))])


def peer(path: Path, method: str, calibration: Floats, folder: str) -> Predict:
    """ONNX Runtime's static quantization: QDQ, per-channel int8 weights, uint8 activations."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.samples: Iterator[Floats] = iter(calibration[i : i + 1] for i in range(len(calibration)))

        def get_next(self) -> dict[str, Floats] | None:
            sample = next(self.samples, None)
            return None if sample is None else {name: sample}

    import onnx

    name = onnx.load(path).graph.input[0].name
    prepared, target = f"{folder}/prepared.onnx", f"{folder}/{method}.onnx"
    quant_pre_process(str(path), prepared, skip_symbolic_shape=True)
    calibrate = {"ort_min_max": CalibrationMethod.MinMax, "ort_percentile": CalibrationMethod.Percentile}[method]
    quantize_static(
        prepared,
        target,
        Reader(),
        per_channel=True,
        weight_type=QuantType.QInt8,
        activation_type=QuantType.QUInt8,
        calibrate_method=calibrate,
    )
    return session(target)


def score(outputs: list[Floats], exact: list[Floats], labels: list[Any]) -> dict[str, Any]:
    """Drop in points with its 95 % paired interval, top-1 agreement and SQNR of the outputs."""
    got, want = np.concatenate(outputs), np.concatenate(exact)
    top, top_float = got.argmax(-1), want.argmax(-1)
    noise = float(np.square(got.astype(np.float64) - want).sum())
    row: dict[str, Any] = {
        "agreement": 100 * float(np.mean(top == top_float)),
        "sqnr_db": 10 * float(np.log10(np.square(want.astype(np.float64)).sum() / max(noise, 1e-30))),
        "samples": len(got),
    }
    if labels[0] is not None:
        y = np.concatenate(labels)
        difference = (top == y).astype(np.float64) - (top_float == y)
        row["top1"] = 100 * float(np.mean(top == y))
        row["drop"] = -100 * float(difference.mean())
        row["interval"] = 196 * float(difference.std() / np.sqrt(len(y)))
    return row


def evaluate(net: Net, recipes: list[str], stacks: list[str], peers: list[str]) -> dict[str, Any]:
    """Rows by method of one network: the recipe's name or its file's, and a stack other than the default one."""
    model = sb.load_model(net.path)
    run_float = session(net.path)
    folds = net.folds()
    exact = [run_float(f.x) for f in folds]
    labels = [f.y for f in folds]
    rows: dict[str, Any] = {"float32": score(exact, exact, labels)}
    for method in peers:
        rows[method] = folded(partial(_peer, net, method), folds, exact)
        print(net.name, method, json.dumps(rows[method]), flush=True)
    for recipe in recipes:
        for stack in stacks:
            name = Path(recipe).stem if stack == "default" else f"{Path(recipe).stem} {stack}"
            rows[name] = folded(partial(quantized, model, recipe, STACKS[stack]), folds, exact)
            print(net.name, name, json.dumps(rows[name]), flush=True)
    return rows


Made = tuple[Floats, int, float]
"""Outputs, bytes of the file, seconds to quantize."""


def folded(make: Callable[[Fold], Made], folds: list[Fold], exact: list[Floats]) -> dict[str, Any]:
    """The row of what ``make`` makes of each fold."""
    return scored([make(fold) for fold in folds], folds, exact)


def scored(made: list[Made], folds: list[Fold], exact: list[Floats]) -> dict[str, Any]:
    """The row of what was made of each fold; bytes and seconds are of the first."""
    row = score([m[0] for m in made], exact, [f.y for f in folds])
    return {**row, "bytes": made[0][1], "seconds": round(made[0][2], 1)}


def _peer(net: Net, method: str, fold: Fold) -> Made:
    if method == "nncf":
        return _nncf(net, fold)
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        run = peer(net.path, method, fold.calibration, folder)
        seconds = time.perf_counter() - begin
        return run(fold.x), Path(folder, f"{method}.onnx").stat().st_size, seconds


def _nncf(net: Net, fold: Fold) -> Made:
    """NNCF's static int8 for OpenVINO, all samples, one thread and one sample at a time."""
    import openvino as ov

    from benchmarks.cpu.quantized_peers import openvino_int8

    begin = time.perf_counter()
    path = openvino_int8(net.path, fold.calibration)
    seconds = time.perf_counter() - begin
    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    run = ov.Core().compile_model(str(path), "CPU", settings)
    outputs = [np.array(run([fold.x[i : i + 1]])[0]) for i in range(len(fold.x))]
    return np.concatenate(outputs), sum(path.with_suffix(s).stat().st_size for s in (".xml", ".bin")), seconds


def quantized(model: sb.Graph, recipe: str, methods: tuple[str, ...] | None, fold: Fold) -> Made:
    """One fold under a recipe, on the native engine; None takes the default methods."""
    begin = time.perf_counter()
    q = sb.quantize(model, fold.calibration, recipe=replace(load_recipe(recipe), methods=methods))
    seconds = time.perf_counter() - begin
    outputs = [np.asarray(q(fold.x[i : i + 100])) for i in range(0, len(fold.x), 100)]
    return np.concatenate(outputs), q.nbytes, seconds


def table(results: dict[str, Any]) -> str:
    """Markdown: one table per network."""
    lines = [
        "# Accuracy without labels",
        "",
        "Made by `python -m benchmarks.ptq`: 256 unlabelled calibration samples (250 where a set of 500 is split:",
        "calibrate on one half, score the other, swap), default ranges, m31 arithmetic, native engine. A recipe alone",
        "stands for the default methods: bias correction at 8 bits; below, least-squares re-fit, scales by the",
        "Hessian's diagonal, GPTQ, at up to 5 levels coordinate descent, and bias correction. A word behind it names",
        "another stack, which `STACKS` in `benchmarks/ptq.py` spells out; a method's own name stands for that method",
        "alone, nearest rounding. Stacks that begin with the default methods do so without the descent.",
        "Drop = float32 minus quantized top-1 in points, with its 95 % paired interval; agreement: the same top-1;",
        "seconds: one run, on a machine that others used meanwhile.",
        "`ort_*` is ONNX Runtime's static int8 on the same samples, `nncf` NNCF's with its defaults, run by OpenVINO",
        "(`.venv-peers/bin/python -m benchmarks.ptq --recipes --peers nncf`). Low figures are shown too.",
        "",
    ]
    for net, rows in results["nets"].items():
        head = rows["float32"]
        top = f"float32 top-1 {head['top1']:.2f} %" if "top1" in head else "no labels here"
        lines += [f"## {net}", "", f"{head['samples']} scored samples, {top}.", ""]
        lines += ["| method | drop (points) | agreement % | output SQNR dB | file bytes | seconds |"]
        lines += ["|---|---|---|---|---|---|"]
        for method, row in rows.items():
            if method == "float32":
                continue
            drop = f"{row['drop']:+.2f} ± {row['interval']:.2f}" if "drop" in row else "-"
            figures = f"{row['agreement']:.1f} | {row['sqnr_db']:.1f} | {row['bytes']:,} | {row['seconds']}"
            lines.append(f"| {method} | {drop} | {figures} |")
        lines += ["", *NOTES[net], ""] if net in NOTES else [""]
    return "\n".join(lines)


def merge(stored: dict[str, Any], rows: dict[str, Any]) -> dict[str, Any]:
    """Rows of one network, new ones in the places of old ones: peers, then recipe by recipe, then what is unknown."""
    known = ["float32", *PEERS, *(r if k == "default" else f"{r} {k}" for r in RECIPES for k in STACKS)]
    places = {name: place for place, name in enumerate(known)}
    both = {**stored, **rows}
    return {name: both[name] for name in sorted(both, key=lambda n: places.get(n, len(places)))}


def stored_results() -> dict[str, Any]:
    """Rows by network that earlier runs left."""
    return dict(json.loads(STORED.read_text())["nets"]) if STORED.exists() else {}


def write(net: str, rows: dict[str, Any]) -> None:
    """Both files with the rows of one network merged into what is there now: other runs may have written meanwhile."""
    nets = stored_results()
    nets[net] = merge(nets.get(net, {}), rows)
    ordered = {name: nets[name] for name in [*NETS, *nets] if name in nets}
    results = {"command": "python -m benchmarks.ptq", "machine": facts(), "nets": ordered}
    for path, text in ((STORED, json.dumps(results, indent=1) + "\n"), (PAGE, table(results))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> None:
    """Evaluate and write the results; rows that are not asked for stay as they are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=list(NETS))
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--stacks", nargs="*", default=list(STACKS), choices=list(STACKS))
    there = [p for p in PEERS if p != "nncf" or importlib.util.find_spec("nncf")]  # it lives in .venv-peers
    parser.add_argument("--peers", nargs="*", default=there, choices=PEERS)
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    for name in args.nets:  # written after each network: a long run that stops keeps what it has
        rows = evaluate(NETS[name], args.recipes, args.stacks, args.peers)
        if not args.no_write:
            write(name, rows)


if __name__ == "__main__":
    main()
