"""A font for a text: Pillow's own, or one of the system's where that lacks letters.

Pillow's has the letters of English. Where no font at hand has a letter, its base letter is drawn
(`é` as `e`), or else a question mark.
"""

from __future__ import annotations

import unicodedata
from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont
SYSTEM_FONTS = ("DejaVuSans.ttf", "NotoSans-Regular.ttf", "Arial Unicode.ttf", "arial.ttf")
"""Looked for by name, as Pillow does on every system."""
NO_CHARACTER = "\uffff"


def lettering(text: str, size: int) -> tuple[Font, str]:
    """A font of `size` pixels and the text as it can be drawn in it."""
    for font in _fonts(size):
        if all(_has(font, letter) for letter in set(text)):
            return font, text
    own = _fonts(size)[0]
    return own, "".join(_nearest(own, letter) for letter in text)


@cache
def _fonts(size: int) -> list[Font]:
    own = ImageFont.load_default(size)
    assert isinstance(own, Font), "Pillow's wheels have FreeType"
    found = [own]
    for name in SYSTEM_FONTS:
        try:
            found.append(ImageFont.truetype(name, size))
        except OSError:  # not on this machine
            continue
    return found


def _has(font: Font, letter: str) -> bool:
    return letter.isspace() or _drawn(font, letter) != _drawn(font, NO_CHARACTER)


def _drawn(font: Font, letter: str) -> bytes:
    return bytes(font.getmask(letter))


def _nearest(font: Font, letter: str) -> str:
    base = unicodedata.normalize("NFKD", letter)[0]
    return next((shown for shown in (letter, base) if _has(font, shown)), "?")
