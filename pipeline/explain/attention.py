"""The best caption of a picture, and the attention of each of its words.

The caption is searched for without attention; then it is read again with it, so that the search
is not slowed. What a decoder's attention is the mean of, its `teach` says.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from pipeline import images
from pipeline.models.captioner import Layout, Memory
from pipeline.predict import Predictor

SHOWN_SIDE = 448
"""Pixels of the picture's longer side as it is kept for drawing."""


@dataclass(frozen=True)
class Token:
    """One token of the caption; the end token's text is empty."""

    id: int
    text: str
    log_probability: float


@dataclass(frozen=True)
class WordMap:
    """A word and where the model looked when it wrote it."""

    text: str
    tokens: tuple[int, ...]
    """Positions among the caption's tokens."""
    log_probability: float
    """Sum over its tokens."""
    grid: NDArray[np.float64]
    """Shares of attention [rows, columns], the mean over its tokens, top left first."""
    elsewhere: float
    """The share on tokens without a place (class tokens); with the grid it adds up to 1."""


@dataclass(frozen=True)
class Explanation:
    """A caption, read again with attention."""

    caption: str
    score: float
    """Mean token log-probability, the end token included."""
    tokens: tuple[Token, ...]
    words: tuple[WordMap, ...]
    rows: int
    columns: int
    picture: Image.Image
    """What the model saw of the picture, in the picture's own proportions."""

    def to_json(self) -> dict[str, Any]:
        """Everything but the picture, as plain values."""
        return {
            "caption": self.caption,
            "score": self.score,
            "tokens": [vars(token) for token in self.tokens],
            "grid": {"rows": self.rows, "columns": self.columns},
            "words": [{**vars(word), "grid": word.grid.tolist()} for word in self.words],
        }


def explain(captioner: Predictor, data: bytes, beam: int | None = None) -> Explanation:
    """Caption an encoded picture, and say where each word looked.

    Raises:
        ImageError: it cannot be decoded.
    """
    layout = captioner.model.encoder.layout
    pixels = captioner.pixels(data)[None]
    with torch.inference_mode():
        views = captioner.encode(pixels)
        # The first view is the picture itself. A copy: see `decode.capture`.
        memory = Memory(views.tokens_BSD[:1].clone())
        [[best]] = captioner.hypotheses(views, beam)
        prefix = [captioner.limits.bos, *best.tokens[:-1]]
        captions_BCT = torch.tensor([[prefix]], device=captioner.device)
        everywhere = torch.ones_like(captions_BCT, dtype=torch.bool)
        teaching = captioner.model.teach(memory, captions_BCT, everywhere, attention=True)
    assert teaching.attention_MS is not None
    looks_TS = teaching.attention_MS.double().cpu().numpy()
    tokenizer = captioner.saved.tokenizer
    tokens = tuple(
        Token(token, tokenizer.decode([token]), value)
        for token, value in zip(best.tokens, best.token_log_probabilities, strict=True)
    )
    words = tuple(
        _word(text, places, tokens, looks_TS, layout)
        for text, places in tokenizer.words(best.tokens)
    )
    return Explanation(
        tokenizer.decode(best.tokens),
        best.score,
        tokens,
        words,
        layout.rows,
        layout.columns,
        _shown(data, captioner.transform),
    )


def _word(
    text: str,
    places: tuple[int, ...],
    tokens: tuple[Token, ...],
    looks_TS: NDArray[np.float64],
    layout: Layout,
) -> WordMap:
    look_S = looks_TS[list(places)].mean(0)
    grid = look_S[layout.prefix :].reshape(layout.rows, layout.columns)
    value = sum(tokens[place].log_probability for place in places)
    return WordMap(text, places, value, grid, float(look_S[: layout.prefix].sum()))


def _shown(data: bytes, transform: images.Transform) -> Image.Image:
    """The model's view, larger; what was squashed for the model gets its proportions back."""
    larger = transform.model_copy(update={"size": SHOWN_SIDE})
    view = Image.fromarray(images.load(data, larger).transpose(1, 2, 0))
    if transform.resize != "squash":
        return view
    header = images.probe(data)
    scale = SHOWN_SIDE / max(header.width, header.height)
    sides = (max(1, round(header.width * scale)), max(1, round(header.height * scale)))
    return view.resize(sides, Image.Resampling.BICUBIC)
