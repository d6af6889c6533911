"""Ranges of tensors: observers take statistics in, a range comes out, and a format gets its scale and zero point."""

from __future__ import annotations

from subbyte.ranges.affine import affine_params, symmetric_scale
from subbyte.ranges.entropy import Entropy
from subbyte.ranges.min_max import Ema, MinMax
from subbyte.ranges.mse import Mse
from subbyte.ranges.observer import Observer, get_observer, observer_names, register_observer
from subbyte.ranges.octav import Octav
from subbyte.ranges.percentile import Percentile
from subbyte.ranges.several import Observers

register_observer("min_max", lambda _: MinMax(), None)
register_observer("mse", lambda _: Mse(), None)
register_observer("octav", lambda _: Octav(), None)
register_observer("entropy", lambda _: Entropy(), None)
register_observer("ema", Ema, 0.99)
register_observer("percentile", Percentile, 99.99)

__all__ = [
    "Observer",
    "Observers",
    "affine_params",
    "get_observer",
    "observer_names",
    "register_observer",
    "symmetric_scale",
]
