"""``subbyte compare``: where accuracy is lost, layer by layer, worst first."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from subbyte.cli.options import NO_PREPROCESSING, Preprocessing, checked_seed, float_model, integer_model, positive
from subbyte.cli.output import progress, show_json, show_table
from subbyte.errors import SubbyteError

if TYPE_CHECKING:
    from subbyte.comparison import LayerComparison


def compare(
    model: Path,
    quantized: Path,
    /,
    *,
    data: Path,
    samples: int = 32,
    seed: int = 0,
    threads: int = 1,
    preprocessing: Preprocessing = NO_PREPROCESSING,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Compare an integer model with the float network that it was made from, per layer, worst layers first.

    Args:
        model: the float network, an .onnx file.
        quantized: the .subbyte file.
        data: samples: .npz, .npy, folder, or CSV of paths.
        samples: how many samples are used at most.
        seed: of the choice of samples.
        threads: of the native engine.
        preprocessing: see its options; what the model file holds if none is given.
        json: print JSON instead of a table.
        quiet: no progress.
    """
    from subbyte.ingest.data import batches, take

    positive(samples=samples, threads=threads)
    checked_seed(seed)
    integer = integer_model(quantized, threads)
    preprocess = preprocessing.or_stored(integer.metadata)
    graph = float_model(model)
    with progress(quiet=quiet or json) as report:
        report("reading samples", 0, 2)
        stream = batches(data, integer.graph, limit=samples, seed=seed, preprocess=preprocess)
        feeds = take(stream, samples)
        report("comparing layers", 1, 2)
        rows = integer.compare(graph, feeds)
    if not rows:
        raise SubbyteError(
            f"{str(model)!r} and {str(quantized)!r} have no layer in common",
            "both are the same network, before and after quantize",
            "pass the float network that the integer model was made from",
            "command line",
        )
    if json:
        show_json([asdict(row) for row in rows])
    else:
        _show(rows, len(next(iter(feeds.values()))))
    return 0


def _show(rows: list[LayerComparison], samples: int) -> None:
    title = f"Float against integer, {samples} samples, worst layers first"
    columns = ("node", "operator", "format", "SQNR dB, this layer", "SQNR dB, up to here", "range", "clipped %")
    from subbyte.graph.draw import short

    cells = [
        (
            short(r.name),
            r.op,
            r.format,
            _db(r.sqnr_local),
            _db(r.sqnr_cumulative),
            f"{r.lo:.4g} .. {r.hi:.4g}",
            100 * r.clipped,
        )
        for r in rows
    ]
    show_table(title, columns, cells)


def _db(value: float) -> float:
    return round(value, 1)
