"""Does a search beat one format everywhere, and does a promised time hold?

    python -m benchmarks.search bytes                  # smaller than w4a8 and no worse, on every network
    python -m benchmarks.search bytes_first_last       # the same where w4a8 has 8 bits in the first and last layer
    python -m benchmarks.search latency                # 0.85 of the time of w8a8, with the kernels of AVX2
    python -m benchmarks.search bytes --nets resnet8 --no-write
    python -m benchmarks.search page                   # from what is stored

Searches see half A, up to 1024 unlabelled samples. Scores are of half B, which no search has seen.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

import subbyte as sb
from benchmarks.machine import facts
from benchmarks.nets import CALIBRATION, NETS, Floats, Fold, Net
from subbyte.allocation.divergence import distance
from subbyte.allocation.evaluate import Trial
from subbyte.allocation.plot import frontier_svg
from subbyte.allocation.timing import measure_network
from subbyte.allocation.workbench import float_answers, integer_answers
from subbyte.errors import AllocationError
from subbyte.graph.answer import find_answer
from subbyte.graph.passes import prepare

HERE = Path(__file__).resolve().parent
STORED = HERE / "results" / "search.json"
PAGE = HERE.parent / "docs" / "results" / "search.md"
PICTURES = PAGE.parent / "search"
JOURNALS = HERE.parent / "build" / "bench" / "search"
POOL = 1024
UNIFORM = {"bytes": "w4a8", "bytes_first_last": "w4a8_first_last_8"}
"""Rivals by question: 4 bits in every layer; 8 in the first and the last."""

BYTES_TARGET, TIME_TARGET, TIME_SLACK = 0.85, 0.85, 1.05
LATENCY_CANDIDATES = ("ternary", "int3", "int4", "int5", "int6", "int7", "int8")
BOOTSTRAP = 2000
TOLERANCE = 0.5
"""Standard errors of the judged agreement that a search may lose, told from the loss."""

WITHOUT_REFINING = ("tiny_darknet",)
"""Networks whose trials take long."""


def agreements(model: sb.Graph, built: sb.QuantizedModel, x: Floats) -> tuple[np.ndarray[Any, Any], float]:
    """Per sample whether both networks name the same class, and the mean loss."""
    graph = prepare(model)
    answer = find_answer(graph)
    feeds = {graph.inputs[0]: x}
    exact = float_answers(graph, feeds, answer)
    got = integer_answers(built.graph.evolve(outputs=(answer.value,)), feeds, answer)
    same = exact.reshape(len(x), -1).argmax(1) == got.reshape(len(x), -1).argmax(1)
    return same, distance(exact, got, answer.kind).loss


def interval(difference: np.ndarray[Any, Any]) -> tuple[float, float]:
    """95 % interval of a mean of paired differences, by bootstrap, in points."""
    generator = np.random.default_rng(0)
    means = [difference[generator.integers(0, len(difference), len(difference))].mean() for _ in range(BOOTSTRAP)]
    return float(100 * np.quantile(means, 0.025)), float(100 * np.quantile(means, 0.975))


def halves(net: Net) -> list[Fold]:
    """Half A as calibration samples and half B of one set of samples; of a small set both ways round.

    Training images will not do as half A: networks are nearly certain on what they were trained on, so that losses
    there are small and tell little.
    """
    folds = net.folds(POOL)
    if len(folds) > 1:
        return folds
    x = folds[0].x
    order = np.random.default_rng(0).permutation(len(x))
    a, b = order[: len(x) // 2], order[len(x) // 2 :]
    return [Fold(calibration=x[a][:POOL], x=x[b], y=None)]


def fold_bytes(net: Net, model: sb.Graph, fold: Fold, number: int, options: argparse.Namespace) -> dict[str, Any]:
    """One search for a smaller network that is like the uniform one, and both rivals on unseen samples."""
    settings = sb.Settings(
        samples=POOL,
        journal=options.journals / f"{net.name}_{number}.jsonl",
        executor=options.executor,
        refine=0 if net.name in WITHOUT_REFINING else 1,
        tolerance=TOLERANCE,
        compare=("w3a8", "w2a8"),
    )
    found = sb.search(
        model, fold.calibration, like=UNIFORM[options.question], settings=settings, progress=told(net.name)
    )
    if number == 0 and options.write and options.question == "bytes":
        PICTURES.mkdir(parents=True, exist_ok=True)
        (PICTURES / f"{net.name}.svg").write_text(frontier_svg(found, f"{net.name}: loss over file size"))
    few = fold.calibration[:CALIBRATION]
    again = len(fold.calibration) < 2 * CALIBRATION  # half of a small A was kept for judging: both rivals get all of it
    last = sb.quantize(model, few, recipe=found.recipe) if again else found.model
    rivals = {"uniform": sb.quantize(model, few, recipe=UNIFORM[options.question]), "found": last}
    scores = {name: agreements(model, q, fold.x) for name, q in rivals.items()}
    return {
        "bytes": {name: q.nbytes for name, q in rivals.items()},
        "same": {name: s[0] for name, s in scores.items()},
        "loss": {name: s[1] for name, s in scores.items()},
        "seconds": found.seconds,
        "trials": [shown(t) for t in found.trials if "," not in t.name],
        "layers": {r.layer: str(r.candidate) for r in found.rows},
    }


def shown(trial: Trial) -> dict[str, Any]:
    """What the page tells of a trial."""
    return {"name": trial.name, "loss": trial.loss, "agreement": trial.agreement, **trial.costs}


def net_bytes(net: Net, options: argparse.Namespace) -> dict[str, Any]:
    """All folds of a network together."""
    model = sb.load_model(net.path)
    folds = [fold_bytes(net, model, f, i, options) for i, f in enumerate(halves(net))]
    same = {name: np.concatenate([f["same"][name] for f in folds]) for name in ("uniform", "found")}
    size = {name: float(np.mean([f["bytes"][name] for f in folds])) for name in same}
    low, high = interval(same["found"].astype(float) - same["uniform"])
    row = {
        "samples": len(same["found"]),
        "tolerance": TOLERANCE,
        "agreement": {name: 100 * float(s.mean()) for name, s in same.items()},
        "interval": [low, high],
        "loss": {name: float(np.mean([f["loss"][name] for f in folds])) for name in same},
        "bytes": size,
        "ratio": size["found"] / size["uniform"],
        "seconds": round(sum(f["seconds"] for f in folds), 1),
        "trials": folds[0]["trials"],
        "layers": folds[0]["layers"],
    }
    print(net.name, json.dumps({k: v for k, v in row.items() if k not in {"trials", "layers"}}), flush=True)
    return row


def net_latency(net: Net, options: argparse.Namespace) -> dict[str, Any]:
    """A search at a share of the 8-bit network's time, and the time taken again afterwards, in turns with it."""
    model = sb.load_model(net.path)
    fold = halves(net)[0]
    eight = sb.quantize(model, fold.calibration[:CALIBRATION], recipe="w8a8")
    limit = TIME_TARGET * measure_network(eight.graph)
    journal = options.journals / f"{net.name}_avx2.jsonl"
    for known in (journal, options.journals / f"{net.name}_0.jsonl"):
        if known.exists():
            journal.write_text(sensitivities(known))
            break
    settings = sb.Settings(samples=POOL, candidates=LATENCY_CANDIDATES, journal=journal, executor=options.executor)
    row: dict[str, Any] = {"asked_us": limit}
    try:
        found = sb.search(model, fold.calibration, latency_us=limit, settings=settings, progress=told(net.name))
    except AllocationError as error:
        row["refused"] = f"{error.seen}; {error.rule}"
    else:
        turns = [(measure_network(eight.graph), measure_network(found.model.graph)) for _ in range(3)]
        eight_us, found_us = (min(t[i] for t in turns) for i in (0, 1))
        same, loss = agreements(model, found.model, fold.x)
        row |= {"w8a8_us": eight_us, "found_us": found_us, "share": found_us / eight_us,
                "agreement": 100 * float(same.mean()), "loss": loss,
                "expected_us": found.trial.costs["latency_us"],
                "layers": {r.layer: str(r.candidate) for r in found.rows}}  # fmt: skip
    print(net.name, json.dumps({k: v for k, v in row.items() if k != "layers"}), flush=True)
    return row


def sensitivities(journal: Path) -> str:
    """A journal's lines without the networks that were tried: their times are of some other moment."""
    lines = journal.read_text().splitlines(keepends=True)
    return "".join(x for x in lines if not str(json.loads(x).get("key", "")).startswith("trial:"))


def told(name: str) -> Any:
    """Progress as lines, at most one in 20 seconds."""
    last = [0.0]

    def report(stage: str, done: int, total: int) -> None:
        if time.monotonic() - last[0] > 20:
            last[0] = time.monotonic()
            print(f"  {name}: {stage} {done}/{total}", flush=True)

    return report


def page(results: Mapping[str, Any]) -> str:
    """Markdown."""
    lines = ["# Search against one format everywhere", "", *_PREFACE, ""]
    for question, rival in UNIFORM.items():
        lines += bytes_table(results[question], rival) if question in results else []
    if rows := results.get("latency"):
        lines += latency_table(rows)
    for name, row in {**results.get("bytes_first_last", {}), **results.get("bytes", {})}.items():
        lines += frontier(name, row)
    return "\n".join(lines) + "\n"


_PREFACE = (
    "Made by `make bench-search` (`python -m benchmarks.search bytes`, `.. bytes_first_last`, `.. latency`).",
    "",
    "A search sees half A: up to 1024 unlabelled samples, 256 of them fitted, the rest judged. It is asked for the",
    "smallest file that is like its rival there: agreement not clearly less, and loss not more than half a standard",
    "error of the judged agreement is worth. Scores are of half B, which no search has seen. Agreement = same best",
    "class as the float network; loss = divergence of the answers from the float network's; the interval is of the",
    "paired difference of agreements (bootstrap, 95 %). Bytes are of the whole file. There are two rivals: w4a8, 4",
    "bits in every layer, and w4a8_first_last_8, with 8 bits in the first and the last layer, which is what",
    "accuracy is reported of elsewhere here. They are quantized with 256 samples of A. Where a set of 500 is split,",
    "A has 250, half of them fitted and half judged; there rival and found network are quantized with all of A in",
    "the end, and the halves swap.",
    "",
    "The same for all networks: the candidates (the settings' usual nine weight formats, 1.6 to 8 bits, 8-bit",
    "activations, no layer pinned), 8 trials in a round, one further round with sensitivities measured around the",
    "best allocation, seed 0; for Tiny Darknet, whose trials take long, no further round. Four things changed after",
    "first runs had been scored. A second rival joined. A was training images at first where the set is large: on",
    "those networks are nearly certain, losses are small and noisy, and those of CIFAR-10 are of better quality",
    "than B; now A and B are random halves of one set everywhere. Loss was held to the rival's own at first, and",
    "agreement alone had the tolerance of its noise: the shares were 0.899 (MNIST MLP), 0.993 (DS-CNN), 0.963",
    "(honk), 0.864 (ResNet-8), 0.937 (ResNet-20, with significantly less agreement) and 0.636 (VWW) against w4a8.",
    "And formats of up to 5 levels got coordinate descent, which was chosen on training images. Every network that",
    "was searched is shown.",
)


def bytes_table(rows: Mapping[str, Any], rival: str) -> list[str]:
    """Searched against uniform."""
    met = [n for n, r in rows.items() if r["ratio"] <= BYTES_TARGET and r["interval"][1] >= 0]
    lines = [f"## Bytes at no less agreement than {rival}", ""]
    lines += ["| net | uniform bytes | found bytes | share | uniform agreement % | found agreement % | difference "
              "| uniform loss | found loss | seconds |", "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|"]  # fmt: skip
    for name, r in rows.items():
        size, same, loss = r["bytes"], r["agreement"], r["loss"]
        low, high = r["interval"]
        lines.append(
            f"| {name} | {size['uniform']:,.0f} | {size['found']:,.0f} | {r['ratio']:.3f} | {same['uniform']:.2f} | "
            f"{same['found']:.2f} | {low:+.2f} .. {high:+.2f} | {loss['uniform']:.4f} | {loss['found']:.4f} | "
            f"{r['seconds']:.0f} |"
        )
    means = [n for n, r in rows.items() if r["agreement"]["found"] >= r["agreement"]["uniform"]]
    return [
        *lines,
        "",
        f"At most {BYTES_TARGET} of the bytes, and not significantly less agreement: {len(met)} of {len(rows)} "
        f"networks ({', '.join(met) or 'none'}). The mean itself is not less on: {', '.join(means) or 'none'}.",
        "",
    ]


_LATENCY_PREFACE = (
    "One sample, stored integers in and out, one thread. Asked: the share of w8a8's time when the search began. Both",
    "networks were then timed again in turns; the promise is held against w8a8's time of these turns.",
    "",
)


def latency_table(rows: Mapping[str, Any]) -> list[str]:
    """Asked and measured times."""
    lines = [f"## {TIME_TARGET} of the time of w8a8, kernels of AVX2", ""]
    lines += _LATENCY_PREFACE
    lines += ["| net | w8a8 µs | asked µs | found µs | of w8a8 | agreement % |", "|---|--:|--:|--:|--:|--:|"]
    for name, r in rows.items():
        asked = f"{r['asked_us']:.1f}"
        if "refused" in r:
            lines.append(f"| {name} | | {asked} | refused: {r['refused']} | | |")
            continue
        times = f"{r['w8a8_us']:.1f} | {asked} | {r['found_us']:.1f} | {r['share']:.3f}"
        lines.append(f"| {name} | {times} | {r['agreement']:.2f} |")
    held = [n for n, r in rows.items() if r.get("share", 9.0) <= TIME_SLACK * TIME_TARGET]
    possible = [n for n, r in rows.items() if "refused" not in r]
    slack = f"{100 * (TIME_SLACK - 1):.0f} %"
    return [
        *lines,
        "",
        f"The promise holds within {slack} on {len(held)} of {len(possible)} networks that can keep it.",
        "",
    ]


def frontier(name: str, row: Mapping[str, Any]) -> list[str]:
    """What was tried, by size."""
    picture = [f"![frontier](search/{name}.svg)", ""] if (PICTURES / f"{name}.svg").exists() else []
    lines = [f"## {name}", "", *picture]
    lines += ["| tried | bytes | bits per weight | loss (judged) | agreement % (judged) |", "|---|--:|--:|--:|--:|"]
    for t in sorted(row["trials"], key=lambda t: float(t["bytes"])):
        lines.append(f"| {t['name'] or 'allocation'} | {t['bytes']:,.0f} | {t['bits']:.2f} | {t['loss']:.4f} | "
                     f"{t['agreement']:.2f} |")  # fmt: skip
    return [*lines, ""]


def main() -> None:
    """Search and write the results, after each network."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("question", choices=(*UNIFORM, "latency", "page"))
    parser.add_argument("--nets", nargs="*", default=list(NETS), choices=list(NETS))
    parser.add_argument("--executor", default="local")
    parser.add_argument(
        "--journals", type=Path, default=JOURNALS, help="folder in which searches keep what they found out"
    )
    parser.add_argument("--no-write", dest="write", action="store_false")
    options = parser.parse_args()
    if options.question == "latency":
        os.environ["SUBBYTE_ISA"] = "avx2"
    options.journals.mkdir(parents=True, exist_ok=True)
    results: dict[str, Any] = json.loads(STORED.read_text()) if STORED.exists() else {}
    answer = {**dict.fromkeys(UNIFORM, net_bytes), "latency": net_latency}.get(options.question)
    for name in options.nets if answer is not None else ():
        assert answer is not None
        results.setdefault(options.question, {})[name] = answer(NETS[name], options)
        ordered = {n: results[options.question][n] for n in NETS if n in results[options.question]}
        results |= {options.question: ordered, "machine": facts(), "command": "python -m benchmarks.search"}
        if options.write:
            STORED.write_text(json.dumps(results, indent=1) + "\n")
    if options.write:
        PAGE.write_text(page(results))


if __name__ == "__main__":
    main()
