"""Generation settings in token ids: what the search of a captioner may write."""

from __future__ import annotations

from pipeline.config_model import GenerationConfig
from pipeline.decode import Limits
from pipeline.errors import ConfigError
from pipeline.text import Tokenizer


def search_limits(tokenizer: Tokenizer, settings: GenerationConfig) -> Limits:
    """Generation settings in token ids.

    Raises:
        ConfigError: a banned word that is nothing to the tokenizer.
    """
    # Never shown, so never chosen; the end token may be one of them (GPT-2).
    banned = set(tokenizer.special) - {tokenizer.eos}
    runs: set[tuple[int, ...]] = set()
    for word in settings.banned_words:
        spellings = tokenizer.spellings(word)
        if not spellings:
            raise ConfigError(f"generation.banned_words: {word!r} is no word to the tokenizer")
        banned |= {run[0] for run in spellings if len(run) == 1}
        runs |= {run for run in spellings if len(run) > 1}
    return Limits(
        bos=tokenizer.bos,
        eos=tokenizer.eos,
        pad=tokenizer.pad,
        banned=tuple(sorted(banned)),
        banned_runs=tuple(sorted(runs)),
        max_len=settings.max_len,
        min_len=settings.min_len,
        length_penalty=settings.length_penalty,
        ngram_block=settings.no_repeat_ngram,
        repetition_penalty=settings.repetition_penalty,
    )
