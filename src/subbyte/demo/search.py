"""Search on the demo network: no worse than 4 bits everywhere, but smaller; and the frontier."""

from __future__ import annotations

from pathlib import Path

from subbyte.allocation.candidates import WEIGHTS
from subbyte.allocation.found import Found
from subbyte.allocation.plot import frontier_svg
from subbyte.allocation.search import search
from subbyte.allocation.settings import Settings
from subbyte.allocation.workbench import Report
from subbyte.demo.run import FLOAT_FILE, images
from subbyte.files import atomic_write
from subbyte.pipeline import load_model

LIKE = "w4a8"
"""What the answer must not be worse than."""

CANDIDATES = WEIGHTS

UNIFORM = ("w3a8", "w2a8")
"""What it is shown beside."""


def demo_search(plot: Path | None, progress: Report) -> Found:
    """Find the smallest network that is like ``LIKE``; draw the frontier where a path is given.

    Args:
        plot: of the .svg file.
        progress: called with (stage, done, total).
    """
    settings = Settings(candidates=CANDIDATES, compare=UNIFORM, trials=6, refine=1)
    graph, data = load_model(FLOAT_FILE), images("mnist16_calibration.npz")
    found = search(graph, data, like=LIKE, settings=settings, progress=progress)
    if plot is not None:
        atomic_write(plot, frontier_svg(found, "MNIST 16x16: loss over file size").encode())
    return found
