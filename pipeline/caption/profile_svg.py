"""A profile as a picture: a strip of time a lane, coloured by stage. One SVG file, no script in it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

from pipeline.caption.timeline import Timeline

COLOURS = {
    "start": "#8c8c8c",
    "imports": "#8c8c8c",
    "list": "#b8a99a",
    "load": "#5b5b5b",
    "plan": "#d2b48c",
    "read": "#88ccee",
    "decode": "#117733",
    "encode": "#332288",
    "search": "#cc6677",
    "batch": "#ddcc77",
    "rows": "#882255",
    "send": "#e58606",
    "write": "#e58606",
    "account": "#999933",
    "await model": "#dfdcee",
    "await workers": "#dfdcee",
    "await pictures": "#cfe8d5",
    "idle": "#f4f4f4",
}
"""Dark for the model, pale for waiting; told apart by people who see few colours."""

LEFT, WIDTH, RIGHT = 150, 720, 330
"""Pixels: names, time, shares."""
TOP, STRIP, GAP = 64, 34, 12
COLUMNS = 360
MOST_STRIPS = 40
SHARES = 3
"""Stages whose share is written beside a strip."""


@dataclass(frozen=True)
class Strip:
    """A lane: what it did when."""

    name: str
    threads: int
    seconds: Mapping[str, float]
    """By stage, waiting and idle time among them."""
    timeline: Timeline
    ground: tuple[str, tuple[float, float]] | None = None
    """A stage that lies behind the others, and from when to when."""


def draw(title: str, about: str, strips: Sequence[Strip], began: float, ended: float) -> str:
    """The picture of a run between two moments (seconds since 1970)."""
    shown = strips[:MOST_STRIPS]
    bottom = TOP + len(shown) * (STRIP + GAP)
    parts = [
        _text(LEFT, 24, title, size=16, weight="bold"),
        _text(LEFT, 44, about, size=12, colour="#555"),
    ]
    for number, strip in enumerate(shown):
        parts += _strip(strip, TOP + number * (STRIP + GAP), began, ended)
    parts += _axis(bottom, ended - began)
    if len(strips) > len(shown):
        more = f"and {len(strips) - len(shown):,} more: _profile.json has them"
        parts.append(_text(LEFT, bottom + 34, more, size=12, colour="#555"))
    legend, height = _legend(shown, bottom + 52)
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{LEFT + WIDTH + RIGHT}" '
            f'height="{height}" viewBox="0 0 {LEFT + WIDTH + RIGHT} {height}" '
            'font-family="Helvetica, Arial, sans-serif">',
            f"<title>{escape(title)}</title>",
            '<rect width="100%" height="100%" fill="#fff"/>',
            *parts,
            *legend,
            "</svg>",
            "",
        ]
    )


def _strip(strip: Strip, top: int, began: float, ended: float) -> list[str]:
    parts = [
        _text(LEFT - 8, top + 15, strip.name, size=12, anchor="end"),
        f'<rect x="{LEFT}" y="{top}" width="{WIDTH}" height="{STRIP}" fill="{COLOURS["idle"]}"/>',
    ]
    if strip.threads > 1:
        parts.append(
            _text(
                LEFT - 8, top + 29, f"{strip.threads} threads", size=10, colour="#777", anchor="end"
            )
        )
    if strip.ground is not None:
        stage, extent = strip.ground
        x, end = (
            LEFT + WIDTH * (min(max(at, began), ended) - began) / (ended - began) for at in extent
        )
        parts.append(
            f'<rect x="{x:.1f}" y="{top}" width="{end - x:.1f}" height="{STRIP}" '
            f'fill="{_colour(stage)}"/>'
        )
    stacked = [0.0] * COLUMNS
    total = sum(strip.seconds.values())
    for stage in strip.seconds:
        if stage in strip.timeline.stages:
            shares = _columns(strip, stage, began, ended)
            path = _path(shares, stacked, top)
            share = f"{stage}: {strip.seconds[stage]:,.2f} s, {strip.seconds[stage] / total:.0%}"
            if path:
                parts.append(
                    f'<path fill="{_colour(stage)}" d="{path}"><title>{escape(share)}</title></path>'
                )
            stacked = [low + share for low, share in zip(stacked, shares, strict=True)]
    largest = sorted(strip.seconds.items(), key=lambda item: -item[1])[:SHARES]
    told = ", ".join(f"{stage} {seconds / total:.0%}" for stage, seconds in largest if seconds)
    parts.append(_text(LEFT + WIDTH + 10, top + 21, told, size=12, colour="#333"))
    return parts


def _columns(strip: Strip, stage: str, began: float, ended: float) -> list[float]:
    """By column of the picture: the share of the lane's threads that were busy with it."""
    column = (ended - began) / COLUMNS
    length = strip.timeline.length
    seconds = [0.0] * COLUMNS
    for number, spent in strip.timeline.stages[stage].items():
        start, end = number * length - began, (number + 1) * length - began
        first, last = (min(max(int(at / column), 0), COLUMNS - 1) for at in (start, end))
        weights = [
            max(min(end, (at + 1) * column) - max(start, at * column), 1e-9)
            for at in range(first, last + 1)
        ]
        for at, weight in enumerate(weights, first):
            seconds[at] += spent * weight / sum(weights)
    return [min(found / column / strip.threads, 1.0) for found in seconds]


def _path(shares: Sequence[float], below: Sequence[float], top: int) -> str:
    """Equal neighbours are one rectangle."""
    width = WIDTH / COLUMNS
    found: list[tuple[int, int, int, int]] = []
    for at, (share, low) in enumerate(zip(shares, below, strict=True)):
        under, over = round(STRIP * min(low, 1.0)), round(STRIP * min(low + share, 1.0))
        if over <= under:
            continue
        if found and found[-1][1:] == (at, under, over):
            found[-1] = (found[-1][0], at + 1, under, over)
        else:
            found.append((at, at + 1, under, over))
    return "".join(
        f"M{LEFT + first * width:g} {top + STRIP - over}h{(last - first) * width:g}"
        f"v{over - under}h-{(last - first) * width:g}z"
        for first, last, under, over in found
    )


def _axis(bottom: int, seconds: float) -> list[str]:
    parts = []
    for tick in _ticks(seconds):
        x = LEFT + WIDTH * tick / seconds
        parts.append(
            f'<line x1="{x:.1f}" y1="{TOP - 6}" x2="{x:.1f}" y2="{bottom - 4}" stroke="#000" '
            'stroke-opacity="0.12"/>'
        )
        parts.append(_text(x, bottom + 10, f"{tick:g} s", size=11, colour="#555", anchor="middle"))
    return parts


def _ticks(seconds: float) -> list[float]:
    """From 0, at most ten round steps."""
    step = 0.01
    while seconds / step > 10:
        step *= 2.5 if f"{step:.0e}"[0] == "2" else 2
    return [round(step * n, 3) for n in range(int(seconds / step) + 1)]


def _legend(strips: Sequence[Strip], top: int) -> tuple[list[str], int]:
    """The colours in use, and where the picture ends."""
    used = [stage for stage in COLOURS if any(stage in strip.seconds for strip in strips)]
    parts, x, y = [], LEFT, top
    for stage in used:
        wide = 34 + 7 * len(stage)
        if x + wide > LEFT + WIDTH + RIGHT - 10:
            x, y = LEFT, y + 22
        parts.append(
            f'<rect x="{x}" y="{y - 11}" width="14" height="14" fill="{_colour(stage)}" stroke="#ccc"/>'
        )
        parts.append(_text(x + 20, y, stage, size=12))
        x += wide
    return parts, y + 20


def _colour(stage: str) -> str:
    return COLOURS.get(stage, "#000")


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int,
    colour: str = "#111",
    weight: str = "normal",
    anchor: str = "start",
) -> str:
    return (
        f'<text x="{x:g}" y="{y:g}" font-size="{size}" font-weight="{weight}" fill="{colour}" '
        f'text-anchor="{anchor}">{escape(text)}</text>'
    )
