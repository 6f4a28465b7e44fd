"""What a search is given and what it returns."""

from __future__ import annotations

import math
from dataclasses import dataclass

from pipeline.errors import ConfigError

COLDEST = 1e-6
"""Temperature below which logits leave float32."""


@dataclass(frozen=True)
class Limits:
    """What a caption may be: lengths in tokens, the end token included."""

    bos: int
    eos: int
    pad: int
    banned: tuple[int, ...] = ()
    """Tokens never chosen (padding, begin, the unknown word, banned words of one token)."""
    max_len: int = 30
    min_len: int = 1
    """Fewest tokens before the end token."""
    length_penalty: float = 1.0
    ngram_block: int = 0
    """No n-gram of this many tokens occurs twice, the begin token counted; 0: they may."""
    repetition_penalty: float = 1.0
    """Above 1, tokens that a caption has already become less likely (Keskar et al. 2019, 4.1)."""
    banned_runs: tuple[tuple[int, ...], ...] = ()
    """Runs of two or more tokens that never occur (banned words of several tokens)."""


@dataclass(frozen=True)
class Sampling:
    """Tokens drawn at random instead of searched for."""

    temperature: float = 1.0
    """Logits are divided by it."""
    top_k: int = 0
    """Only the K likeliest tokens are drawn from; 0: all."""
    top_p: float = 1.0
    """Only the likeliest tokens that together reach this probability (Holtzman et al. 2020)."""
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what no token can be drawn by.

        Raises:
            ConfigError: a temperature or a share that is not positive, or a top_k below 0.
        """
        if not COLDEST <= self.temperature < math.inf:
            raise ConfigError(
                f"Sampling: temperature = {self.temperature} must be a number from {COLDEST} up; "
                "for the likeliest token at every step, use beam = 1 without sampling"
            )
        if self.top_k < 0:
            raise ConfigError(f"Sampling: top_k = {self.top_k} must be 1 or more, or 0 for all")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"Sampling: top_p = {self.top_p} must be above 0 and at most 1")


@dataclass(frozen=True)
class Hypothesis:
    """One finished caption as token ids, without begin, with the end token if it ended."""

    tokens: tuple[int, ...]
    token_log_probabilities: tuple[float, ...]
    """The model's own, natural logarithm; what a repetition penalty or a temperature changed is
    not in them."""

    @property
    def log_probability(self) -> float:
        """Sum over the tokens, the end token included."""
        return sum(self.token_log_probabilities)

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
    ended: bool = True
    """Whether it came to its end, instead of being cut at its longest length."""
