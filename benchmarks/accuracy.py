"""Accuracy of every recipe on every network of the shared data, beside ONNX Runtime's static int8.

    python -m benchmarks.accuracy                       # all nets, all recipes; writes results/ and docs/results/
    python -m benchmarks.accuracy --nets resnet8 --recipes w8a8 --no-write

All methods get the same unlabelled samples. Integer models run on the native engine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

import subbyte as sb
from benchmarks.machine import facts
from benchmarks.nets import NETS, Floats, Fold, Net

RECIPES = ("w8a8", "w4a8", "w4a4", "x31_w17", "x23_w23", "wternary_a8")
PEERS = ("ort_min_max", "ort_percentile")
HERE = Path(__file__).resolve().parent
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


def evaluate(net: Net, recipes: tuple[str, ...], peers: tuple[str, ...]) -> dict[str, Any]:
    """Rows by method of one network."""
    model = sb.load_model(net.path)
    run_float = session(net.path)
    folds = net.folds()
    exact = [run_float(f.x) for f in folds]
    rows: dict[str, Any] = {"float32": score(exact, exact, [f.y for f in folds])}
    for method in (*peers, *recipes):
        begin = time.perf_counter()
        results = [_one(net, model, method, fold) for fold in folds]
        rows[method] = score([r[0] for r in results], exact, [f.y for f in folds])
        rows[method]["bytes"] = results[0][1]
        rows[method]["seconds"] = round(time.perf_counter() - begin, 1)
        print(net.name, method, json.dumps(rows[method]), flush=True)
    return rows


def _one(net: Net, model: sb.Graph, method: str, fold: Fold) -> tuple[Floats, int]:
    if method in PEERS:
        with tempfile.TemporaryDirectory() as folder:
            run = peer(net.path, method, fold.calibration, folder)
            size = Path(folder, f"{method}.onnx").stat().st_size
            return run(fold.x), size
    q = sb.quantize(model, fold.calibration, recipe=method)
    outputs = [np.asarray(q(fold.x[i : i + 100])) for i in range(0, len(fold.x), 100)]
    return np.concatenate(outputs), q.nbytes


def table(results: dict[str, Any]) -> str:
    """Markdown: one table per network."""
    lines = [
        "# Accuracy of the default methods",
        "",
        "Made by `python -m benchmarks.accuracy`: 256 unlabelled calibration samples (250 where a set of 500 is split:",
        "calibrate on one half, score the other, swap), default ranges and sequential bias correction, m31 arithmetic,",
        "native engine. Drop = float32 top-1 minus top-1 in points, with its 95 % paired interval; agreement = same",
        "top-1 as float32. `ort_*` is ONNX Runtime's static int8 on the same samples. Low figures are shown too.",
        "",
    ]
    for net, rows in results["nets"].items():
        head = rows["float32"]
        top = f"float32 top-1 {head['top1']:.2f} %" if "top1" in head else "no labels here"
        lines += [f"## {net}", "", f"{head['samples']} scored samples, {top}.", ""]
        lines += ["| method | drop (points) | agreement % | output SQNR dB | file bytes |", "|---|---|---|---|---|"]
        for method, row in rows.items():
            if method == "float32":
                continue
            drop = f"{row['drop']:+.2f} ± {row['interval']:.2f}" if "drop" in row else "-"
            lines.append(f"| {method} | {drop} | {row['agreement']:.1f} | {row['sqnr_db']:.1f} | {row['bytes']:,} |")
        lines.append("")
    return "\n".join(lines)


def write(results: dict[str, Any]) -> None:
    """Both files, as far as the results go."""
    for path, text in (
        (HERE / "results" / "accuracy.json", json.dumps(results, indent=1) + "\n"),
        (HERE.parent / "docs" / "results" / "accuracy.md", table(results)),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> None:
    """Evaluate and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=list(NETS))
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--peers", nargs="*", default=list(PEERS))
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    results: dict[str, Any] = {"command": "python -m benchmarks.accuracy", "machine": facts(), "nets": {}}
    for name in args.nets:  # written after each network: a long run that stops keeps what it has
        results["nets"][name] = evaluate(NETS[name], tuple(args.recipes), tuple(args.peers))
        if not args.no_write:
            write(results)


if __name__ == "__main__":
    main()
