"""A scene as a small picture with smooth edges. Knows no words and no files."""

from __future__ import annotations

import math
from random import Random

from PIL import Image, ImageDraw

from pipeline.demo.scenes import Scene, Thing

Point = tuple[float, float]
Colour = tuple[int, int, int]

_SUPERSAMPLING = 4
_RGB: dict[str, Colour] = {
    "red": (214, 36, 44),
    "green": (38, 160, 66),
    "blue": (44, 84, 220),
    "yellow": (246, 216, 46),
    "purple": (146, 52, 176),
    "orange": (244, 134, 26),
}
_TONES = {"light": (205, 245), "dark": (20, 60)}

# Sides and radii are shares of the picture's side.
_RADII = {"large": 0.23, "small": 0.15}
_OUTER_RADIUS, _OVERLAP_RADIUS, _TRIPLE_RADIUS = 0.43, 0.26, 0.155
_CROSS_ARM = 0.36


def draw(scene: Scene, size: int, random: Random) -> Image.Image:
    """The scene as an RGB picture of `size` x `size` pixels; colours and places vary a little."""
    side = size * _SUPERSAMPLING
    tone = random.randint(*_TONES[scene.background])
    page = Image.new("RGB", (side, side), _vary((tone, tone, tone), random))
    pen = ImageDraw.Draw(page)
    # The first thing is in front, so it is drawn last.
    for thing, (centre, radius) in reversed(
        list(zip(scene.things, _places(scene, random), strict=True))
    ):
        _draw_thing(pen, thing, centre, radius, side, random)
    return page.resize((size, size), Image.Resampling.BOX)


def _places(scene: Scene, random: Random) -> list[tuple[Point, float]]:
    """Centre and radius of each thing."""
    if scene.relation in ("row", "column"):
        places = [
            ((at, 0.5 + random.uniform(-0.06, 0.06)), _TRIPLE_RADIUS) for at in (0.17, 0.5, 0.83)
        ]
        return places if scene.relation == "row" else [((y, x), r) for (x, y), r in places]
    if scene.relation == "inside":
        x, y = (0.5 + random.uniform(-0.04, 0.04) for _ in range(2))
        return [((x, y), _RADII["small"]), ((x, y), _OUTER_RADIUS)]
    if scene.relation == "overlapping":
        angle = random.uniform(0, 2 * math.pi)
        dx, dy = 0.16 * math.cos(angle), 0.16 * math.sin(angle)
        return [((0.5 + sign * dx, 0.5 + sign * dy), _OVERLAP_RADIUS) for sign in (1, -1)]
    along = [0.25 + random.uniform(-0.01, 0.01), 0.75 + random.uniform(-0.01, 0.01)]
    across = [0.5 + random.uniform(-0.08, 0.08) for _ in range(2)]
    if scene.relation in ("right of", "below"):
        along.reverse()
    points = zip(along, across, strict=True)
    if scene.relation in ("above", "below"):
        points = zip(across, along, strict=True)
    return [(point, _RADII[thing.size]) for point, thing in zip(points, scene.things, strict=True)]


def _draw_thing(
    pen: ImageDraw.ImageDraw, thing: Thing, centre: Point, radius: float, side: int, random: Random
) -> None:
    colour = _vary(_RGB[thing.colour], random)
    edge = tuple(value * 6 // 10 for value in colour)
    x, y, r = centre[0] * side, centre[1] * side, radius * side
    turn = math.radians(random.uniform(-4, 4))
    if thing.shape == "circle":
        pen.ellipse((x - r, y - r, x + r, y + r), colour, edge, _SUPERSAMPLING)
        return
    points = [
        (
            x + r * (px * math.cos(turn) - py * math.sin(turn)),
            y + r * (px * math.sin(turn) + py * math.cos(turn)),
        )
        for px, py in _outline(thing.shape)
    ]
    pen.polygon(points, colour, edge, _SUPERSAMPLING)


def _outline(shape: str) -> list[Point]:
    """Corners for radius 1 about the origin, y downwards."""
    if shape == "square":
        return [(-0.85, -0.85), (0.85, -0.85), (0.85, 0.85), (-0.85, 0.85)]
    if shape == "cross":
        arm = _CROSS_ARM
        quarter = [(arm, -1.0), (arm, -arm), (1.0, -arm)]
        # Each turn by 90 degrees maps (x, y) to (-y, x).
        corners = list(quarter)
        for _ in range(3):
            quarter = [(-y, x) for x, y in quarter]
            corners += quarter
        return corners
    count, inner = (3, 0.5) if shape == "triangle" else (5, 0.45)
    radii = [1.12, inner * 1.12] if shape == "star" else [1.12]
    steps = count * len(radii)
    return [
        (
            radii[step % len(radii)] * math.sin(2 * math.pi * step / steps),
            -radii[step % len(radii)] * math.cos(2 * math.pi * step / steps),
        )
        for step in range(steps)
    ]


def _vary(colour: Colour, random: Random) -> Colour:
    red, green, blue = (min(255, max(0, value + random.randint(-10, 10))) for value in colour)
    return red, green, blue
