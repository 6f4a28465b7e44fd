"""The score stage: a checkpoint and a split in, a score card out.

score/<fingerprint>/scores.json         the card with data, commit, settings and definitions
score/<fingerprint>/per_image.parquet   image_id, caption, score and every metric an image
score/<fingerprint>/predictions.json    COCO results: [{"image_id", "caption"}]
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.evaluate import Evaluation, evaluate_captioner, stored_frequencies
from pipeline.metrics import ptb
from pipeline.metrics.meteor import meteor_scores, require_meteor
from pipeline.metrics.signature import VERSION as METRICS_VERSION
from pipeline.models.saved import model_fingerprint, read_description
from pipeline.predict import load_directory
from pipeline.progress import say
from pipeline.records import Checkpoint, ScoreCard, ShardSet
from pipeline.score.card import write_card
from pipeline.shards import ShardReader
from pipeline.tracking import Tracker

# Raised by hand when the same model and data would score otherwise.
RECIPE = 1

__all__ = ["as_checkpoint", "find_score_card", "score"]


def score(config: Config, work: Path, shard_set: ShardSet, checkpoint: Checkpoint) -> ScoreCard:
    """Caption `score.split` with a checkpoint and score it; recognised when already done.

    Raises:
        ConfigError: the shard set has no such split, the device does not calculate in
            `score.dtype`, or METEOR is asked for and Java is missing.
        DataError: the stored document frequencies cannot be read.
        ModelError: the checkpoint cannot be loaded.
        BusyError: another run is scoring the same thing.
    """
    if config.score.meteor:
        require_meteor()
    reader = ShardReader(shard_set, config.score.split)
    fingerprint = _fingerprint(config, reader, checkpoint)
    directory = (work / "score" / fingerprint).absolute()
    if (done := _load(directory)) is not None:
        say("score", f"nothing new: CIDEr {done.metrics['cider']:.1f} ({directory})")
        return done
    with storage.lock(directory):
        storage.remove_temporaries(directory)
        settings = config.score
        predictor = load_directory(
            Path(checkpoint.path),
            device=config.device,
            dtype=settings.dtype,
            ref=checkpoint.path,
            name="candidate",
        )
        parameters = {"split": settings.split, "checkpoint": checkpoint.fingerprint}
        # Around all of it: a server that is away is told of before the pictures are captioned.
        with Tracker(work).run("score", f"score-{fingerprint}", fingerprint, parameters) as tracked:
            evaluation = evaluate_captioner(
                predictor,
                reader,
                beam=settings.beam,
                batch_size=settings.batch_size,
                shuffle_images=settings.shuffle_images,
                document_frequencies=stored_frequencies(config),
            )
            if settings.meteor:
                evaluation = _with_meteor(evaluation, reader)
            record = ScoreCard(
                path=str(directory),
                fingerprint=fingerprint,
                checkpoint=checkpoint.fingerprint,
                split=settings.split,
                references=evaluation.references,
                images=len(reader),
                metrics=evaluation.percent(),
                signature=evaluation.signature,
                run_id=tracked.run_id,
            )
            write_card(directory, record, config, checkpoint, evaluation)
            tracked.log_metrics(record.metrics, step=checkpoint.step)
            tracked.log_artifacts(directory, "scores")
        record.save(directory / "record.json")
        return record


def _with_meteor(evaluation: Evaluation, reader: ShardReader) -> Evaluation:
    corpus, per_image = meteor_scores(reader.captions(), evaluation.hypotheses)
    scores = replace(
        evaluation.scores,
        corpus={**evaluation.scores.corpus, "meteor": corpus},
        per_image={**evaluation.scores.per_image, "meteor": np.array(per_image)},
    )
    return replace(evaluation, scores=scores)


def find_score_card(
    config: Config, work: Path, shard_set: ShardSet, checkpoint: Checkpoint
) -> ScoreCard:
    """The finished score card of these settings.

    Raises:
        DataError: there is none yet.
    """
    reader = ShardReader(shard_set, config.score.split)
    directory = work / "score" / _fingerprint(config, reader, checkpoint)
    found = _load(directory)
    if found is None:
        raise DataError(
            f"no score card of these settings in {directory}; run `captionmill score` first"
        )
    return found


def as_checkpoint(directory: Path) -> Checkpoint:
    """A record for any captioner's directory, such as a registered version's.

    Raises:
        ModelError: it is no captioner's directory.
    """
    provenance = read_description(directory)["provenance"]
    return Checkpoint(
        path=str(directory),
        fingerprint=provenance.get("training_fingerprint", model_fingerprint(directory)),
        shard_set=provenance.get("shard_set", "unknown"),
        epoch=provenance.get("epoch", 0),
        step=provenance.get("step", 0),
        validation_cider=provenance.get("validation", {}).get("cider"),
        run_id=provenance.get("mlflow_run_id"),
    )


def _fingerprint(config: Config, reader: ShardReader, checkpoint: Checkpoint) -> str:
    settings = config.score.model_dump(mode="json")
    if (frequencies := stored_frequencies(config)) is not None:
        settings["document_frequencies"] = frequencies.fingerprint
    model = model_fingerprint(Path(checkpoint.path))
    # Two trainings may end in equal models; a card belongs to one of them.
    made = {"checkpoint": checkpoint.fingerprint, "model": model}
    versions = {"tokeniser": ptb.VERSION, "metrics": METRICS_VERSION}
    return storage.fingerprint(
        {"recipe": RECIPE, **made, "data": reader.fingerprint, "score": settings, **versions}
    )


def _load(directory: Path) -> ScoreCard | None:
    try:
        record = ScoreCard.load(directory / "record.json")
    except (FileNotFoundError, ValueError):
        return None
    files = ("scores.json", "per_image.parquet", "predictions.json")
    if not all((directory / name).is_file() for name in files):
        return None
    return record.model_copy(update={"path": str(directory.absolute())})
