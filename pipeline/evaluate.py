"""A captioner and a split's shards to captions and scores; used by train, score and promote.

Scores are the raw ones of coco-caption (CIDEr up to 10); people are shown them times 100.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline import images, metrics, storage
from pipeline.config import Config
from pipeline.decode import Caption
from pipeline.errors import DataError, ImageError
from pipeline.metrics import DocumentFrequencies, References, Scores
from pipeline.metrics.control import displaced
from pipeline.predict import Predictor
from pipeline.progress import Progress
from pipeline.shard_bytes import Fetch
from pipeline.shards import ShardReader

Features = Callable[[int, int], Tensor]
"""(start, stop) in the reader's order to what the encoder's frozen stages give."""


@dataclass(frozen=True)
class Evaluation:
    """Captions of a split and their scores, in the reader's order."""

    image_ids: list[int | str]
    captions: list[Caption]
    hypotheses: list[str]
    """What was scored: the captions' texts, each at its own picture unless they were shuffled."""
    scores: Scores
    references: str
    """Fingerprint of the pictures and their tokenised references."""

    @property
    def signature(self) -> str:
        """What was computed, in one line."""
        return self.scores.signature

    def percent(self) -> dict[str, float]:
        """Corpus scores x100."""
        return {name: 100 * score for name, score in self.scores.corpus.items()}


def evaluate_captioner(
    predictor: Predictor,
    reader: ShardReader,
    *,
    beam: int | None = None,
    batch_size: int = 32,
    shuffle_images: bool = False,
    progress: bool = True,
    references: References | None = None,
    features: Features | None = None,
    limit: int | None = None,
    document_frequencies: DocumentFrequencies | None = None,
) -> Evaluation:
    """Caption a split and score it.

    Args:
        predictor: the captioner.
        reader: the split.
        beam: beams; default the model's own.
        batch_size: pictures a batch; changes speed and, in the last bits, scores.
        shuffle_images: score each caption against another picture's references. A control: a
            captioner that looks at its pictures scores far lower.
        progress: print a line.
        references: of these pictures, if the caller keeps them.
        features: cached features in the reader's order, instead of decoding pictures.
        limit: only the first so many pictures (`references` must then be of those).
        document_frequencies: CIDEr-D's stored table; None: the references' own.

    Raises:
        DataError: a picture of the shards cannot be decoded.
    """
    count = len(reader) if limit is None else min(limit, len(reader))
    captions = caption_split(predictor, reader, count, beam, batch_size, progress, features)
    if references is None:
        references = References(reader.captions()[:count])
    hypotheses = [caption.text for caption in captions]
    if shuffle_images:
        hypotheses = displaced(hypotheses)
    scores = metrics.score_captions(references, hypotheses, document_frequencies)
    ids = [info["id"] for info in reader.infos()[:count]]
    scored = storage.fingerprint([reader.fingerprint, count, references.fingerprint])
    return Evaluation(ids, captions, hypotheses, scores, scored)


def stored_frequencies(config: Config) -> DocumentFrequencies | None:
    """The table that `score.document_frequencies` names; None where it names none.

    Raises:
        DataError: no such file, or no table for scores.
    """
    if config.score.document_frequencies is None:
        return None
    return DocumentFrequencies.load(config.input_path(config.score.document_frequencies))


def caption_split(
    predictor: Predictor,
    reader: ShardReader,
    count: int,
    beam: int | None,
    batch_size: int,
    progress: bool = True,
    features: Features | None = None,
) -> list[Caption]:
    """The captions of a split's first `count` pictures, in the reader's order.

    Raises:
        DataError: a picture of the shards cannot be decoded.
    """
    source = features if features is not None else _decoder(predictor, reader)
    line = Progress("score", count) if progress else None
    captions: list[Caption] = []
    # One batch is decoded while the model works on another.
    with ThreadPoolExecutor(1) as ahead:
        starts = range(0, count, batch_size)
        for batch in _ahead(ahead, source, [(s, min(s + batch_size, count)) for s in starts]):
            found = predictor.caption_features(batch, beam=beam)
            captions += found
            if line is not None:
                line.add(len(found))
    if line is not None:
        line.close()
    return captions


def _ahead(
    pool: ThreadPoolExecutor, source: Features, ranges: Sequence[tuple[int, int]]
) -> Iterator[Tensor]:
    waiting = [pool.submit(source, *ranges[0])] if ranges else []
    for following in [*ranges[1:], None]:
        current = waiting.pop()
        if following is not None:
            waiting.append(pool.submit(source, *following))
        yield current.result()


def _decoder(predictor: Predictor, reader: ShardReader) -> Features:
    def load(start: int, stop: int) -> Tensor:
        return predictor.features(load_pixels(predictor.transform, reader, range(start, stop)))

    return load


def load_pixels(
    transform: images.Transform,
    reader: ShardReader,
    rows: Sequence[int],
    fetch: Fetch | None = None,
) -> Tensor:
    """uint8 [len(rows), 3, size, size] of a reader's samples; `fetch` as `ShardReader.pictures`.

    Raises:
        DataError: a picture cannot be decoded; names it.
    """
    pixels = torch.empty(len(rows), 3, transform.size, transform.size, dtype=torch.uint8)
    for place, picture in enumerate(reader.pictures(rows, fetch)):
        try:
            pixels[place] = torch.from_numpy(images.load(picture, transform))
        except ImageError as error:
            name = reader.info(rows[place])["file_name"]
            raise DataError(
                f"picture {name} cannot be decoded ({error.code}: {error.detail}); "
                "shard again with shard.check=decode to leave such pictures out"
            ) from None
    return pixels
