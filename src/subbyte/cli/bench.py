"""``subbyte bench``: how fast a model or the kernels are on this machine, and which choices are fastest."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subbyte.cli.options import integer_model, positive
from subbyte.cli.output import progress, show_json, show_lines, show_table
from subbyte.errors import SubbyteError

if TYPE_CHECKING:
    from subbyte.bench.kernels import KernelRow
    from subbyte.bench.layers import Breakdown
    from subbyte.model import QuantizedModel


def bench(
    model: Path | None = None,
    /,
    *,
    layers: bool = False,
    tune: bool = False,
    kernels: bool = False,
    repeats: int | None = None,
    threads: int = 1,
    quick: bool = False,
    json: bool = False,
    quiet: bool = False,
) -> int:
    """Measure on this machine: the latency of a model, its layers, or the kernels.

    Args:
        model: a .subbyte file; none with --kernels.
        layers: time every operator inside the engine, with its share of what the machine can do at most.
        tune: find the fastest choices for every layer and remember them for engines built from now on.
        kernels: compare formats and families of kernels on matrix products; takes minutes.
        repeats: calls, or runs of every operator; about a second of them if left out.
        threads: of the native engine.
        quick: with --kernels, one small product instead of large ones.
        json: print JSON instead of a table.
        quiet: no progress.
    """
    positive(repeats=repeats, threads=threads)
    if layers + tune + kernels > 1:
        raise _usage("two of --layers, --tune and --kernels", "each is a question of its own", "ask one at a time")
    if kernels != (model is None):
        seen = f"--kernels with the model {str(model)!r}" if kernels else "no model is given"
        raise _usage(seen, "bench takes a .subbyte file, and none with --kernels", "see subbyte bench --help")
    if (quick and not kernels) or (repeats is not None and (kernels or tune)):
        raise _usage(
            "an option that this question does not take",
            "--quick goes with --kernels only, --repeats neither with --kernels nor with --tune",
            "leave it out",
        )
    if model is None:
        return _kernels(quick=quick, threads=threads, as_json=json, quiet=quiet or json)
    integer = integer_model(model, threads)
    if tune:
        return _tune(integer, as_json=json, quiet=quiet or json)
    return _layers(integer, repeats, as_json=json) if layers else _latency(integer, repeats, as_json=json)


def _usage(seen: str, rule: str, remedy: str) -> SubbyteError:
    return SubbyteError(seen, rule, remedy, "command line")


def _latency(model: QuantizedModel, repeats: int | None, *, as_json: bool) -> int:
    from subbyte.bench.latency import latency

    facts = asdict(latency(model, repeats))
    if as_json:
        show_json(facts)
        return 0
    rows = [
        (f"call with {text}", *(round(facts[kind][name], 2) for name in ("least", "median", "p90")))
        for kind, text in (("codes", "stored integers"), ("floats", "float32"))
    ]
    title = f"{model.graph.name}: {facts['isa']}, threads {facts['threads']}, microseconds"
    show_table(title, ("", "fastest", "median", "90 % below"), rows)
    show_lines(
        f"{facts['per_second']:,.0f} samples per second; activations {facts['arena_bytes']:,} bytes, "
        f"weights {facts['weight_bytes']:,} bytes"
    )
    return 0


def _layers(model: QuantizedModel, repeats: int | None, *, as_json: bool) -> int:
    from subbyte.bench.layers import breakdown

    found = breakdown(model, repeats)
    if as_json:
        show_json(asdict(found))
        return 0
    columns = (
        "node",
        "operator",
        "module",
        "us",
        "median us",
        "% of time",
        "MACs",
        "GMAC/s",
        "read",
        "written",
        "% of roof",
        "roof",
    )
    title = f"{model.graph.name}: {found.layers[0].isa}, threads {found.threads}, {found.repeats} runs"
    show_table(title, columns, _layer_rows(found))
    show_lines(
        f"operators {found.microseconds:,.1f} us (sum of the fastest runs); call from Python: "
        f"{found.call.least:,.1f} us fastest, {found.call.median:,.1f} us median, {found.call.p90:,.1f} us 90 % below"
    )
    return 0


def _layer_rows(found: Breakdown) -> list[tuple[Any, ...]]:
    whole = max(sum(row.nanoseconds for row in found.layers), 1)
    return [
        (
            row.name,
            row.op,
            "" if row.module == row.name else row.module,
            round(row.nanoseconds / 1e3, 2),
            round(row.median_nanoseconds / 1e3, 2),
            round(100 * row.nanoseconds / whole, 1),
            row.macs or "",
            round(row.macs / row.nanoseconds, 1) if row.macs and row.nanoseconds else "",
            row.bytes_read,
            row.bytes_written,
            round(100 * row.roof_share, 1),
            row.bound if row.roof_share else "",
        )
        for row in found.layers
    ]


def _tune(model: QuantizedModel, *, as_json: bool, quiet: bool) -> int:
    from subbyte.bench.tune import tune

    with progress(quiet=quiet) as report:
        found = tune(model.graph, model.threads, lambda done, what: report("trials", done, 0))
    if as_json:
        show_json({**asdict(found), "path": str(found.path) if found.path else None})
        return 0
    rows = [(key, ", ".join(f"{k} {way}" for k, way in choice.items())) for key, choice in found.winners.items()]
    if rows:
        show_table(f"{model.graph.name}: {found.isa}, faster than usual", ("layer", "choice"), rows)
    kept = f"remembered in {found.path}" if found.path else "nothing to remember"
    show_lines(
        f"{len(rows)} of {found.layers} layers have a faster way; operators of the network {found.speedup:.3f}x; {kept}"
    )
    return 0


def _kernels(*, quick: bool, threads: int, as_json: bool, quiet: bool) -> int:
    from subbyte.bench.kernels import BASE, survey

    with progress(quiet=quiet) as report:
        rows = survey(quick=quick, threads=threads, report=report)
    if as_json:
        show_json([asdict(row) for row in rows])
        return 0
    ways = sorted({row.rows for row in rows})
    for shape in dict.fromkeys((row.inputs, row.outputs) for row in rows):
        of_shape = [row for row in rows if (row.inputs, row.outputs) == shape]
        found = {row.pair: [row.pair] for row in of_shape}
        for count, (pair, cells) in itertools.product(ways, found.items()):
            cells.append(_cell([row for row in of_shape if (row.rows, row.pair) == (count, pair)]))
        title = f"[M x {shape[0]}] x [{shape[0]} x {shape[1]}]: speed over {BASE} (in parentheses: usual, where slower)"
        show_table(title, ("formats", *(f"M = {count}" for count in ways)), list(found.values()))
    return 0


def _cell(rows: list[KernelRow]) -> str:
    """Of one product in one pair of formats."""
    from subbyte.bench.chooser import MARGIN

    best, usual = next(row for row in rows if row.fastest), next(row for row in rows if row.usual)
    if best.over_int8 * MARGIN <= usual.over_int8:  # no better than noise
        return f"{usual.over_int8:.2f}x"
    return f"{best.over_int8:.2f}x {best.way} ({usual.over_int8:.2f}x)"
