"""What a finished training leaves in its directory, found again."""

from __future__ import annotations

from pathlib import Path

from pipeline import storage
from pipeline.models.digests import damaged
from pipeline.records import Checkpoint

FILES = ("model.safetensors", "tokenizer.json", "document_frequencies.parquet")
"""What every training leaves, beside captioner.json; earlier versions kept no digest of some."""


def finished(directory: Path) -> Checkpoint | None:
    """The record of a finished training whose model is there, whole; None if there is none."""
    try:
        record = Checkpoint.load(directory / "record.json")
    except (FileNotFoundError, ValueError):
        return None
    # Where the record lies is where its model lies, also after the work directory was moved.
    model = directory.absolute() / "model"
    try:
        description = storage.read_json(model / "captioner.json")
    except (FileNotFoundError, ValueError):
        return None
    if not isinstance(description, dict) or any(damaged(model, description)):
        return None
    if not all((model / name).is_file() for name in FILES):
        return None
    return record.model_copy(update={"path": str(model)})
