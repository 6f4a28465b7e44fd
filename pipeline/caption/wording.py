"""How a caption is written into its row: as the model's tokenizer writes it, or as a sentence."""

from __future__ import annotations

import re
from typing import Literal

UNKNOWN = re.compile(r"<unk>|\[unk\]|<\|unk\|>|\ufffd", re.IGNORECASE)
"""Marks of words that a tokenizer does not know."""

_SPACED = re.compile(r" +([,.;:!?…])")
_STOPS = ".!?…。！？।؟"
_CLOSING = "\"'”’»)]"
_CUT = " ,;:-–—"


def worded(text: str, how: Literal["raw", "sentence"]) -> str:
    """`text` as it is, or as a sentence: a capital, a full stop, no unknown-word marks.

    A caption without a single word stays empty.
    """
    if how == "raw":
        return text
    words = _SPACED.sub(r"\1", " ".join(UNKNOWN.sub(" ", text).split()))
    words = words.lstrip(_CUT + ".").rstrip(_CUT)
    first = next((place for place, letter in enumerate(words) if letter.isalnum()), None)
    if first is None:
        return ""
    # `upper` of a ligature is two letters, `title` of it a capital and a small one.
    words = words[:first] + words[first].title() + words[first + 1 :]
    return words if words.rstrip(_CLOSING).endswith(tuple(_STOPS)) else f"{words}."
