"""What a finished training leaves in its directory, found again."""

from __future__ import annotations

from pathlib import Path

from pipeline.records import Checkpoint


def finished(directory: Path) -> Checkpoint | None:
    """The record of a finished training whose model is there; None if there is none."""
    try:
        record = Checkpoint.load(directory / "record.json")
    except (FileNotFoundError, ValueError):
        return None
    # Where the record lies is where its model lies, also after the work directory was moved.
    model = directory.absolute() / "model"
    files = ("captioner.json", "model.safetensors", "tokenizer.json")
    if not all((model / name).is_file() for name in files):
        return None
    return record.model_copy(update={"path": str(model)})
