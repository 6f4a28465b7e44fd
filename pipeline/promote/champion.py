"""The champion's scores on the candidate's references: its own score card, or scored again."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import ConfigError
from pipeline.records import ScoreCard, ShardSet
from pipeline.tracking import ModelVersion


def champion_scores(
    config: Config, work: Path, shard_set: ShardSet, card: ScoreCard, champion: ModelVersion
) -> dict[str, float]:
    """The champion's corpus scores (x100) that may be compared with the candidate's `card`.

    Its own card serves if it was made on the same references, with the same metric
    signature, beams and type of number. Otherwise the champion is scored again on the same shards.

    Raises:
        ModelError: the champion cannot be loaded.
        ConfigError: the candidate's card does not belong to these shards and metrics.
    """
    own = _own_card(champion)
    same = (
        own is not None
        and (own.references, own.signature) == (card.references, card.signature)
        and champion.tags.get("captionmill.beam") == str(config.score.beam)
        and champion.tags.get("captionmill.dtype", "float32") == config.score.dtype
    )
    if own is not None and same:
        return own.metrics
    return rescore(config, work, shard_set, card, champion)


def _own_card(version: ModelVersion) -> ScoreCard | None:
    try:
        return ScoreCard.model_validate_json(version.tags.get("captionmill.score_card", ""))
    except ValidationError:
        return None  # registered by other means, or by a release whose records were different


def rescore(
    config: Config, work: Path, shard_set: ShardSet, card: ScoreCard, champion: ModelVersion
) -> dict[str, float]:
    """Score the champion on the candidate's split; kept, so that it is done once."""
    wanted = {
        "model": champion.fingerprint,
        "references": card.references,
        "signature": card.signature,
        "beam": config.score.beam,
        "dtype": config.score.dtype,
    }
    kept = work / "promote" / "rescored" / f"{storage.fingerprint(wanted)}.json"
    if kept.exists():
        scores: dict[str, float] = storage.read_json(kept)
        return scores
    from pipeline.evaluate import evaluate_captioner, stored_frequencies
    from pipeline.predict import load_directory
    from pipeline.shards import ShardReader

    predictor = load_directory(
        champion.directory,
        device=config.device,
        dtype=config.score.dtype,
        ref=champion.ref,
        name=champion.name,
        version=str(champion.version),
    )
    evaluation = evaluate_captioner(
        predictor,
        ShardReader(shard_set, config.score.split),
        beam=config.score.beam,
        batch_size=config.score.batch_size,
        document_frequencies=stored_frequencies(config),
    )
    if (evaluation.references, evaluation.signature) != (card.references, card.signature):
        raise ConfigError(
            f"score card {card.path} was made on references {card.references} with signature "
            f"{card.signature!r}; now they are {evaluation.references} and "
            f"{evaluation.signature!r}: run `captionmill score` again first"
        )
    scores = evaluation.percent()
    storage.commit_json(kept, scores)
    return scores
