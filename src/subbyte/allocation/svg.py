"""Pieces of a picture in SVG, written by hand, so that nothing is needed to draw it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from subbyte.names import printable

INK, PALE = "#222", "#ddd"


@dataclass(frozen=True)
class Axis:
    """Numbers to pixels.

    Attributes:
        low: at ``start``.
        high: at ``stop``.
        start: pixel.
        stop: pixel.
        log: whether equal ratios are equally far apart.
    """

    low: float
    high: float
    start: float
    stop: float
    log: bool = False

    def __call__(self, value: float) -> float:
        """The pixel of a number."""
        low, high, at = (math.log10(v) if self.log else v for v in (self.low, self.high, max(value, self.low)))
        return self.start + (self.stop - self.start) * (at - low) / max(high - low, 1e-300)

    def ticks(self) -> list[float]:
        """Round numbers along the axis."""
        if self.log:
            powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
            return [10.0**p for p in powers if self.low <= 10.0**p <= self.high]
        step = 10 ** math.floor(math.log10((self.high - self.low) / 4))
        step *= next(k for k in (1, 2, 5, 10) if (self.high - self.low) / (step * k) <= 7)
        first = math.ceil(self.low / step)
        return [k * step for k in range(first, math.floor(self.high / step) + 1)]


def document(width: int, height: int, parts: Sequence[str]) -> str:
    """The file that shows the parts on white."""
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">\n<rect width="100%" height="100%" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )


def frame(x: Axis, y: Axis, x_name: str, y_name: str, gap: float = 44) -> list[str]:
    """Ticks with their numbers, grid lines and the names of both axes; ``gap`` from the left axis to its name."""
    bottom, top = y.start, y.stop
    parts = []
    for tick in x.ticks():
        at = x(tick)
        parts.append(f'<path d="M{at:.1f} {top}V{bottom}" stroke="{PALE}"/>')
        parts.append(f'<text x="{at:.1f}" y="{bottom + 18}" text-anchor="middle">{tick:,.6g}</text>')
    for tick in y.ticks():
        at = y(tick)
        parts.append(f'<path d="M{x.start:.1f} {at:.1f}H{x.stop:.1f}" stroke="{PALE}"/>')
        parts.append(f'<text x="{x.start - 8:.1f}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle, side, across = (top + bottom) / 2, x.start - gap, (x.start + x.stop) / 2
    turned = f'transform="rotate(-90 {side:.0f} {middle:.0f})"'
    parts.append(f'<text x="{side:.0f}" y="{middle:.0f}" text-anchor="middle" {turned}>{shown(y_name)}</text>')
    parts.append(f'<text x="{across:.0f}" y="{bottom + 40}" text-anchor="middle">{shown(x_name)}</text>')
    return parts


def shown(text: str) -> str:
    """Names come from files: nothing in them may end up as markup."""
    return escape(printable(text))
