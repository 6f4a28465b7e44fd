"""Drift: new captions and bulk runs beside what the champion was trained and judged on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pipeline.config_retrain import DriftConfig
from pipeline.errors import ConfigError, DataError, TableError
from pipeline.metrics import DocumentFrequencies, ptb
from pipeline.promote.behaviour import length_and_vocabulary
from pipeline.promote.keep import evidence_of, read_decision
from pipeline.records import Record, ShardSet
from pipeline.shards import ShardReader
from pipeline.tracking import ModelVersion


class Sign(Record):
    """One figure beside its limit."""

    name: str
    drifted: bool
    value: float
    limit: float
    sentence: str


def word_drift(settings: DriftConfig, champion: ModelVersion, shard_set: ShardSet) -> Sign | None:
    """Unknown words of training captions whose pictures the champion did not learn from.

    None where there are no such captions, or the champion carries no list of its words.
    """
    path = champion.directory / "document_frequencies.parquet"
    if not path.is_file() or not shard_set.samples.get("train"):
        return None
    known = set(DocumentFrequencies.load(path).table.words)
    learned = _learned(champion)
    reader = ShardReader(shard_set, "train")
    infos = reader.infos()
    new = [info for info in infos if info["sha256"] not in learned]
    words = [
        word
        for line in ptb.tokenize([text for info in new for text in info["captions"]])
        for word in line.split()
    ]
    if not words:
        return None
    share = sum(word not in known for word in words) / len(words)
    return Sign(
        name="unknown words",
        drifted=share > settings.max_unknown_words,
        value=share,
        limit=settings.max_unknown_words,
        sentence=f"{share:.1%} of the words in the captions of {len(new):,} new pictures are unknown to "
        f"{champion.ref} (at most {settings.max_unknown_words:.1%})",
    )


def _learned(champion: ModelVersion) -> set[str]:
    """SHA-256 of the pictures the champion was trained with; none if its shards are gone."""
    try:
        return set(ShardReader(evidence_of(champion)[0], "train").digests())
    except (DataError, ConfigError):
        return set()


def caption_drift(settings: DriftConfig, champion: ModelVersion, table: Path) -> list[Sign]:
    """A bulk run's confidence, length and vocabulary beside the champion's own evaluation.

    Of the rows that this champion made: as many as the evaluation had pictures, spread over the
    table, since more captions have more different words. None where it was never evaluated.

    Raises:
        TableError: not a caption table.
    """
    decision = read_decision(champion)
    if decision is None or decision.behaviour is None or decision.evaluation_set is None:
        return []
    ours = decision.behaviour
    captions, scores = _sample(table, champion, decision.evaluation_set.images)
    if not captions:
        return []
    length, vocabulary = length_and_vocabulary(captions)
    # A smaller table has fewer words; the share of the captions is a fair lower bound.
    fair = ours.vocabulary * min(1.0, len(captions) / decision.evaluation_set.images)
    signs = [
        _within(
            "length",
            length / max(ours.length, 1e-9),
            (settings.min_length, settings.max_length),
            f"captions of {table.name} have {length:.1f} words, in the evaluation {ours.length:.1f}",
        ),
        _within(
            "vocabulary",
            vocabulary / max(fair, 1e-9),
            (settings.min_vocabulary, float("inf")),
            f"{len(captions):,} captions of {table.name} use {vocabulary:,} different words, in the "
            f"evaluation {ours.vocabulary:,}",
        ),
    ]
    if ours.confidence is not None:
        mean = sum(scores) / len(scores)
        loss = ours.confidence - mean
        signs.insert(
            0,
            Sign(
                name="confidence",
                drifted=loss > settings.max_confidence_loss,
                value=loss,
                limit=settings.max_confidence_loss,
                sentence=f"mean token log-probability in {table.name} is {mean:.2f}, in the evaluation "
                f"{ours.confidence:.2f}",
            ),
        )
    return signs


def _within(name: str, ratio: float, limits: tuple[float, float], sentence: str) -> Sign:
    low, high = limits
    limit = low if ratio < low else min(high, 1e9)
    return Sign(
        name=name,
        drifted=not low <= ratio <= high,
        value=ratio,
        limit=limit,
        sentence=f"{sentence} ({ratio:.2f} times)",
    )


def _sample(table: Path, champion: ModelVersion, number: int) -> tuple[list[str], list[float]]:
    import pyarrow as pa
    import pyarrow.dataset as ds

    if not (table / "_table.json").is_file():
        raise TableError(f"{table} is not a caption table: it has no _table.json")
    parts = sorted(str(path) for path in table.glob("*.parquet"))
    if not parts:
        return [], []
    made_by = (ds.field("model_name") == champion.name) & (
        ds.field("model_version") == str(champion.version)
    )
    try:
        rows = ds.dataset(parts, format="parquet").to_table(
            columns=["caption", "score"], filter=made_by & (ds.field("status") == "captioned")
        )
    except (pa.ArrowInvalid, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TableError(f"{table} cannot be read: {reason}; see `captionmill verify`") from None
    step = max(1, len(rows) // number)
    places = pa.array(range(0, len(rows), step), pa.int64())[:number]
    rows = rows.take(places)
    return rows["caption"].to_pylist(), rows["score"].to_pylist()


def drifted(signs: Sequence[Sign]) -> list[Sign]:
    """Those beyond their limits."""
    return [sign for sign in signs if sign.drifted]
