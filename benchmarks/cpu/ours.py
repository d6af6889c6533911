"""Runners of subbyte's native engine on whole networks, and the proof that what is timed is right."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import subbyte as sb
from benchmarks.cpu import workshop
from benchmarks.cpu.networks import Subject
from benchmarks.cpu.rounds import Output, Runner
from subbyte.bench import layers
from subbyte.graph.ops.conv import IntConv
from subbyte.runtime.engine import Engine

Array = npt.NDArray[Any]


def quantized(subject: Subject, recipe: str) -> Path:
    """The .subbyte file of a network under a recipe."""
    source, calibration = subject.path, subject.inputs()
    parts: list[bytes | str] = ["ours", recipe, workshop.compressor(), source.read_bytes(), calibration.tobytes()]

    def make(target: Path) -> None:
        sb.quantize(sb.load_model(source), calibration, recipe=recipe).save(target)

    return workshop.made(f"{subject.name}-{recipe}.subbyte", parts, make)


def expected(path: Path, model: sb.QuantizedModel, codes: dict[str, Array]) -> Output:
    """What the NumPy reference says for some codes; it is slow, so its answer is kept beside the file."""

    def make(target: Path) -> None:
        from subbyte.runtime.reference import run_reference

        with target.open("wb") as file:
            np.save(file, next(iter(run_reference(model.graph, codes).values())))

    content: list[bytes | str] = [path.read_bytes(), workshop.compressor(), *(c.tobytes() for c in codes.values())]
    return np.asarray(np.load(workshop.made(f"{path.stem}-reference.npy", content, make)))


class WrongAnswerError(AssertionError):
    """A runner does not compute what it should; its time says nothing."""


def check_bits(name: str, got: Output, want: Output) -> None:
    """Raises WrongAnswerError unless both hold the same integers."""
    if got.shape != want.shape or not np.array_equal(got, want):
        raise WrongAnswerError(
            f"{name}: {np.count_nonzero(got != want)} of {want.size} integers differ from the reference"
        )


def network_engine(subject: Subject, recipe: str, threads: int = 1, weights: str = "auto") -> Engine:
    """The engine of a network under a recipe, with weights kept so."""
    return Engine(sb.load(quantized(subject, recipe)).graph, threads=threads, weights=weights)


def network_runner(subject: Subject, recipe: str, threads: int = 1, weights: str = "auto") -> Runner:
    """A network under a recipe, called with ready codes; named after the recipe and how weights are kept, if asked.

    Raises:
        WrongAnswerError: the engine's integers are not the reference's on the sample that is timed.
    """
    path = quantized(subject, recipe)
    model = sb.load(path)
    x = np.ascontiguousarray(subject.inputs()[:1])
    codes = model.encode(x)
    engine = network_engine(subject, recipe, threads, weights)
    name = recipe if weights == "auto" else f"{recipe} {weights}"
    check_bits(f"{subject.name} {name}", _first(engine, codes), expected(path, model, codes))
    return Runner(name=name, kind="ours", call=lambda: engine.run(codes), output=lambda: np.asarray(model(x)))


def float_runner(subject: Subject, recipe: str) -> Runner:
    """A network called with float32, float32 out."""
    model = sb.load(quantized(subject, recipe))
    x = np.ascontiguousarray(subject.inputs()[:1])
    return Runner(name=f"{recipe} float", kind="ours", call=lambda: model(x), output=lambda: np.asarray(model(x)))


KINDS = {"int_conv": "convolutions", "int_linear": "linear layers"}
DEPTHWISE = "depthwise convolutions"


def breakdown(subject: Subject, recipe: str) -> dict[str, Any]:
    """Microseconds of the operators by kind, and their share of the machine's roof."""
    model = sb.load(quantized(subject, recipe))
    found = layers.breakdown(model)
    grouped = {n.name for n in model.graph if isinstance(n.op, IntConv) and n.op.groups > 1}
    kinds: dict[str, dict[str, float]] = {}
    for row in found.layers:
        name = DEPTHWISE if row.name in grouped else KINDS.get(row.op, "others")
        kind = kinds.setdefault(name, {"us": 0.0, "of_roof": 0.0})
        kind["us"] += row.nanoseconds / 1e3
        kind["of_roof"] += row.roof_share * row.nanoseconds / 1e3
    for kind in kinds.values():
        kind["of_roof"] = round(kind["of_roof"] / max(kind["us"], 1e-3), 3)
        kind["us"] = round(kind["us"], 2)
    return {"operators_us": round(found.microseconds, 2), "call_us": round(found.call.least, 2), "kinds": kinds}


def _first(engine: Engine, codes: dict[str, Array]) -> Output:
    return np.asarray(next(iter(engine.run(codes).values())))


def agreement(got: Output, exact: Output) -> dict[str, Any]:
    """How near an output is to the float network's: correlation and whether the largest entry is the same.

    Raises:
        WrongAnswerError: it is not finite or has another size.
    """
    a, b = got.astype(np.float64).reshape(-1), exact.astype(np.float64).reshape(-1)
    if a.size != b.size or not np.all(np.isfinite(a)):
        raise WrongAnswerError(f"an output of {a.size} numbers, {np.count_nonzero(~np.isfinite(a))} of them not finite")
    together = float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
    return {"correlation": round(together, 4), "same_top": bool(a.argmax() == b.argmax())}
