"""The frontier as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence

from subbyte.allocation.found import Found
from subbyte.allocation.svg import Axis, document, frame, shown

WIDTH, HEIGHT = 720, 440
LEFT, RIGHT, TOP, BOTTOM = 76, 24, 48, 56
_LINE, _CHOSEN, _OTHER = "#3b6fb6", "#c8401f", "#777"


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
    parts = [f'<text x="{LEFT}" y="24" font-size="15">{shown(title)}</text>']
    parts += frame(x, y, cost, "loss per sample", gap=58)
    parts.append(_polyline([(x(a), y(b)) for a, b in line]))
    parts += [_point(x(c), y(loss), name, chosen, agreement, loss, c) for c, loss, name, chosen, agreement in points]
    return document(WIDTH, HEIGHT, parts)


def _polyline(points: Sequence[tuple[float, float]]) -> str:
    path = " ".join(f"{a:.1f},{b:.1f}" for a, b in points)
    return f'<polyline points="{path}" fill="none" stroke="{_LINE}" stroke-width="2"/>'


def _point(at: float, up: float, name: str, chosen: bool, agreement: float, loss: float, cost: float) -> str:
    label = "found" if chosen else "" if ", " in name else name  # steps from an allocation would fill the picture
    colour = _CHOSEN if chosen else (_OTHER if label else _LINE)
    fill = colour if label else "white"
    same = "" if math.isnan(agreement) else f", agreement {agreement:.1f} %"
    title = f"<title>{shown(name or 'tried')}: {cost:,.6g}, loss {loss:.4g}{same}</title>"
    text = f'<text x="{at + 8:.1f}" y="{up - 6:.1f}" fill="{colour}">{shown(label)}</text>' if label else ""
    circle = (
        f'<circle cx="{at:.1f}" cy="{up:.1f}" r="{5 if chosen else 4}" fill="{fill}" stroke="{colour}">{title}</circle>'
    )
    return circle + text
