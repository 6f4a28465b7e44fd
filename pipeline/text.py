"""Captions to token ids and back: a word-level tokenizer built on the training captions.

Knows no model. Backed by the `tokenizers` library, so that `tokenizer.json` opens anywhere.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from tokenizers import Regex, normalizers, pre_tokenizers
from tokenizers import Tokenizer as Backend
from tokenizers.models import WordLevel

from pipeline import storage
from pipeline.errors import ModelError

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
# Words with inner apostrophes and hyphens; everything else separates.
WORD = r"\w+(?:['’\-]\w+)*"


class Tokenizer:
    """Lower-cased words; ids 0 to 3 are padding, begin, end and the unknown word."""

    pad, bos, eos, unk = range(4)

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    @classmethod
    def train(
        cls, captions: Iterable[str], min_count: int = 1, max_words: int = 50_000
    ) -> Tokenizer:
        """The words seen `min_count` times or more, the most frequent first, ties by spelling."""
        backend = Backend(WordLevel({}, unk_token=SPECIAL[cls.unk]))
        backend.normalizer = normalizers.Sequence([normalizers.NFC(), normalizers.Lowercase()])
        backend.pre_tokenizer = pre_tokenizers.Split(Regex(WORD), behavior="removed", invert=True)
        counts: Counter[str] = Counter()
        for caption in captions:
            text = backend.normalizer.normalize_str(caption)
            counts.update(word for word, _ in backend.pre_tokenizer.pre_tokenize_str(text))
        kept = sorted(
            (w for w, n in counts.items() if n >= min_count), key=lambda w: (-counts[w], w)
        )
        words = [*SPECIAL, *kept[:max_words]]
        backend.model = WordLevel({w: i for i, w in enumerate(words)}, unk_token=SPECIAL[cls.unk])
        return cls(backend)

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size())

    def encode(self, captions: Sequence[str], max_len: int | None = None) -> list[list[int]]:
        """Ids with begin and end tokens; at most `max_len` of them, the end token kept."""
        rows = self._backend.encode_batch_fast(list(captions), add_special_tokens=False)
        words = None if max_len is None else max_len - 2
        return [[self.bos, *row.ids[:words], self.eos] for row in rows]

    def decode(self, ids: Iterable[int]) -> str:
        """The words up to the end token, joined by spaces, without special tokens."""
        words = []
        for token in ids:
            if token == self.eos:
                break
            if token >= len(SPECIAL):
                words.append(str(self._backend.id_to_token(token)))
        return " ".join(words)

    def to_json(self) -> str:
        """The content of `tokenizer.json`."""
        return str(self._backend.to_str(pretty=False))

    @property
    def fingerprint(self) -> str:
        """Of the vocabulary and the splitting rule."""
        return storage.fingerprint(self.to_json())

    @classmethod
    def load(cls, path: Path) -> Tokenizer:
        """Read a `tokenizer.json`.

        Raises:
            ModelError: the file is missing or not a tokenizer.
        """
        try:
            return cls(Backend.from_str(path.read_text(encoding="utf-8")))
        except FileNotFoundError:
            raise ModelError(f"no tokenizer at {path}") from None
        except Exception as error:  # noqa: BLE001  the library raises bare Exception
            raise ModelError(f"{path} is not a tokenizer: {error}") from None
