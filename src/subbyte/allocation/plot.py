"""The frontier as a picture: SVG, written by hand, so that nothing is needed to draw it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from subbyte.allocation.found import Found
from subbyte.names import printable

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 48, 56
_INK, _PALE, _LINE, _CHOSEN, _OTHER = "#222", "#ddd", "#3b6fb6", "#c8401f", "#777"


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


def frontier_svg(found: Found, title: str) -> str:
    """Loss over cost: what was expected as a line, what was tried as points, the answer filled.

    Args:
        found: of a search.
        title: above the picture.
    """
    cost = found.cost
    points = [(t.costs[cost], t.loss, t.name, t is found.trial, t.agreement) for t in found.trials if cost in t.costs]
    line = [(a.costs[cost], a.loss + found.base_loss) for a in found.frontier]
    xs = [p[0] for p in points] + [p[0] for p in line]
    ys = [max(v, 1e-9) for v in ([p[1] for p in points] + [p[1] for p in line])]
    margin = 0.04 * (max(xs) - min(xs)) or 1.0
    x = Axis(max(min(xs) - margin, 0.0), max(xs) + margin, LEFT, WIDTH - RIGHT)
    y = Axis(min(ys) / 1.3, max(ys) * 1.3, HEIGHT - BOTTOM, TOP, log=True)
    parts = [*_frame(x, y, title, cost), _polyline([(x(a), y(b)) for a, b in line])]
    parts += [_point(x(c), y(loss), name, chosen, agreement, loss, c) for c, loss, name, chosen, agreement in points]
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{_INK}">\n<rect width="100%" height="100%" fill="white"/>\n'
        f"{body}\n</svg>\n"
    )


def _frame(x: Axis, y: Axis, title: str, cost: str) -> list[str]:
    parts = [f'<text x="{LEFT}" y="24" font-size="15">{_shown(title)}</text>']
    for tick in x.ticks():
        at = x(tick)
        parts.append(f'<path d="M{at:.1f} {TOP}V{HEIGHT - BOTTOM}" stroke="{_PALE}"/>')
        parts.append(f'<text x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{tick:,.6g}</text>')
    for tick in y.ticks():
        at = y(tick)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - RIGHT}" stroke="{_PALE}"/>')
        parts.append(f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{tick:g}</text>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    turned = f'transform="rotate(-90 18 {middle:.0f})"'
    parts.append(f'<text x="18" y="{middle:.0f}" text-anchor="middle" {turned}>loss per sample</text>')
    parts.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 14}" text-anchor="middle">{_shown(cost)}</text>'
    )
    return parts


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>'


def _point(at: float, up: float, name: str, chosen: bool, agreement: float, loss: float, cost: float) -> str:
    label = "found" if chosen else "" if ", " in name else name  # steps from an allocation would fill the picture
    colour = _CHOSEN if chosen else (_OTHER if label else _LINE)
    fill = colour if label else "white"
    same = "" if math.isnan(agreement) else f", agreement {agreement:.1f} %"
    title = f"<title>{_shown(name or 'tried')}: {cost:,.6g}, loss {loss:.4g}{same}</title>"
    text = f'<text x="{at + 8:.1f}" y="{up - 6:.1f}" fill="{colour}">{_shown(label)}</text>' if label else ""
    circle = (
        f'<circle cx="{at:.1f}" cy="{up:.1f}" r="{5 if chosen else 4}" fill="{fill}" stroke="{colour}">{title}</circle>'
    )
    return circle + text


def _shown(text: str) -> str:
    """Names come from files: nothing in them may end up as markup."""
    return escape(printable(text))
