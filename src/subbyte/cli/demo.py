"""``subbyte demo``: the whole road on a small network that comes with the program."""

from __future__ import annotations

from pathlib import Path

from subbyte.errors import SubbyteError


def demo(*, search: bool = False, plot: Path | None = None, json: bool = False, quiet: bool = False) -> int:
    """Quantize a small digit classifier under several recipes, run each natively, and print what it costs.

    Args:
        search: find a mix of formats no worse than 4 bits everywhere but smaller, and print what was tried.
        plot: with --search, .svg file to write: the frontier.
        json: print JSON instead of a table.
        quiet: no progress.
    """
    if search:
        return _search(plot, as_json=json, quiet=quiet)
    if plot is not None:
        raise SubbyteError(
            "--plot without --search", "the search has a frontier to draw", "add --search", "command line"
        )
    from subbyte.demo.run import demo as run_demo

    return 0 if run_demo(as_json=json, quiet=quiet) else 1


def _search(plot: Path | None, *, as_json: bool, quiet: bool) -> int:
    from subbyte.cli.options import output_path
    from subbyte.cli.output import progress, show_json
    from subbyte.cli.search import facts, show
    from subbyte.demo.search import demo_search

    targets = {} if plot is None else {"plot": output_path(plot, (".svg",))}
    with progress(quiet=quiet or as_json) as report:
        found = demo_search(targets.get("plot"), report)
    if as_json:
        show_json(facts(found))
    else:
        show(found, targets)
    return 0
