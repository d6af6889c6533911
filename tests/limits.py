"""Numbers that tests hold the project to, and how many random cases they draw.

``SUBBYTE_TEST_SCALE`` scales every count of random cases: 0.1 in daily runs, 1 in ``make test-all``.
"""

from __future__ import annotations

import os
from typing import Final

SCALE: Final = float(os.environ.get("SUBBYTE_TEST_SCALE", "0.1"))
"""Share of the full number of random cases that this run draws."""

FLOAT_REL_ERROR: Final = 1e-5
"""max|difference| / max|reference| of the float graph against the source framework."""

FLOAT_REL_ERROR_FOLDED: Final = 1e-4
"""The same after batch norm is folded into weights, which rounds them once more."""


def examples(full: int) -> int:
    """Number of random cases to draw now where a full run draws ``full``; at least 2 (or ``full`` if that is less)."""
    return min(full, max(2, round(full * SCALE)))
