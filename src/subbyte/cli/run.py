"""``subbyte run``: samples through an integer model, outputs into a file."""

from __future__ import annotations

import io
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subbyte.cli.options import NO_PREPROCESSING, Preprocessing, integer_model, output_path, positive
from subbyte.cli.output import progress, shape_text, show_json, show_table
from subbyte.files import atomic_write

if TYPE_CHECKING:
    from subbyte.model import QuantizedModel


def run(
    model: Path,
    data: Path,
    out: Path,
    /,
    *,
    samples: int | None = None,
    batch: int = 32,
    threads: int = 1,
    preprocessing: Preprocessing = NO_PREPROCESSING,
    codes: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Run an integer model on samples, on the native engine.

    Args:
        model: a .subbyte file.
        data: samples: .npz, .npy, folder, or CSV of paths.
        out: the .npz file to write (an array per output), or an .npy file for models of one output.
        samples: only this many, the first ones; all if left out.
        batch: samples per call.
        threads: of the native engine.
        preprocessing: see its options; what the model file holds if none is given.
        codes: write stored integers instead of reals.
        json: print JSON instead of a table.
        quiet: no progress, no table.
    """
    positive(samples=samples, batch=batch, threads=threads)
    target = output_path(out, (".npz", ".npy"), model, data)
    integer = integer_model(model, threads)
    preprocess = preprocessing.or_stored(integer.metadata)
    start = time.perf_counter()
    with progress(quiet=quiet or json) as report:
        results = _forward(integer, data, samples, batch, preprocess, codes, report)
    seconds = time.perf_counter() - start
    atomic_write(target, _npy(results) if target.suffix == ".npy" else _npz(results))
    count = len(next(iter(results.values())))
    if json:
        outputs = {name: {"shape": list(a.shape), "dtype": str(a.dtype)} for name, a in results.items()}
        show_json({"out": str(out), "samples": count, "seconds": seconds, "outputs": outputs})
    elif not quiet:
        rows = [(name, str(a.dtype), shape_text(a.shape)) for name, a in results.items()]
        show_table(f"{out}: {count} samples in {seconds:.3f} s", ("output", "dtype", "shape"), rows)
    return 0


def _forward(
    integer: QuantizedModel, data: Path, samples: int | None, batch: int, preprocess: Any, codes: bool, report: Any
) -> dict[str, Any]:
    """Outputs of all samples by name, in the order of the data."""
    import numpy as np

    from subbyte.ingest.data import labelled

    source = labelled(data)
    total = min(samples or len(source.source), len(source.source))
    parts: dict[str, list[Any]] = {name: [] for name in integer.graph.outputs}
    done = 0
    for feeds, _ in source.batches(integer.graph, batch_size=batch, preprocess=preprocess):
        kept = {name: x[: total - done] for name, x in feeds.items()}
        outputs = integer.run_codes(integer.encode(kept)) if codes else integer(kept)
        named = outputs if isinstance(outputs, dict) else {integer.graph.outputs[0]: outputs}
        for name, part in parts.items():
            part.append(named[name])
        done += len(next(iter(kept.values())))
        report("running", done, total)
        if done == total:
            break
    return {name: np.concatenate(part) for name, part in parts.items()}


def _npy(results: dict[str, Any]) -> bytes:
    import numpy as np

    from subbyte.errors import RunError

    if len(results) != 1:
        raise RunError(
            f"the model has the outputs {list(results)}",
            "an .npy file holds one array",
            "write to an .npz file",
            "command line",
        )
    buffer = io.BytesIO()
    np.save(buffer, next(iter(results.values())), allow_pickle=False)
    return buffer.getvalue()


def _npz(results: dict[str, Any]) -> bytes:
    """An .npz file whose members are named by number where an output's name is no plain file name."""
    import numpy as np

    buffer = io.BytesIO()
    names = {name: name if _plain(name) else f"output{i}" for i, name in enumerate(results)}
    np.savez(buffer, **{names[name]: array for name, array in results.items()})
    return buffer.getvalue()


def _plain(name: str) -> bool:
    return name.replace("_", "").replace(".", "").isalnum() and name.isascii() and name != "file" and name[0] != "."
