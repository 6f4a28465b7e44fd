"""The tokenizer of a Hugging Face checkpoint, from whichever of its files there are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, decoders, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE, WordPiece

from pipeline.errors import ModelError
from pipeline.models.importers.checkpoint import Checkpoint

FILES = "tokenizer.json, vocab.json with merges.txt (GPT-2), or vocab.txt (BERT)"
UNKNOWN = "[UNK]"
SPECIAL = {"<|endoftext|>", "[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]"}
"""GPT-2's and BERT's own, for checkpoints that do not list them."""


def read_backend(checkpoint: Checkpoint, vocabulary: int) -> Backend:
    """A tokenizer of exactly `vocabulary` entries, the model's.

    Rows of a model's embedding that the tokenizer has no entry for (an embedding padded to a
    round size, or BLIP's [DEC] and [ENC]) get special entries that decode to nothing.

    Raises:
        ModelError: no tokenizer's files, files that are none, or more entries than the model has.
    """
    directory = checkpoint.directory
    try:
        if (directory / "tokenizer.json").is_file():
            backend = Backend.from_file(str(directory / "tokenizer.json"))
        elif (directory / "vocab.json").is_file() and (directory / "merges.txt").is_file():
            backend = _gpt2(checkpoint)
        elif (directory / "vocab.txt").is_file():
            backend = _bert(checkpoint)
        else:
            raise ModelError(
                f"{directory} has no tokenizer: {FILES}; save it there with the tokenizer's "
                "save_pretrained"
            )
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001  the library raises bare Exception
        raise ModelError(f"{directory}: the tokenizer cannot be read: {error}") from None
    backend.no_padding()
    backend.no_truncation()
    size = backend.get_vocab_size()
    if size > vocabulary:
        raise ModelError(
            f"{directory}: the tokenizer has {size} entries, the model {vocabulary}; "
            "it belongs to another model"
        )
    backend.add_special_tokens(
        [AddedToken(f"[unused row {row}]", special=True) for row in range(size, vocabulary)]
    )
    return backend


def _gpt2(checkpoint: Checkpoint) -> Backend:
    """Byte-level BPE (Radford et al. 2019, 'Language Models are Unsupervised Multitask Learners')."""
    directory = checkpoint.directory
    model = BPE.from_file(str(directory / "vocab.json"), str(directory / "merges.txt"))
    backend = Backend(model)
    space = bool(checkpoint.json("tokenizer_config.json").get("add_prefix_space", False))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=space)
    backend.decoder = decoders.ByteLevel()
    _add_tokens(backend, checkpoint)
    return backend


def _bert(checkpoint: Checkpoint) -> Backend:
    """WordPiece with BERT's cleaning (Devlin et al. 2019)."""
    settings = checkpoint.json("tokenizer_config.json")
    path = checkpoint.directory / "vocab.txt"
    _check_lines(path)
    backend = Backend(WordPiece.from_file(str(path), unk_token=UNKNOWN))
    backend.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(settings.get("tokenize_chinese_chars", True)),
        strip_accents=settings.get("strip_accents"),
        lowercase=bool(settings.get("do_lower_case", True)),
    )
    backend.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    backend.decoder = decoders.WordPiece(prefix="##")
    _add_tokens(backend, checkpoint)
    return backend


def _check_lines(path: Path) -> None:
    """Every line is a token, and its number the token's row: of two equal lines one has none."""
    first: dict[str, int] = {}
    for number, line in enumerate(path.read_text(encoding="utf-8").split("\n"), 1):
        token = line.rstrip()
        if token and (seen := first.setdefault(token, number)) != number:
            raise ModelError(
                f"{path}: lines {seen} and {number} are both {token!r}; every line is a token of its "
                "own, so the file is damaged"
            )


def _add_tokens(backend: Backend, checkpoint: Checkpoint) -> None:
    """What was added to the vocabulary, and which entries are special: captions do not show them.

    tokenizer.json says it itself; older checkpoints spread it over other files.
    """
    settings = checkpoint.json("tokenizer_config.json")
    named = {**settings, **checkpoint.json("special_tokens_map.json")}
    special = {_text(value) for key, value in named.items() if key.endswith("_token")} | SPECIAL
    rows = {
        int(row): _text(token) for row, token in settings.get("added_tokens_decoder", {}).items()
    }
    rows |= {int(row): token for token, row in checkpoint.json("added_tokens.json").items()}
    for row, text in sorted(rows.items()):
        if row == backend.get_vocab_size() and text:
            backend.add_tokens([AddedToken(text, normalized=False)])
    known = backend.get_vocab()
    backend.add_special_tokens(
        [AddedToken(text, special=True) for text in sorted(special) if text in known]
    )


def _text(value: Any) -> str:
    """A token's text, which stands alone or in an object."""
    found = value.get("content") if isinstance(value, Mapping) else value
    return found if isinstance(found, str) else ""
