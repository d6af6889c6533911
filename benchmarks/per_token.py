"""Operands with a scale per token beside static ones: accuracy on real networks, outliers, and time.

    python -m benchmarks.per_token              # everything; updates benchmarks/results/ and docs/results/
    python -m benchmarks.per_token --speed      # times alone (or --accuracy); the other rows stay

Weights have 8 bits and all methods throughout, so that operands alone differ. Networks, folds and scores are those of
``benchmarks.ptq``; the language model is that of ``benchmarks.shakespeare``, calibrated on the first nine tenths of its
text and scored on the rest, of which nothing was chosen.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import subbyte as sb
from benchmarks.machine import facts
from benchmarks.nets import NETS, Floats, Fold
from benchmarks.ptq import Made, folded, session
from benchmarks.shakespeare import Shakespeare, perplexity
from subbyte import _native
from subbyte.bench.latency import random_codes
from subbyte.quantization.recipe import METHODS
from subbyte.runtime.engine import Engine
from subbyte.runtime.reference import run_reference

OPERANDS = {
    "static 8": ("uint8", "per_tensor"),
    "static 4": ("uint4", "per_tensor"),
    "per token 8": ("uint8", "per_token"),
    "per token 4": ("uint4", "per_token"),
    "static 16": ("int16", "per_tensor"),
}
REAL = ("mnist_mlp", "dscnn_kws", "honk_res8")
WINDOWS = {"calibration": 64, "scored": 128}
TIMED = ("static 8", "per token 8", "per token 4", "static 16")
ISAS = ("avx512_vbmi", "avx2")
ROUNDS = 60
HERE = Path(__file__).resolve().parent
STORED = HERE / "results" / "per_token.json"
PAGE = HERE.parent / "docs" / "results" / "per_token.md"

_INTRODUCTION = """\
# Operands with a scale per token

<!-- made by benchmarks/per_token.py: change the code, then run it again -->

Made by `python -m benchmarks.per_token`. Each row that a linear layer multiplies gets a scale of its own while the
network runs ([recipes.md](../recipes.md)); beside it one static scale for all rows, in as many bits, and static 16
bits. Weights are int8 everywhere, with the five methods that are the default below 8 bits, so that operands alone
differ; convolutions read and make static 8 bits.

8 bits per token are 7 to 8 dB better than static ones on the two networks that consist of linear layers, next to
nothing better where a single one ends a network, and nearly static 16 bits for tokens beside outliers. One row costs
next to nothing; many rows, and what is kept in 16 bits between layers, up to twice the time.
"""

_NETS = """\
## Networks

SQNR of the outputs in dB and agreement of top-1 with the float network in per cent. MNIST's MLP is linear layers alone,
the other two have one, at the end.
"""

_TEXT = """\
## A language model

A character model in the style of Llama (0.8 M parameters, four blocks) on {scored} windows of 128 characters of
tinyshakespeare's last tenth; {calibration} windows of the rest calibrate. All its linear layers and feed-forward blocks
are integers; norms, rotary embedding and attention's softmax are floats. SQNR is that of the logits in dB.
"""

_OUTLIERS = """\
## Outliers (synthetic)

A random MLP of three layers on 16 tokens a sample, of which one is thirty times as large as the others: made so that
static ranges fail, no trained network. SQNR in dB of the ordinary tokens' results, and of that one's.
"""

_SPEED = """\
## Time

Microseconds per sample, one thread, batch 1, and the median of how many times longer than static 8 bits it takes,
paired round by round; {rounds} rounds in turns. The feed-forward block has 128 rows of 128 and 344 numbers. A square
layer has 1024 inputs and outputs and one row, or 64. On {processor}.
"""


def recipe(name: str, wide_input: bool) -> sb.Recipe:
    """Linear layers with operands of a kind, wherever they stand; convolutions read and make 8 bits.

    Args:
        name: of ``OPERANDS``.
        wide_input: whether the network's input is a linear layer's operand, and has 16 bits where the layer reads them;
            else it begins with convolutions.
    """
    format_, granularity = OPERANDS[name]
    rows = sb.Rule(operator=("linear",), path=".", activations=format_, activation_granularity=granularity)
    wide = wide_input and (granularity == "per_token" or format_ == "int16")
    rules = [sb.Rule(weights="int8", activations="uint8"), rows]
    if not wide_input:
        rules.insert(1, sb.Rule(operator=("conv",), storage="uint8"))
    return sb.Recipe(name=name, rules=tuple(rules), methods=METHODS, input="int16" if wide else "uint8")


def quantized(model: sb.Graph, chosen: sb.Recipe, fold: Fold) -> Made:
    """One fold on the native engine."""
    begin = time.perf_counter()
    q = sb.quantize(model, fold.calibration, recipe=chosen)
    seconds = time.perf_counter() - begin
    outputs = [np.asarray(q(fold.x[i : i + 100])) for i in range(0, len(fold.x), 100)]
    return np.concatenate(outputs), q.nbytes, seconds


def networks() -> dict[str, dict[str, Any]]:
    """Rows by network and operand."""
    rows: dict[str, dict[str, Any]] = {}
    for net in (NETS[name] for name in REAL):
        model, run_float, folds = sb.load_model(net.path), session(net.path), net.folds()
        exact = [run_float(f.x) for f in folds]
        wide = net.name == "mnist_mlp"
        rows[net.name] = {o: folded(partial(quantized, model, recipe(o, wide)), folds, exact) for o in OPERANDS}
        print(net.name, json.dumps(rows[net.name]), flush=True)
    return rows


def decibels(got: Floats, want: Floats) -> float:
    """SQNR."""
    noise = float(np.square(got.astype(np.float64) - want).sum())
    return 10 * float(np.log10(np.square(want.astype(np.float64)).sum() / max(noise, 1e-30)))


@torch.no_grad()
def text() -> dict[str, dict[str, float]]:
    """Perplexity and SQNR of the logits by operand."""
    model = Shakespeare()
    graphs = model.graphs()
    seen: dict[str, list[Floats]] = {name: [] for name in graphs}

    def watch(name: str, part: nn.Module, x: Tensor) -> Tensor:
        seen[name].append(x.numpy())
        return part(x)  # type: ignore[no-any-return]

    calibration = model.windows(WINDOWS["calibration"], validation=False)
    model.logits(calibration[:, :-1], {name: partial(watch, name, part) for name, part in model.parts.items()})
    codes = model.windows(WINDOWS["scored"], validation=True)
    exact = model.logits(codes[:, :-1], model.parts)
    rows = {"float32": {"perplexity": perplexity(exact, codes)}}
    for name in OPERANDS:
        parts = {
            part: sb.quantize(graph, np.concatenate(seen[part]), recipe=recipe(name, True))
            for part, graph in graphs.items()
        }
        got = model.logits(codes[:, :-1], {part: partial(in_integers, q) for part, q in parts.items()})
        rows[name] = {"perplexity": perplexity(got, codes), "sqnr_db": decibels(got.numpy(), exact.numpy())}
        print("text", name, rows[name], flush=True)
    return rows


def in_integers(q: sb.QuantizedModel, x: Tensor) -> Tensor:
    """A part's results from the native engine."""
    return torch.from_numpy(np.asarray(q(np.ascontiguousarray(x.numpy()))))


def tokens() -> tuple[nn.Module, Floats]:
    """A random MLP and samples [N, 16, 64] with one large token each."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 32)).eval()
    x = rng.standard_normal((512, 16, 64)).astype(np.float32)
    x[np.arange(len(x)), rng.integers(0, 16, len(x))] *= 30
    return net, x


@torch.no_grad()
def outliers() -> dict[str, dict[str, float]]:
    """SQNR of ordinary tokens and of large ones, by operand."""
    net, x = tokens()
    graph = sb.trace(net, (torch.zeros(1, 16, 64),))
    exact = net(torch.from_numpy(x[256:])).numpy()
    large = np.abs(x[256:]).max(axis=-1) > 20
    rows = {}
    for name in OPERANDS:
        got = np.asarray(sb.quantize(graph, x[:256], recipe=recipe(name, True))(x[256:]))
        rows[name] = {"ordinary": decibels(got[~large], exact[~large]), "large": decibels(got[large], exact[large])}
        print("outliers", name, rows[name], flush=True)
    return rows


def timed_graphs() -> dict[str, tuple[sb.Graph, Floats]]:
    """What is timed, with calibration samples."""
    rng = np.random.default_rng(0)
    mlp, model = NETS["mnist_mlp"], Shakespeare()
    found = {"mnist_mlp": (sb.load_model(mlp.path), mlp.folds()[0].calibration[:16])}
    ffn = rng.standard_normal((8, 128, 128)).astype(np.float32)
    found["feed-forward"] = (model.graphs()["layers.0.ffn"], ffn)
    for rows in (1, 64):
        x = rng.standard_normal((8, rows, 1024)).astype(np.float32)
        found[f"square, {rows} row{'s' * (rows > 1)}"] = (
            sb.trace(nn.Linear(1024, 1024), (torch.zeros(1, rows, 1024),)),
            x,
        )
    return found


def speed() -> dict[str, dict[str, dict[str, list[float]]]]:
    """Median microseconds and median ratio to static 8 bits, by network, instruction set and operand."""
    rows: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, (graph, x) in timed_graphs().items():
        graphs = [sb.quantize(graph, x, recipe=recipe(o, True)).graph for o in TIMED]
        rows[name] = {}
        for isa in (i for i in ISAS if i in _native.available_isas()):
            os.environ["SUBBYTE_ISA"] = isa
            calls = [checked(g) for g in graphs]
            times = np.zeros((ROUNDS, len(calls)))
            for k, i in np.ndindex(*times.shape):
                begin = time.perf_counter_ns()
                calls[i]()
                times[k, i] = (time.perf_counter_ns() - begin) / 1e3
            medians, ratios = np.median(times, axis=0), np.median(times / times[:, :1], axis=0)
            pairs = zip(TIMED, medians, ratios, strict=True)
            rows[name][isa] = {o: [round(float(m), 1), round(float(q), 2)] for o, m, q in pairs}
            print(name, isa, rows[name][isa], flush=True)
    return rows


def checked(graph: sb.Graph) -> Callable[[], object]:
    """A run of one sample, whose answer is the reference's."""
    engine, codes = Engine(graph), {k: v[:1] for k, v in random_codes(graph, 0).items()}
    expected = run_reference(graph, codes)
    assert all(np.array_equal(y, expected[name]) for name, y in engine.run(codes).items())
    return partial(engine.run, codes)


def page(results: Mapping[str, Any]) -> str:
    """Markdown of all tables."""
    head = f"| {' | '.join(OPERANDS)} |"
    rule = "--:|" * len(OPERANDS)
    lines = [_INTRODUCTION, _NETS, f"| network {head}", f"|---|{rule}"]
    for net, rows in results["networks"].items():
        cells = (f"{rows[o]['sqnr_db']:.1f}, {rows[o]['agreement']:.1f}" for o in OPERANDS)
        lines.append(f"| {net} | {' | '.join(cells)} |")
    found = results["text"]
    lines += ["\n" + _TEXT.format(**WINDOWS), f"| | float32 {head}", f"|---|--:|{rule}"]
    values = " | ".join(f"{found[o]['perplexity']:.3f}" for o in ("float32", *OPERANDS))
    lines.append(f"| perplexity | {values} |")
    values = " | ".join(f"{found[o]['sqnr_db']:.1f}" for o in OPERANDS)
    lines.append(f"| SQNR | | {values} |")
    lines += ["\n" + _OUTLIERS, f"| tokens {head}", f"|---|{rule}"]
    for kind in ("ordinary", "large"):
        values = " | ".join(f"{results['outliers'][o][kind]:.1f}" for o in OPERANDS)
        lines.append(f"| {kind} | {values} |")
    lines.append("\n" + _SPEED.format(rounds=ROUNDS, processor=results["machine"]["processor"]))
    lines += [f"| network | instructions | {' | '.join(TIMED)} |", f"|---|---|{'--:|' * len(TIMED)}"]
    for net, isas in results["speed"].items():
        for isa, row in isas.items():
            cells = (f"{row[o][0]:,.1f} ({row[o][1]:.2f})" for o in TIMED)
            lines.append(f"| {net} | {isa} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write; what is not asked for stays as it is."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--speed", action="store_true")
    args = parser.parse_args()
    both = args.accuracy == args.speed
    torch.set_num_threads(1)
    results = json.loads(STORED.read_text()) if STORED.exists() else {}
    results |= {"command": "python -m benchmarks.per_token", "machine": facts()}
    if args.accuracy or both:
        results |= {"networks": networks(), "text": text(), "outliers": outliers()}
    if args.speed or both:
        results["speed"] = speed()
    STORED.write_text(json.dumps(results, indent=1) + "\n")
    if {"networks", "text", "outliers", "speed"} <= results.keys():
        PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
