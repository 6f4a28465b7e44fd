"""The tokenizer that the settings ask for: learned from the training captions, or read."""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.config import Config
from pipeline.config_model import BPETokenizerConfig, FileTokenizerConfig
from pipeline.errors import ConfigError
from pipeline.text import SPECIAL, Tokenizer


def build_tokenizer(config: Config, captions: Iterable[str]) -> Tokenizer:
    """A function of the settings and the captions, whatever their order.

    Raises:
        ConfigError: no word is frequent enough.
        ModelError: a file that is missing or no tokenizer.
    """
    settings = config.train.tokenizer
    if isinstance(settings, FileTokenizerConfig):
        return Tokenizer.from_files(config.input_path(settings.path))
    if isinstance(settings, BPETokenizerConfig):
        return Tokenizer.train_bpe(captions, settings.vocabulary, settings.lowercase)
    tokenizer = Tokenizer.train(captions, settings.min_count, settings.max_words)
    if len(tokenizer) == len(SPECIAL):
        raise ConfigError(
            f"train.tokenizer.min_count = {settings.min_count}: no word of the training "
            "captions occurs that often; lower it, or give more captions"
        )
    return tokenizer
