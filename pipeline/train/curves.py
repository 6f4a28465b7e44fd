"""A run's curves as one SVG: loss, rates, gradient norm and validation scores over the steps."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from pipeline.tracking.outbox import Point

WIDTH, HEIGHT, MARGIN = 360, 180, 30


def draw_curves(points: Iterable[Point]) -> str:
    """A small panel a metric, two beside each other, each with its range."""
    series: dict[str, list[tuple[int, float]]] = {}
    for point in points:
        series.setdefault(point.key, []).append((point.step, point.value))
    panels = [_panel(n, name, rows) for n, (name, rows) in enumerate(sorted(series.items()))]
    height = HEIGHT * -(-len(panels) // 2)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{2 * WIDTH}" height="{height}" '
        'font-family="sans-serif" font-size="11"><rect width="100%" height="100%" fill="white"/>'
        + "".join(panels)
        + "</svg>\n"
    )


def _panel(number: int, name: str, rows: list[tuple[int, float]]) -> str:
    left, top = WIDTH * (number % 2), HEIGHT * (number // 2)
    low, high = min(v for _, v in rows), max(v for _, v in rows)
    first, last = rows[0][0], rows[-1][0]
    places = " ".join(
        f"{left + MARGIN + (WIDTH - 2 * MARGIN) * (step - first) / max(last - first, 1):.1f},"
        f"{top + HEIGHT - MARGIN - (HEIGHT - 2 * MARGIN) * (value - low) / ((high - low) or 1):.1f}"
        for step, value in rows
    )
    return (
        f'<text x="{left + MARGIN}" y="{top + 20}">{escape(name)}: {low:.4g} to {high:.4g}, '
        f"last {rows[-1][1]:.4g}</text>"
        f'<polyline points="{places}" fill="none" stroke="#1f6f8b" stroke-width="1.5"/>'
        f'<text x="{left + MARGIN}" y="{top + HEIGHT - 12}" fill="#666">steps {first:,} to {last:,}</text>'
    )
