"""Quantize the demo network under several recipes, run every test image natively, measure, and show the table."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from subbyte.graph.torch_executor import run_float
from subbyte.model import QuantizedModel, load
from subbyte.pipeline import load_model, quantize

if TYPE_CHECKING:
    from rich.table import Table

    from subbyte.graph.ir import Graph

RECIPES = ("w8a8", "w4a8", "w4a4", "x31_w17", "x23_w23", "w3a8", "w2a8", "wternary_a8", "w1a8")
"""From 8 bits to one; the x.._w.. pairs are the 4.6-bit rule: products of the level counts' maxima fit int8."""

FILES = Path(__file__).resolve().parent
FLOAT_FILE = FILES / "mnist16.onnx"


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the table.

    Attributes:
        recipe: short name; ``float32`` for the network that came in.
        top1_percent: share of the test images whose largest output is the label.
        change_percent: points gained or lost against float.
        file_bytes: of the .subbyte file, scales, tables and graph included (of the ONNX file for float).
        times_smaller: than the ONNX file.
        microseconds: median of one image at a time, one thread, integers in and out; None for float.
        identical: whether native outputs equal the reference's bit for bit on every test image; None for float.
    """

    recipe: str
    top1_percent: float
    change_percent: float
    file_bytes: int
    times_smaller: float
    microseconds: float | None = None
    identical: bool | None = None


def images(name: str) -> npt.NDArray[np.float32]:
    """Images of a demo file as the network wants them: float32 [n, 1, 16, 16] in 0..1."""
    with np.load(FILES / name) as file:
        return np.asarray(file["x"][:, None].astype(np.float32) / np.float32(255))


def labels() -> npt.NDArray[np.uint8]:
    """Labels of the test images, uint8 [1000]."""
    with np.load(FILES / "mnist16_test.npz") as file:
        return np.asarray(file["y"])


def measure(recipes: Sequence[str] = RECIPES) -> Iterator[Row]:
    """Rows of the table, float first, each as soon as it is known."""
    graph = load_model(FLOAT_FILE)
    test, known, calibration = images("mnist16_test.npz"), labels(), images("mnist16_calibration.npz")
    logits = _float_outputs(graph, test)
    base, size = top1(logits, known), FLOAT_FILE.stat().st_size
    yield Row(recipe="float32", top1_percent=base, change_percent=0.0, file_bytes=size, times_smaller=1.0)
    for recipe in recipes:
        model, stored = through_file(quantize(graph, calibration, recipe=recipe))
        score = top1(model(test), known)
        codes = model.encode(test)[graph.inputs[0]]
        microseconds, identical = race(model, codes)
        yield Row(
            recipe=recipe,
            top1_percent=score,
            change_percent=round(score - base, 2),
            file_bytes=stored,
            times_smaller=round(size / stored, 2),
            microseconds=round(microseconds, 1),
            identical=identical,
        )


def _float_outputs(graph: Graph, test: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    outputs = run_float(graph, {graph.inputs[0]: test})
    return np.asarray(outputs[graph.outputs[0]])


def top1(outputs: npt.NDArray[Any], known: npt.NDArray[np.uint8]) -> float:
    """Percent of rows [n, classes] whose largest entry is at the known label."""
    return round(100.0 * float(np.mean(outputs.argmax(axis=1) == known)), 2)


def through_file(model: QuantizedModel) -> tuple[QuantizedModel, int]:
    """The model as its file holds it, and the file's size in bytes."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "mnist16.subbyte"
        model.save(path)
        return load(path), path.stat().st_size


def race(model: QuantizedModel, codes: npt.NDArray[Any]) -> tuple[float, bool]:
    """Median microseconds of one image, and whether every image gives the reference's bits, alone and in a batch."""
    (output,) = model.graph.outputs
    expected = model.reference(codes)[output]
    batched = model.run_codes(codes)[output]
    taken, same = [], np.array_equal(expected, batched)
    for i in range(len(codes)):
        start = time.perf_counter_ns()
        alone = model.run_codes(codes[i : i + 1])
        taken.append(time.perf_counter_ns() - start)
        same = same and np.array_equal(alone[output][0], expected[i])
    return float(np.median(taken)) / 1000, same


def table(rows: Sequence[Row]) -> Table:
    """The rows for people."""
    from rich.table import Table

    shown = Table(title="MNIST 16x16, 1,000 test images, integers only, native engine", caption=_CAPTION)
    shown.add_column("recipe", no_wrap=True)
    for heading in ("top-1 %", "change", "file bytes", "times smaller", "µs per image", "bits = reference"):
        shown.add_column(heading, justify="right")
    for row in rows:
        shown.add_row(
            row.recipe,
            f"{row.top1_percent:.1f}",
            f"{row.change_percent:+.1f}" if row.microseconds else "",
            f"{row.file_bytes:,}",
            f"{row.times_smaller:.1f}",
            f"{row.microseconds:.0f}" if row.microseconds else "",
            {True: "yes", False: "NO", None: ""}[row.identical],
        )
    return shown


_CAPTION = "256 unlabelled calibration images, no training; µs: median of one image at a time, one thread"


def demo(*, as_json: bool = False, quiet: bool = False) -> bool:
    """Run the demo and print its table (or JSON) on standard output; True if every recipe is bit-identical.

    Args:
        as_json: print a list of rows as JSON instead of the table.
        quiet: no progress on standard error.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    rows: list[Row] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True, disable=quiet) as progress:
        task = progress.add_task("float32", total=len(RECIPES) + 1)
        upcoming = iter((*RECIPES, "done"))
        for row in measure():
            rows.append(row)
            progress.update(task, advance=1, description=next(upcoming))
    console = Console()
    if not console.is_terminal:
        console.width = 120  # a file has no width that could wrap the table
    if as_json:
        console.out(json.dumps([asdict(row) for row in rows], indent=2), highlight=False)
    else:
        console.print(table(rows))
    return all(row.identical is not False for row in rows)
