"""``subbyte demo``: the whole road on a small network that comes with the program."""

from __future__ import annotations


def demo(*, json: bool = False, quiet: bool = False) -> int:
    """Quantize a small digit classifier under several recipes, run each natively, and print what it costs.

    Args:
        json: print JSON instead of a table.
        quiet: no progress.
    """
    from subbyte.demo.run import demo as run_demo

    return 0 if run_demo(as_json=json, quiet=quiet) else 1
