"""Captions that name a side: of a picture's mirror image they would say the opposite."""

from __future__ import annotations

import re
from collections.abc import Sequence

SIDE_WORDS = ("left", "right", "lefthand", "righthand", "clockwise")
"""The English words, in lower case."""


class Sides:
    """Finds whole words, in any case."""

    def __init__(self, words: Sequence[str]) -> None:
        """Without words, no caption names a side."""
        either = "|".join(re.escape(word) for word in words)
        self._pattern = re.compile(rf"\b(?:{either})\b", re.IGNORECASE) if words else None

    def are_named(self, caption: str) -> bool:
        """Whether a caption has one of the words."""
        return self._pattern is not None and self._pattern.search(caption) is not None
