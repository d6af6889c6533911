"""``subbyte eval``: accuracy on labelled samples, and agreement with the float network."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subbyte.cli.options import (
    MODEL_FILE,
    NO_PREPROCESSING,
    Preprocessing,
    checked_seed,
    float_model,
    integer_model,
    positive,
)
from subbyte.cli.output import progress, show_json, show_table
from subbyte.errors import DataError

if TYPE_CHECKING:
    from subbyte.graph.ir import Graph
    from subbyte.ingest.data import Preprocess

Forward = Callable[[dict[str, Any]], Any]


def evaluate(
    model: Path,
    /,
    *,
    data: Path,
    against: Path | None = None,
    samples: int | None = None,
    batch: int = 32,
    seed: int = 0,
    threads: int = 1,
    preprocessing: Preprocessing = NO_PREPROCESSING,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Measure top-1 accuracy on labelled samples.

    Args:
        model: a .subbyte file (native engine) or an .onnx file (float).
        data: labelled samples: .npz with x and y, a folder per class, or CSV of paths and labels.
        against: a second model, usually the float one: report how often both give the same class.
        samples: how many samples are used at most; all if left out.
        batch: samples per call.
        seed: of the choice of samples.
        threads: of the native engine.
        preprocessing: see its options; what the model file holds if none is given.
        json: print JSON instead of a table.
        quiet: no progress.
    """
    positive(samples=samples, batch=batch, threads=threads)
    checked_seed(seed)
    graph, forward, preprocess = _open(model, threads, preprocessing)
    other = _open(against, threads, preprocessing)[1] if against is not None else None
    with progress(quiet=quiet or json) as report:
        facts = _score(graph, forward, other, _Samples(data, samples, batch, seed, preprocess), report)
    if json:
        show_json({"model": str(model), "data": str(data), **facts})
        return 0
    show_table(f"{model} on {data}", ("what", "value"), [(k.replace("_", " "), v) for k, v in facts.items()])
    return 0


def _open(path: Path, threads: int, preprocessing: Preprocessing) -> tuple[Graph, Forward, Preprocess | None]:
    """Graph, function from feeds to the first output, and preprocessing of a model of either kind."""
    if path.suffix == MODEL_FILE:
        integer = integer_model(path, threads)
        first = integer.graph.outputs[0]

        def run_integers(feeds: dict[str, Any]) -> Any:
            result = integer(feeds)
            return result[first] if isinstance(result, dict) else result

        return integer.graph, run_integers, preprocessing.or_stored(integer.metadata)
    graph = float_model(path)

    def run_reals(feeds: dict[str, Any]) -> Any:
        from subbyte.graph.torch_executor import run_float

        return run_float(graph, feeds)[graph.outputs[0]]

    return graph, run_reals, preprocessing.given()


class _Samples:
    """Batches with class numbers and how many samples there are."""

    def __init__(self, data: Path, limit: int | None, batch: int, seed: int, preprocess: Preprocess | None) -> None:
        from subbyte.ingest.data import labelled

        self.labelled = labelled(data)
        if self.labelled.labels is None:
            raise DataError(
                f"{str(data)!r} has no labels",
                "evaluation data has a class number for each sample",
                "pass an .npz with x and y, a folder per class, or a CSV with labels",
                f"data {str(data)!r}",
            )
        self.total = min(limit or len(self.labelled.labels), len(self.labelled.labels))
        self.options: dict[str, Any] = {
            "batch_size": batch, "limit": limit, "seed": seed, "preprocess": preprocess
        }  # fmt: skip


def _score(
    graph: Graph, forward: Forward, other: Forward | None, samples: _Samples, report: Callable[[str, int, int], None]
) -> dict[str, Any]:
    seen = right = same = 0
    seconds = 0.0
    for feeds, labels in samples.labelled.batches(graph, **samples.options):
        start = time.perf_counter()
        outputs = forward(feeds)
        seconds += time.perf_counter() - start
        classes = _classes(outputs, graph)
        _check_labels(labels, outputs, graph)
        right += int((classes == labels).sum())
        same += int((classes == _classes(other(feeds), graph)).sum()) if other else 0
        seen += len(classes)
        report("evaluating", seen, samples.total)
    facts = {"samples": seen, "top1_percent": 100 * right / seen, "milliseconds_per_sample": 1000 * seconds / seen}
    return {**facts, "agreement_percent": 100 * same / seen} if other else facts


def _check_labels(labels: Any, outputs: Any, graph: Graph) -> None:
    """Refuse labels that are no class of the model: the data belong to another model."""
    shape = outputs.shape
    count = max(shape[1:], default=1)
    if count > 1 and labels.max() >= count:
        raise DataError(
            f"a label is {labels.max()}",
            f"the model tells {count} classes, 0..{count - 1}",
            "pass data of the model's task, with classes numbered from 0",
            f"output {graph.outputs[0]!r}",
        )


def _classes(outputs: Any, graph: Graph) -> Any:
    """Class number of each sample: scores [N, classes] (further axes of length 1), or class numbers [N]."""
    import numpy as np

    array = np.asarray(outputs)
    array = (
        array.reshape(array.shape[0], -1)
        if array.size == array.shape[0] or max(array.shape[2:], default=1) == 1
        else array
    )
    if array.ndim > 2:
        raise DataError(
            f"the first output has shape {list(array.shape)}",
            "accuracy needs class scores [N, classes] or class numbers [N]",
            "use 'compare' for such models",
            f"output {graph.outputs[0]!r}",
        )
    if array.shape[1] > 1:
        return array.argmax(axis=1)
    return array[:, 0].astype(np.int64) if array.dtype.kind in "iu" else (array[:, 0] > 0).astype(np.int64)
