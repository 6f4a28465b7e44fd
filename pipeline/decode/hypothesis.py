"""What a search is given and what it returns."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """What a caption may be: lengths in tokens, the end token included."""

    bos: int
    eos: int
    pad: int
    banned: tuple[int, ...] = ()
    """Tokens never chosen (padding, begin and the unknown word)."""
    max_len: int = 30
    min_len: int = 1
    """Fewest tokens before the end token."""
    length_penalty: float = 1.0


@dataclass(frozen=True)
class Hypothesis:
    """One finished caption as token ids, without begin, with the end token if it ended."""

    tokens: tuple[int, ...]
    log_probability: float
    """Sum over the tokens, the end token included; natural logarithm."""

    @property
    def score(self) -> float:
        """Mean token log-probability."""
        return self.log_probability / max(len(self.tokens), 1)


@dataclass(frozen=True)
class Caption:
    """A picture's caption in words."""

    text: str
    score: float
    """Mean token log-probability; nearer to 0 is more confident."""
    candidates: tuple[tuple[str, float], ...]
    """(text, score), best first; the first is the caption itself."""
