"""Document frequencies: what weighs CIDEr-D's n-grams, from the references or from a stored table."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline import storage
from pipeline.errors import DataError
from pipeline.metrics import ptb
from pipeline.metrics.ngrams import ORDER, Floats, NgramTable

FORMAT = "captionmill document frequencies 2"


@dataclass(frozen=True, eq=False)
class DocumentFrequencies:
    """In the references of how many images each n-gram occurs, out of how many images.

    It does not grow: scoring with a table leaves it as it was. Two ways of use give two
    different numbers and are never mixed: a table made of the references being scored (as
    coco-caption does), or a stored one of the training split.
    """

    images: int
    table: NgramTable
    counts: tuple[NDArray[np.int32], ...]
    """Of each n-gram of `table`, an array an order."""
    end_token: bool = False
    """Whether the end of a caption was counted as a word."""

    def __repr__(self) -> str:
        return f"<DocumentFrequencies: {len(self.table):,} n-grams of {self.images:,} images>"

    def __getitem__(self, ngram: tuple[str, ...]) -> int:
        """How many images have `ngram`; 0 if none does."""
        place = self.table.find(ngram)
        return 0 if place < 0 else int(self.counts[len(ngram) - 1][place])

    def weights(self, table: NgramTable) -> Iterator[Floats]:
        """Inverse document frequency of each n-gram of `table`, for n = 1 to 4 in turn.

        ln(images) - ln(max(1, frequency)) (Vedantam et al. 2015, equation 1, as released).
        """
        # NumPy's logarithm on both sides: math.log differs in the last bit for a few numbers, and
        # the weight of an n-gram that every image has must be exactly 0, as in coco-caption.
        ceiling = np.log(float(self.images))
        for counts, places in zip(self.counts, self.table.locate(table), strict=True):
            found = np.append(counts, 0)[places]  # place -1 is the 0 at the end
            yield ceiling - np.log(np.maximum(found, 1))

    @cached_property
    def fingerprint(self) -> str:
        """16 hex digits of the SHA-256 of the table, whatever order it was counted in."""
        digest = hashlib.sha256(f"{FORMAT}\n{self.images}\n{self.end_token}\n".encode())
        digest.update("\n".join(self.table.words).encode())
        for codes in self.table.codes:
            digest.update(b"\0" + codes.astype("<i8").tobytes())
        for counts in self.counts:
            digest.update(b"\0" + counts.astype("<i4").tobytes())
        return digest.hexdigest()[:16]

    def to_bytes(self) -> bytes:
        """The table as a Parquet file; what `save` writes."""
        words = pa.array(self.table.words, pa.large_string())
        ngrams, space = [words], pa.scalar(" ", pa.large_string())
        for codes in self.table.codes:
            parents, lasts = np.divmod(codes, max(len(words), 1))
            texts = pc.binary_join_element_wise(ngrams[-1].take(parents), words.take(lasts), space)
            ngrams.append(texts)
        columns = {
            "ngram": pa.chunked_array(ngrams),
            "images": pa.array(np.concatenate(self.counts)),
        }
        metadata = {
            "captionmill": FORMAT,
            "images": str(self.images),
            "end_token": "yes" if self.end_token else "no",
            "tokeniser": f"ptb{ptb.VERSION}",
            "fingerprint": self.fingerprint,
        }
        out = io.BytesIO()
        table = pa.table(columns).replace_schema_metadata(metadata)
        pq.write_table(table, out, compression="zstd")
        return out.getvalue()

    def save(self, path: Path) -> None:
        """Commit the table: a row an n-gram with its words and how many images have it."""
        storage.commit(path, self.to_bytes())

    @classmethod
    def from_bytes(cls, content: bytes) -> Self:
        """The inverse of `to_bytes`.

        Raises:
            ValueError, KeyError, OSError: no such table.
        """
        return cls._read(pq.read_table(io.BytesIO(content)))

    @classmethod
    def load(cls, path: Path, *, end_token: bool = False) -> Self:
        """Read a table that `save` wrote.

        Args:
            path: the file.
            end_token: whether it is for references that count the end of a caption as a word, as
                rewards do and scores do not.

        Raises:
            DataError: the file is absent, no such table, or one for the other use; names it.
        """
        try:
            if not path.is_file():
                raise ValueError("no such file" if not path.exists() else "it is no regular file")
            found = cls._read(pq.read_table(path))
            if found.end_token != end_token:
                counts = "counts" if found.end_token else "does not count"
                raise ValueError(
                    f"it {counts} the end of a caption as a word, as "
                    + ("rewards do and scores do not" if found.end_token else "rewards must")
                )
        except (
            OSError,
            ValueError,
            KeyError,
            TypeError,
            OverflowError,
            pa.ArrowException,
        ) as error:
            raise DataError(
                f"cannot use the document frequencies in {path}: {error}; make them with "
                "`captionmill document-frequencies`, or score with those of the references"
            ) from None
        return found

    @classmethod
    def _read(cls, table: pa.Table) -> Self:
        metadata: Mapping[bytes, bytes] = table.schema.metadata or {}
        if metadata.get(b"captionmill") != FORMAT.encode():
            raise ValueError(f"it is not of the format {FORMAT!r}")
        if (made := metadata[b"tokeniser"].decode()) != f"ptb{ptb.VERSION}":
            raise ValueError(f"its captions were tokenised by {made}, this is ptb{ptb.VERSION}")
        images = int(metadata[b"images"])
        if images < 1:
            raise ValueError(f"it counts {images} images")
        texts = table["ngram"].cast(pa.large_string()).combine_chunks()
        numbers = table["images"].cast(pa.int32()).to_numpy()
        if len(numbers) and not 1 <= numbers.min() <= numbers.max() <= images:
            raise ValueError(f"its counts do not fit {images} images")
        orders = pc.add(pc.count_substring(texts, " "), 1).to_numpy(zero_copy_only=False)
        words = texts.filter(pa.array(orders == 1))
        previous, codes = words, []
        counts = [numbers[orders == 1]]
        for n in range(2, ORDER + 1):
            chosen = texts.filter(pa.array(orders == n))
            split = pc.split_pattern(chosen, " ", max_splits=1, reverse=True)
            parents = pc.index_in(pc.list_element(split, 0), value_set=previous)
            lasts = pc.index_in(pc.list_element(split, 1), value_set=words)
            if parents.null_count or lasts.null_count:
                raise ValueError("it has n-grams without their beginnings or words")
            code = pc.add(pc.multiply(parents.cast(pa.int64()), len(words)), lasts)
            codes.append(code.to_numpy(zero_copy_only=False))
            counts.append(numbers[orders == n])
            previous = chosen
        if sum(map(len, counts)) != len(numbers):
            raise ValueError(f"it has n-grams of more than {ORDER} words")
        found = NgramTable(words.to_pylist(), tuple(codes))
        if found.words != sorted(set(found.words)) or any(np.any(np.diff(c) <= 0) for c in codes):
            raise ValueError("its n-grams are not in order")
        table_read = cls(images, found, tuple(counts), metadata[b"end_token"] == b"yes")
        if table_read.fingerprint != metadata[b"fingerprint"].decode():
            raise ValueError("its content is not what was written; it is damaged")
        return table_read
