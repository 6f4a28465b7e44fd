"""The explain stage: a picture in, its caption out with where the model looked for each word."""

from __future__ import annotations

from pipeline.explain.attention import Explanation, Token, WordMap, explain
from pipeline.explain.overlay import draw

__all__ = ["Explanation", "Token", "WordMap", "draw", "explain"]
