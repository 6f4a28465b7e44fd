"""Captions to token ids and back: words, byte-level BPE, or whatever `tokenizers` can load.

Knows no model. Backed by the `tokenizers` library, so that `tokenizer.json` opens anywhere; which
ids begin, end and pad a caption is kept beside it, since that file has no place for it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tokenizers import Regex, decoders, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend
from tokenizers.models import BPE, WordLevel

from pipeline import storage
from pipeline.errors import ModelError

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>")
"""Ids 0 to 3 of the tokenizers trained here; byte-level BPE has no unknown token."""
# Words with inner apostrophes and hyphens; everything else separates.
WORD = r"\w+(?:['’\-]\w+)*"
# What the special tokens of a loaded file are called, the more telling names first.
NAMES = {
    "bos": ("<bos>", "<s>", "[BOS]", "<|startoftext|>", "<|endoftext|>", "[CLS]"),
    "eos": ("<eos>", "</s>", "[EOS]", "<|endoftext|>", "[SEP]"),
    "pad": ("<pad>", "[PAD]", "<|pad|>"),
    "unk": ("<unk>", "[UNK]"),
}


class Word(NamedTuple):
    """A word of a decoded caption and the positions of the tokens that it is made of."""

    text: str
    tokens: tuple[int, ...]


class Tokenizer:
    """A `tokenizers` backend with its special ids, two of which may be equal (GPT-2's all are)."""

    def __init__(
        self, backend: Backend, kind: str, *, bos: int, eos: int, pad: int, unk: int | None = None
    ) -> None:
        """Wrap a backend of as many tokens as the model has; `kind` is only a name: word, bpe, ...

        Raises:
            ModelError: a special id that the backend does not have.
        """
        self.kind = kind
        self.bos, self.eos, self.pad, self.unk = bos, eos, pad, unk
        for name, token in (("bos", bos), ("eos", eos), ("pad", pad), ("unk", unk)):
            if token is not None and not 0 <= token < backend.get_vocab_size():
                raise ModelError(
                    f"the tokenizer has no {name} = {token}: its ids end at "
                    f"{backend.get_vocab_size() - 1}"
                )
        backend.no_padding()
        backend.no_truncation()
        # A caption that spells a special token is text, not an order.
        backend.encode_special_tokens = True
        self._backend = backend

    def __repr__(self) -> str:
        return f"Tokenizer({self.kind}, {len(self)} tokens)"

    def __len__(self) -> int:
        return int(self._backend.get_vocab_size())

    @classmethod
    def train(
        cls, captions: Iterable[str], min_count: int = 1, max_words: int = 50_000
    ) -> Tokenizer:
        """Lower-cased words seen `min_count` times or more, the frequent first, ties by spelling."""
        pad, bos, eos, unk = range(4)
        backend = Backend(WordLevel({}, unk_token=SPECIAL[unk]))
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
        backend.model = WordLevel({w: i for i, w in enumerate(words)}, unk_token=SPECIAL[unk])
        return cls(backend, "word", bos=bos, eos=eos, pad=pad, unk=unk)

    @classmethod
    def train_bpe(
        cls, captions: Iterable[str], vocabulary: int = 10_000, lowercase: bool = True
    ) -> Tokenizer:
        """Byte-level BPE (Radford et al. 2019, section 2.2) of at most `vocabulary` tokens.

        Lower-casing shares what is learned of `A dog` and `a dog` and costs no score, since the
        metrics lower-case too; without it captions keep their case.
        """
        backend = Backend(BPE())
        if lowercase:
            backend.normalizer = normalizers.Lowercase()
        backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        backend.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=vocabulary,
            special_tokens=list(SPECIAL[:3]),
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # any byte can be written
            show_progress=False,
        )
        backend.train_from_iterator((_plain(caption) for caption in captions), trainer)
        return cls(backend, "bpe", bos=1, eos=2, pad=0)

    @classmethod
    def from_files(cls, path: Path) -> Tokenizer:
        """A tokenizer.json, or GPT-2's vocab.json with merges.txt, or a folder of either.

        The special tokens are found by their usual names.

        Raises:
            ModelError: no such files, not a tokenizer, or no token that begins or ends a caption.
        """
        if path.is_dir():
            file = path / "tokenizer.json"
            path = file if file.is_file() else path / "vocab.json"
        backend = _gpt2(path) if path.name == "vocab.json" else _read(path)
        vocabulary = backend.get_vocab()
        found = {
            role: next((vocabulary[name] for name in names if name in vocabulary), None)
            for role, names in NAMES.items()
        }
        bos, eos, pad = found["bos"], found["eos"], found["pad"]
        for role, token in (("begins", bos), ("ends", eos)):
            if token is None:
                raise ModelError(
                    f"{path} has no token that {role} a caption; known names: "
                    f"{', '.join(NAMES['bos' if role == 'begins' else 'eos'])}"
                )
        assert bos is not None and eos is not None
        pad = eos if pad is None else pad
        return cls(
            backend,
            type(backend.model).__name__.lower(),
            bos=bos,
            eos=eos,
            pad=pad,
            unk=found["unk"],
        )

    def encode(self, captions: Sequence[str], max_len: int | None = None) -> list[list[int]]:
        """Ids with begin and end tokens; at most `max_len` of them, the end token kept.

        Runs of white space count as one space, and none is left at the ends.
        """
        texts = [_plain(caption) for caption in captions]
        rows = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        words = None if max_len is None else max_len - 2
        return [[self.bos, *row.ids[:words], self.eos] for row in rows]

    def decode(self, ids: Iterable[int]) -> str:
        """The text up to the end token, without special tokens.

        A character that was cut in the middle of its bytes shows as U+FFFD.
        """
        shown = [token for token in self.until_end(ids) if token not in self.special]
        return str(self._backend.decode(shown, skip_special_tokens=True)).strip()

    def until_end(self, ids: Iterable[int]) -> list[int]:
        """The ids before the first end token."""
        kept = list(ids)
        return kept[: kept.index(self.eos)] if self.eos in kept else kept

    def words(self, ids: Sequence[int]) -> list[Word]:
        """The words of the decoded text, and which of the ids each is made of.

        A token that shows nothing belongs to the word before it.
        """
        ids = self.until_end(ids)
        texts = self.decode(ids).split()
        counts = [len(self.decode(ids[: end + 1]).split()) for end in range(len(ids))]
        # The first byte of a wide space looks like a word until the others come.
        owners = [max(min(counts[place:]) - 1, 0) for place in range(len(ids))]
        return [
            Word(text, tuple(i for i, owner in enumerate(owners) if owner == place))
            for place, text in enumerate(texts)
        ]

    def spellings(self, word: str) -> set[tuple[int, ...]]:
        """The token runs that write a word: at the start and inside a caption, in either case.

        With byte pairs a longer word may begin with such a run, and other runs may spell it too.
        """
        cases = {word, word.lower(), word.capitalize()}
        inside = self.encode([f"a {case}" for case in cases])
        first = self.encode(["a"])[0][:-1]
        runs = {tuple(ids[1:-1]) for ids in self.encode(list(cases))}
        runs |= {tuple(ids[len(first) : -1]) for ids in inside if ids[: len(first)] == first}
        return runs - {()}

    @property
    def special(self) -> frozenset[int]:
        """The ids that are never shown."""
        return frozenset(t for t in (self.bos, self.eos, self.pad, self.unk) if t is not None)

    def to_json(self) -> str:
        """The content of `tokenizer.json`."""
        return str(self._backend.to_str(pretty=False))

    def description(self) -> dict[str, Any]:
        """What `tokenizer.json` does not say: the arguments of `load` beside the path."""
        return {
            "kind": self.kind,
            "bos": self.bos,
            "eos": self.eos,
            "pad": self.pad,
            "unk": self.unk,
        }

    @property
    def fingerprint(self) -> str:
        """Of the vocabulary, the splitting rule and the special ids."""
        return storage.fingerprint([self.to_json(), self.description()])

    @classmethod
    def load(cls, path: Path, kind: str, **special: Any) -> Tokenizer:
        """Read a `tokenizer.json` with what `description` said of it.

        Raises:
            ModelError: the file is missing or not a tokenizer, or the ids are not its own.
        """
        return cls(_read(path), kind, **special)


def _plain(caption: str) -> str:
    return " ".join(caption.split())


def _read(path: Path) -> Backend:
    backend: Backend = _tried(path, lambda: Backend.from_str(path.read_text(encoding="utf-8")))
    return backend


def _gpt2(vocabulary: Path) -> Backend:
    merges = vocabulary.with_name("merges.txt")
    for path in (vocabulary, merges):
        if not path.is_file():
            raise ModelError(f"no tokenizer at {path}; GPT-2's is vocab.json beside merges.txt")
    backend = Backend(_tried(vocabulary, lambda: BPE.from_file(str(vocabulary), str(merges))))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return backend


def _tried(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except FileNotFoundError:
        raise ModelError(f"no tokenizer at {path}") from None
    except Exception as error:  # noqa: BLE001  the library raises bare Exception
        raise ModelError(f"{path} is not a tokenizer: {error}") from None
