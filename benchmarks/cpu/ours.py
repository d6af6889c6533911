"""Runners of subbyte's native engine on whole networks, and the proof that what is timed is right."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

import subbyte as sb
from benchmarks.cpu import workshop
from benchmarks.cpu.networks import Subject
from benchmarks.cpu.rounds import Output, Runner
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


def engine_bytes(path: Path, copies: int = 4) -> int:
    """Resident memory that an engine of this model adds to its graph, arenas included.

    Measured in a process of its own: what an earlier engine freed would be taken again and seem to cost nothing.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_engine_bytes_here, path, copies).result()


def _engine_bytes_here(path: Path, copies: int) -> int:
    graph = sb.load(path).graph
    before = _resident()
    engines = [Engine(graph) for _ in range(copies)]
    return (_resident() - before) // len(engines)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class WrongAnswerError(AssertionError):
    """A runner does not compute what it should; its time says nothing."""


def check_bits(name: str, got: Output, want: Output) -> None:
    """Raises WrongAnswerError unless both hold the same integers."""
    if got.shape != want.shape or not np.array_equal(got, want):
        raise WrongAnswerError(
            f"{name}: {np.count_nonzero(got != want)} of {want.size} integers differ from the reference"
        )


def network_runners(subject: Subject, recipe: str, threads: int = 1) -> list[Runner]:
    """A network under a recipe: called with ready codes, and (named ``.. float``) with float32 in and out.

    Raises:
        WrongAnswerError: the engine's integers are not the reference's on the sample that is timed.
    """
    path = quantized(subject, recipe)
    model = sb.load(path, threads=threads)
    x = np.ascontiguousarray(subject.inputs()[:1])
    codes = model.encode(x)
    engine = model.engine
    check_bits(f"{subject.name} {recipe}", _first(engine, codes), expected(path, model, codes))

    def output() -> Output:
        return np.asarray(model(x))

    return [
        Runner(name=recipe, kind="ours", call=lambda: engine.run(codes), output=output),
        Runner(name=f"{recipe} float", kind="ours", call=lambda: model(x), output=output),
    ]


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
