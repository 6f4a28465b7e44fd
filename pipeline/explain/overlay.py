"""An explanation as one picture: the photo once a word, with the word's attention over it."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pipeline.explain.attention import Explanation, WordMap
from pipeline.explain.lettering import lettering

PANEL_SIDE = 256
PAGE_WIDTH = 640
"""Least, for the title and the legend."""
GAP = 16
TITLE, SMALL = 20, 13
PAPER, INK, FAINT = (255, 255, 255), (20, 20, 20), (120, 120, 120)
LEGEND = (120, 10)
# At shares of full heat: the tint, how much of it covers the photo, the photo's brightness below.
LEVELS = (0.0, 0.33, 0.66, 1.0)
TINTS = ((120, 0, 0), (190, 20, 20), (255, 100, 0), (255, 230, 60))
COVERS = (0.0, 0.2, 0.42, 0.55)
LIGHTS = (0.45, 0.62, 0.88, 1.0)
PEAK_OVER_UNIFORM = 3.0
"""A map whose peak is below this many times the uniform share is not stretched to full heat, so
that looking everywhere does not seem like looking somewhere."""


def draw(explanation: Explanation) -> Image.Image:
    """A title with the caption, then a panel a word, in reading order."""
    photo = explanation.picture
    scale = PANEL_SIDE / max(photo.size)
    photo = photo.resize(
        (max(1, round(photo.width * scale)), max(1, round(photo.height * scale))),
        Image.Resampling.LANCZOS,
    )
    panel_width, panel_height = photo.width, TITLE + 8 + photo.height
    columns = _columns(len(explanation.words), panel_width, panel_height)
    rows = math.ceil(len(explanation.words) / columns)
    width = max(GAP + columns * (panel_width + GAP), PAGE_WIDTH)
    title = _wrapped(explanation.caption, width - 2 * GAP)
    top = GAP + len(title) * (TITLE + 8) + SMALL + GAP
    page = Image.new("RGB", (width, top + rows * (panel_height + GAP)), PAPER)
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(title):
        _write(pen, (GAP, GAP + number * (TITLE + 8)), line, TITLE, INK)
    about = (
        f"mean token log-probability {explanation.score:.2f}; "
        f"attention on {explanation.rows} x {explanation.columns} places"
    )
    _write(pen, (GAP, top - GAP - SMALL), about, SMALL, FAINT)
    _legend(page, pen, (width - GAP, top - GAP - SMALL))
    for number, word in enumerate(explanation.words):
        left = GAP + number % columns * (panel_width + GAP)
        upper = top + number // columns * (panel_height + GAP)
        _panel(page, pen, (left, upper), word, photo)
    return page


def _columns(words: int, width: int, height: int) -> int:
    """As many as make the page about three by two, the last row as full as can be."""
    wanted = max(1, min(words, round(math.sqrt(max(words, 1) * 1.5 * height / width))))
    return math.ceil(words / math.ceil(words / wanted)) if words else 1


def _panel(
    page: Image.Image,
    pen: ImageDraw.ImageDraw,
    corner: tuple[int, int],
    word: WordMap,
    photo: Image.Image,
) -> None:
    left, upper = corner
    chance = f"{math.exp(word.log_probability):.0%}"
    room = photo.width - round(pen.textlength(chance, lettering(chance, SMALL)[0])) - 8
    _write(pen, corner, _cut(word.text, room), TITLE, INK)
    font, chance = lettering(chance, SMALL)
    pen.text((left + photo.width, upper + TITLE), chance, FAINT, font, anchor="rs")
    page.paste(overlay(photo, word.grid), (left, upper + TITLE + 8))


def overlay(photo: Image.Image, grid: NDArray[np.float64]) -> Image.Image:
    """The photo, dark where the map is low and warm where it is high, smoothly enlarged."""
    full = max(float(grid.max()), PEAK_OVER_UNIFORM * float(grid.mean()), 1e-12)
    return _heated(photo, np.clip(_enlarged(grid, photo.size) / full, 0, 1))


def _heated(photo: Image.Image, heat: NDArray[np.float64]) -> Image.Image:
    """The photo under a heat [height, width] on 0..1, half of its own colours taken out."""
    tint = np.stack([np.interp(heat, LEVELS, channel) for channel in zip(*TINTS, strict=True)], -1)
    cover, light = (np.interp(heat, LEVELS, column)[..., None] for column in (COVERS, LIGHTS))
    grey = np.asarray(photo.convert("L"), dtype=np.float64)[..., None]
    base = light * (0.5 * np.asarray(photo, dtype=np.float64) + 0.5 * grey)
    return Image.fromarray(np.round((1 - cover) * base + cover * tint).astype(np.uint8))


def _legend(page: Image.Image, pen: ImageDraw.ImageDraw, corner: tuple[int, int]) -> None:
    """What the heat means, up to the upper right `corner`."""
    right, upper = corner
    font, more = lettering("more attention", SMALL)
    pen.text((right, upper + SMALL), more, FAINT, font, anchor="rs")
    right -= round(font.getlength(more)) + 6 + LEGEND[0]
    bar = np.tile(np.linspace(0, 1, LEGEND[0]), (LEGEND[1], 1))
    page.paste(_heated(Image.new("RGB", LEGEND, (190, 190, 190)), bar), (right, upper + 4))
    pen.text((right - 6, upper + SMALL), "less", FAINT, font, anchor="rs")


def _enlarged(grid: NDArray[np.float64], size: tuple[int, int]) -> NDArray[np.float64]:
    small = Image.fromarray(grid.astype(np.float32))
    large: NDArray[np.float64] = np.asarray(
        small.resize(size, Image.Resampling.BICUBIC), dtype=np.float64
    )
    return large


def _write(
    pen: ImageDraw.ImageDraw,
    place: tuple[int, int],
    text: str,
    size: int,
    colour: tuple[int, int, int],
) -> None:
    font, shown = lettering(text, size)
    pen.text((place[0], place[1] + size), shown, colour, font, anchor="ls")


def _length(text: str) -> float:
    font, shown = lettering(text, TITLE)
    return float(font.getlength(shown))


def _cut(text: str, room: int) -> str:
    """As much of a word as fits."""
    if _length(text) <= room:
        return text
    return next(
        (cut for end in range(len(text), 0, -1) if _length(cut := text[:end] + "...") <= room), ""
    )


def _wrapped(text: str, room: int) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and _length(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
