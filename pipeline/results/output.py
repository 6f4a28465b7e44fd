"""Files that scoring leaves: scores.json, a Parquet row an image, comparison.json.

JSON holds corpus scores x100 (and `raw` ones as computed); Parquet holds raw ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline import storage
from pipeline.errors import ConfigError
from pipeline.metrics import METRICS, DocumentFrequencies, Scores
from pipeline.metrics.bootstrap import Interval
from pipeline.metrics.definitions import DEFINITIONS
from pipeline.metrics.meteor import METEOR
from pipeline.results.comparison import ChangedImage, Comparison
from pipeline.results.predictions import Predictions
from pipeline.results.references import ReferenceCaptions

Meteor = tuple[float, list[float]]
"""Of the corpus and of each image, as `metrics.meteor.meteor_scores` gives it."""


def check_outputs(inputs: Sequence[Path], outputs: Mapping[str, Path | None]) -> None:
    """Refuse, before any work, outputs (by option) that would destroy an input or cannot be.

    Directories that are absent are no reason: writing makes them.

    Raises:
        ConfigError: names the option and the path.
    """
    given = {option: path for option, path in outputs.items() if path is not None}
    for option, path in given.items():
        for other in inputs:
            if path.exists() and other.exists() and path.samefile(other):
                raise ConfigError(
                    f"{option} {path} would overwrite the input {other}; name another"
                )
        if path.exists() and not path.is_file():
            what = "a directory" if path.is_dir() else "no regular file"
            raise ConfigError(f"{option} {path} is {what}; name a file")
        parent = next(place for place in path.absolute().parents if place.exists())
        if not parent.is_dir() or not os.access(parent, os.W_OK):
            raise ConfigError(f"{option} {path}: {parent} is no directory that can be written to")
    for (first, path), (second, other) in combinations(given.items(), 2):
        if path.resolve() == other.resolve():
            raise ConfigError(f"{first} and {second} are the same file, {path}; name two")


def write_scores(
    path: Path,
    references: ReferenceCaptions,
    predictions: Predictions,
    scores: Scores,
    frequencies: tuple[Path, DocumentFrequencies] | None = None,
    intervals: Mapping[str, Interval] | None = None,
    meteor: Meteor | None = None,
) -> None:
    """Commit the corpus scores with their signature, definitions and input files."""
    raw = dict(scores.corpus)
    definitions = dict(DEFINITIONS)
    if meteor is not None:
        raw["meteor"] = meteor[0]
        definitions["meteor"] = METEOR
    record: dict[str, Any] = {
        "scores": {metric: 100 * score for metric, score in raw.items()},
        "raw": raw,
        "signature": scores.signature,
        "definitions": definitions,
        "predictions": _predictions(predictions),
        **_inputs(references, frequencies),
    }
    if intervals is not None:
        record["intervals"] = {
            metric: [100 * interval.low, 100 * interval.high]
            for metric, interval in intervals.items()
        }
    storage.commit_json(path, record)


def write_per_image(
    path: Path,
    references: ReferenceCaptions,
    predictions: Predictions,
    scores: Scores,
    meteor: Meteor | None = None,
) -> None:
    """Commit a row an image: its id as text, the caption scored, raw metrics."""
    columns: dict[str, Any] = {
        "image_id": [str(image_id) for image_id in references.ids],
        "caption": predictions.captions,
        **{metric: scores.per_image[metric] for metric in METRICS},
    }
    if meteor is not None:
        columns["meteor"] = meteor[1]
    table = pa.table(columns).replace_schema_metadata({"signature": scores.signature})
    storage.commit(path, lambda out: pq.write_table(table, out, compression="zstd"))


def write_comparison(
    path: Path,
    references: ReferenceCaptions,
    a: Predictions,
    b: Predictions,
    comparison: Comparison,
    frequencies: tuple[Path, DocumentFrequencies] | None = None,
) -> None:
    """Commit what `compare` prints, with the same input files' digests."""
    metrics = {
        metric: {
            name: value if name == "p_value" else 100 * value
            for name, value in asdict(difference).items()
        }
        for metric, difference in comparison.metrics.items()
    }
    record = {
        "metrics": metrics,
        "resamples": comparison.resamples,
        "seed": comparison.seed,
        "signature": comparison.signature,
        "definitions": {**DEFINITIONS, "scale": "all scores x100, of single images too"},
        "gained": [_image(image) for image in comparison.gained],
        "lost": [_image(image) for image in comparison.lost],
        "a": _predictions(a),
        "b": _predictions(b),
        **_inputs(references, frequencies),
    }
    storage.commit_json(path, record)


def _image(image: ChangedImage) -> dict[str, Any]:
    scaled = {"cider_a": 100 * image.cider_a, "cider_b": 100 * image.cider_b}
    return {**asdict(image), **scaled}


def _predictions(predictions: Predictions) -> dict[str, Any]:
    return {
        "path": _path(predictions.path),
        "sha256": predictions.sha256,
        "missing": predictions.missing,
    }


def _path(path: Path) -> str:
    """As JSON can hold it: bytes of a name that are no UTF-8 are spelt out."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def _inputs(
    references: ReferenceCaptions, frequencies: tuple[Path, DocumentFrequencies] | None
) -> dict[str, Any]:
    stored = frequencies and {
        "path": _path(frequencies[0]),
        "fingerprint": frequencies[1].fingerprint,
        "images": frequencies[1].images,
    }
    return {
        "images": len(references.ids),
        "captions": references.number_of_captions,
        "references": {"path": _path(references.path), "sha256": references.sha256},
        "document_frequencies": stored,
    }
