"""The files of a captioner's directory beside captioner.json, which keeps a digest of each."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipeline import storage

WEIGHTS = "model.safetensors"
DIGESTS = {
    WEIGHTS: "weights_sha256",
    "tokenizer.json": "tokenizer_sha256",
    "document_frequencies.parquet": "document_frequencies_sha256",
    "photos.parquet": "photos_sha256",
}
"""What captioner.json calls the SHA-256 of each; it has those of the files that there are."""


def damaged(directory: Path, description: Mapping[str, Any]) -> Iterator[tuple[Path, str]]:
    """Every file that is not what captioner.json, the `description`, says, and what is wrong."""
    for name, key in DIGESTS.items():
        path = directory / name
        digest = description.get(key)
        if digest is None and name != WEIGHTS:
            continue  # no such file, or one of a version that kept no digest of it
        if not path.is_file():
            yield path, "is missing"
        elif storage.sha256_file(path) != digest:
            yield path, "is damaged: its SHA-256 is not the one in captioner.json"
