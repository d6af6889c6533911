"""Points over two panels side by side, as SVG; hovering over a point tells its name."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

from subbyte.allocation.svg import Axis, document, frame

WIDTH, HEIGHT = 960, 420
TOP, BOTTOM, GAP, RIGHT = 66, 50, 70, 16
_ENVELOPE = "#999"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement.

    Attributes:
        name: shown on hovering, and beside the point where ``labelled``.
        group: decides the colour.
        x: of both panels.
        ys: one per panel.
        labelled: whether the name is written out.
    """

    name: str
    group: str
    x: float
    ys: tuple[float, ...]
    labelled: bool = False


def scatter_svg(
    title: str, x_name: str, y_names: Sequence[str], points: Sequence[Point], colours: Mapping[str, str], envelope: str
) -> str:
    """The picture; a line joins the best points so far of the groups that hold ``envelope`` in their names."""
    wide = (WIDTH - RIGHT) / len(y_names) - GAP
    parts = [f'<text x="{GAP}" y="22" font-size="15">{escape(title)}</text>', *_legend(colours, points)]
    x_range = (0.0, max(p.x for p in points) + 0.5)
    for number, y_name in enumerate(y_names):
        left = GAP + number * (wide + GAP)
        ys = [p.ys[number] for p in points]
        margin = 0.04 * (max(ys) - min(ys)) or 1.0
        x = Axis(*x_range, left, left + wide)
        y = Axis(min(ys) - margin, max(ys) + margin, HEIGHT - BOTTOM, TOP)
        parts += frame(x, y, x_name, y_name)
        parts.append(_best(x, y, [(p.x, p.ys[number]) for p in points if envelope in p.group]))
        parts += [_dot(x(p.x), y(p.ys[number]), p, p.ys[number], colours[p.group]) for p in points]
    return document(WIDTH, HEIGHT, parts)


def _legend(colours: Mapping[str, str], points: Sequence[Point]) -> list[str]:
    parts, at = [], float(GAP)
    for group in (g for g in colours if any(p.group == g for p in points)):
        parts.append(f'<circle cx="{at:.0f}" cy="42" r="4" fill="{colours[group]}"/>')
        parts.append(f'<text x="{at + 8:.0f}" y="46">{escape(group)}</text>')
        at += 24 + 6.2 * len(group)
    return parts


def _best(x: Axis, y: Axis, points: Sequence[tuple[float, float]]) -> str:
    """What the points so far reach, from left to right."""
    line: list[tuple[float, float]] = []
    for at, up in sorted(points, key=lambda p: (p[0], -p[1])):
        if not line or up > line[-1][1]:
            line.append((at, up))
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in line)
    return f'<polyline points="{path}" fill="none" stroke="{_ENVELOPE}" stroke-width="1.5"/>'


def _dot(at: float, up: float, point: Point, value: float, colour: str) -> str:
    name = escape(point.name)
    title = f"<title>{name}: {point.x:.2f} bits, {value:.1f}</title>"
    circle = f'<circle cx="{at:.1f}" cy="{up:.1f}" r="4" fill="{colour}" fill-opacity="0.75">{title}</circle>'
    text = f'<text x="{at - 6:.1f}" y="{up - 6:.1f}" text-anchor="end" font-size="10">{name}</text>'
    return circle + text if point.labelled else circle
