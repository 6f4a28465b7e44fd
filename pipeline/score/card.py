"""A score card's files: the card, a row an image, and predictions in COCO's results format."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.config import Config
from pipeline.evaluate import Evaluation
from pipeline.metrics.definitions import DEFINITIONS
from pipeline.metrics.meteor import METEOR
from pipeline.records import Checkpoint, ScoreCard


def write_card(
    directory: Path,
    record: ScoreCard,
    config: Config,
    checkpoint: Checkpoint,
    evaluation: Evaluation,
) -> None:
    """Commit the three files into `directory`."""
    predictions = [
        {"image_id": image, "caption": caption.text}
        for image, caption in zip(evaluation.image_ids, evaluation.captions, strict=True)
    ]
    storage.commit_json(directory / "predictions.json", predictions)
    storage.commit(
        directory / "per_image.parquet",
        lambda out: pq.write_table(per_image_table(evaluation), out, compression="zstd"),
    )
    storage.commit_json(
        directory / "scores.json",
        {
            "scores": record.metrics,
            "images": record.images,
            "split": record.split,
            "signature": record.signature,
            "definitions": DEFINITIONS | ({"meteor": METEOR} if "meteor" in record.metrics else {}),
            "references": record.references,
            "shard_set": checkpoint.shard_set,
            "checkpoint": checkpoint.model_dump(mode="json"),
            "git_commit": git_commit(),
            "settings": config.model_dump(mode="json"),
        },
    )


def per_image_table(evaluation: Evaluation) -> pa.Table:
    """A row an image: id (as text), caption, its mean token log-probability, raw metrics."""
    columns = {
        "image_id": [str(image) for image in evaluation.image_ids],
        "caption": [caption.text for caption in evaluation.captions],
        "score": [caption.score for caption in evaluation.captions],
    }
    return pa.table({**columns, **evaluation.scores.per_image})


def git_commit() -> str | None:
    """The commit of the checkout this code runs from; None where it is no checkout."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"],
            cwd=Path(__file__).parent,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()
