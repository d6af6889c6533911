"""``subbyte search``: how many bits each layer gets, under budgets and promises."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from subbyte.cli.options import (
    MODEL_FILE,
    NO_PREPROCESSING,
    Preprocessing,
    checked_seed,
    float_model,
    output_path,
    positive,
)
from subbyte.cli.output import progress, show_json, show_lines, show_table
from subbyte.cli.synthetic import is_synthetic, samples_of
from subbyte.errors import SubbyteError

if TYPE_CHECKING:
    from subbyte.allocation.found import Found
    from subbyte.allocation.settings import Settings
    from subbyte.ingest.data import Preprocess


@dataclass(frozen=True, kw_only=True)
class Allocating:
    """How the search goes about it.

    Attributes:
        candidates: weight formats to choose from, separated by commas, or pairs such as int4/uint4; in groups they
            are int4:per_group(32) or int4:dual_grained(64).
        activations: operand formats, or trims such as sparq4_5opt_round_v, to combine them with, separated by commas.
        pin: PATTERN=FORMAT keeps matching layers at a format; may be given several times.
        tied: layers that agree: those that read one value (in its format), all partners as in HAWQ-V3, or none.
        sensitivity: measured on the integer network, or estimated from the curvature or the weights.
        minimise: what is made small where only promises are given.
        compare: recipes to try beside, separated by commas.
        trials: networks tried for real in each round, at most.
        refine: further rounds around the best network of the round before.
        finish: methods that learn in a last round, separated by commas: distill, adaround, block_reconstruction. What
            they gain is spent on fewer bits; each network tried takes minutes.
        executor: local, processes or ray; processes:4 says how many workers.
        journal: file that results go to as they come; with it an interrupted search goes on where it stopped.
        arithmetic: how accumulators are rescaled.
        samples: how many samples are used at most.
        seed: of every random choice.
    """

    candidates: str = ""
    activations: str = "uint8"
    pin: tuple[str, ...] = ()
    tied: Literal["operands", "all", "none"] = "operands"
    sensitivity: Literal["divergence", "hessian", "fisher", "weights"] = "divergence"
    minimise: Literal["bytes", "latency_us", "bits", "bops"] = "bytes"
    compare: str = ""
    trials: int = 8
    refine: int = 0
    finish: str = ""
    executor: str = "local"
    journal: Path | None = None
    arithmetic: Literal["m31", "m15", "shift"] = "m31"
    samples: int = 1024
    seed: int = 0

    def settings(self, preprocess: Preprocess | None) -> Settings:
        """The same for Python.

        Raises:
            SubbyteError: an option means nothing.
        """
        from subbyte.allocation.candidates import WEIGHTS
        from subbyte.allocation.settings import Settings

        positive(samples=self.samples, trials=self.trials)
        given = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "pin"}
        given |= {
            "candidates": _listed(self.candidates) or WEIGHTS,
            "activations": _listed(self.activations),
            "compare": _listed(self.compare),
            "finish": _listed(self.finish),
            "seed": checked_seed(self.seed),
        }
        return Settings(**given, pinned=dict(_pinned(p) for p in self.pin), preprocess=preprocess)


USUAL = Allocating()

JUDGED_ON_SYNTHETIC = "samples are synthetic: agreement and losses were judged on them, not on data"


def search(
    model: Path,
    out: Path | None = None,
    /,
    *,
    data: Path,
    domain: str = "",
    bytes: str = "",
    latency: str = "",
    bits: float | None = None,
    max_drop: float | None = None,
    min_agreement: float | None = None,
    like: str = "",
    save_plan: Path | None = None,
    plot: Path | None = None,
    how: Allocating = USUAL,
    preprocessing: Preprocessing = NO_PREPROCESSING,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Find the best integer model that fits, or the smallest that keeps a promise.

    Args:
        model: the float network, an .onnx file.
        out: the .subbyte file to write, if any.
        data: samples: .npz, .npy, folder, or CSV of paths. Part of them is kept for judging; labels are used only
            for --max-drop. Without any: synthetic, synthetic:l2 and so on, as for quantize; then the network is judged
            on synthetic samples too.
        domain: for synthetic samples: smallest and largest number before preprocessing, such as 0,255 or =-1,1.
        bytes: of the model file at most, such as 60000, 60K (60,000) or 60Ki (61,440).
        latency: of one sample on this machine at most, such as 80us or 1.2ms.
        bits: stored bits per weight at most, mean over the network.
        max_drop: points of top-1 that may be lost; without labels every disagreement with float counts.
        min_agreement: percent of samples that keep the float network's best class, at least.
        like: a recipe that the answer must not be worse than, such as w4a8.
        save_plan: recipe file to write, for quantize --recipe.
        plot: .svg file to write: the frontier.
        how: see its options.
        preprocessing: see its options.
        json: print JSON instead of tables.
        quiet: no progress, no tables.
    """
    from subbyte.allocation.search import search as run

    targets = _targets(out, save_plan, plot, (model,) if is_synthetic(data) else (model, data))
    settings = how.settings(preprocessing.given())
    goal: dict[str, Any] = {"bits": bits, "max_drop": max_drop, "min_agreement": min_agreement, "like": like or None}
    goal |= {"bytes": size(bytes), "latency_us": microseconds(latency)}
    graph = float_model(model)
    with progress(quiet=quiet or json) as report:
        given = samples_of(data, graph, domain, how.samples, how.seed, settings.preprocess, report)
        found = run(graph, given, settings=settings, progress=report, **goal)
    if is_synthetic(data):
        found = replace(found, notes=(*found.notes, JUDGED_ON_SYNTHETIC))
    _write(found, targets, f"{model.name}: bits per layer")
    if json:
        show_json({**facts(found), "files": {k: str(v) for k, v in targets.items()}})
    elif not quiet:
        show(found, targets)
    return 0


def size(text: str) -> float | None:
    """Bytes from a text such as 60000, 60K, 60Ki or 1.5MB; None from an empty one."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*([kKM]?)(i?)[bB]?", text.strip())
    if match is None or (match[3] and not match[2]):
        raise _wrong("bytes", text, "a size is a number with K, M, Ki or Mi behind it, or nothing")
    unit, power = 1024 if match[3] else 1000, {"": 0, "k": 1, "K": 1, "M": 2}[match[2]]
    return float(match[1]) * float(unit**power)


def microseconds(text: str) -> float | None:
    """Microseconds from a text such as 80us, 0.5ms or 80; None from an empty one."""
    if not text:
        return None
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)\s*(ns|us|µs|ms|s)?", text.strip())
    if match is None:
        raise _wrong("latency", text, "a time is a number with us, ms, s or ns behind it")
    return float(match[1]) * {"ns": 1e-3, "ms": 1e3, "s": 1e6}.get(match[2] or "us", 1.0)


def _wrong(option: str, text: str, rule: str) -> SubbyteError:
    return SubbyteError(f"--{option} {text!r}", rule, f"correct --{option}", "command line")


def _listed(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _pinned(text: str) -> tuple[str, str]:
    pattern, equals, kind = text.rpartition("=")
    if not equals or not pattern:
        raise _wrong("pin", text, "a pin is PATTERN=FORMAT, such as ^fc$=int8")
    return pattern, kind


def _targets(out: Path | None, plan: Path | None, plot: Path | None, inputs: tuple[Path, ...]) -> dict[str, Path]:
    """Files to write, after a check that they can be."""
    wanted = {"model": (out, MODEL_FILE), "plan": (plan, ".toml"), "plot": (plot, ".svg")}
    return {k: output_path(path, (suffix,), *inputs) for k, (path, suffix) in wanted.items() if path is not None}


def _write(found: Found, targets: dict[str, Path], title: str) -> None:
    from subbyte.allocation.plot import frontier_svg
    from subbyte.files import atomic_write

    if "model" in targets:
        found.model.save(targets["model"])
    if "plan" in targets:
        atomic_write(targets["plan"], found.to_toml().encode())
    if "plot" in targets:
        atomic_write(targets["plot"], frontier_svg(found, title).encode())


def facts(found: Found) -> dict[str, Any]:
    """A search's answer as JSON values."""
    return {
        "found": found.trial.to_json(),
        "trials": [t.to_json() for t in found.trials],
        "frontier": [{"loss": a.loss, "costs": dict(a.costs)} for a in found.frontier],
        "layers": [row.to_json() for row in found.rows],
        "measured": [m.to_json() for m in found.measured],
        "notes": list(found.notes),
        "seconds": round(found.seconds, 2),
    }


def show(found: Found, targets: dict[str, Path]) -> None:
    """Print a search's answer: its layers, everything that was tried, and what is to be known."""
    from subbyte.graph.draw import short

    timed = "latency_us" in found.trial.costs
    columns = ["layer", "operator", "weights", "bytes", "MACs·bits", *(["µs"] if timed else []), "loss", "own dB"]
    cells = [
        (
            short(r.layer), r.op, str(r.candidate), round(r.bytes), round(r.bops),
            *([_round(r.microseconds, 1)] if timed else []), _round(r.loss, 6), _round(r.local_db, 1),
        )
        for r in found.rows
    ]  # fmt: skip
    show_table("Layers of the network found (loss: expected, of this layer alone)", columns, cells)
    costs = [name for name in ("bytes", "bits", "bops", "latency_us", "activation_bytes") if name in found.trial.costs]
    rows = [
        (
            f"{'→ ' if t is found.trial else ''}{t.name or 'allocation'}",
            *(round(t.costs[c]) if t.costs[c].is_integer() else round(t.costs[c], 2) for c in costs),
            t.loss,
            _round(t.agreement, 2),
            _round(t.drop, 2),
        )
        for t in sorted(found.trials, key=lambda t: t.costs[found.cost])
    ]
    show_table("Tried for real", ("network", *costs, "loss", "agreement %", "drop"), rows)
    for line in (*found.notes, *(f"{kind}: {path}" for kind, path in targets.items())):
        show_lines(line)
    show_lines(f"{found.seconds:.1f} s")


def _round(value: float | None, digits: int) -> float | str:
    """A number for a table; nothing where it is not known."""
    return "" if value is None or not math.isfinite(value) else round(value, digits)
