"""Hugging Face checkpoints as our captioners, read without the transformers package."""

from __future__ import annotations

from pathlib import Path

import torch

from pipeline.errors import ModelError
from pipeline.models.build import build
from pipeline.models.importers import hub
from pipeline.models.importers.checkpoint import Checkpoint
from pipeline.models.importers.generation import read_generation
from pipeline.models.importers.kinds import KINDS
from pipeline.models.importers.preprocessor import read_transform
from pipeline.models.importers.tokenizer import read_backend
from pipeline.models.importers.weights import Tensors, load
from pipeline.models.saved import SavedCaptioner
from pipeline.text import Tokenizer

__all__ = ["import_checkpoint"]

FILES = {".safetensors", ".bin", ".pt", ".pth", ".json", ".txt", ".png", ".jpg", ".jpeg"}
"""Endings that a file has, and no name on the hub."""


def import_checkpoint(source: str) -> tuple[SavedCaptioner, list[str]]:
    """A captioner from a checkpoint's directory or its name on the hub, and notes for the user.

    Raises:
        ModelError: not a checkpoint, of an unknown kind, or with a part that cannot be expressed.
        WeightsError: tensors that are missing, of another shape, or of another architecture.
    """
    checkpoint = Checkpoint.open(_find(source))
    kind = checkpoint.config["model_type"]
    if kind not in KINDS:
        known = "; ".join(f"{name} ({what})" for name, (what, _) in KINDS.items())
        raise ModelError(
            f"{source} holds a {kind} model ({checkpoint.architecture}); can be imported: {known}"
        )
    parts = KINDS[kind][1](checkpoint)
    transform = read_transform(checkpoint, parts.size)
    tokenizer = Tokenizer(
        read_backend(checkpoint, parts.vocabulary),
        parts.tokenizer,
        bos=parts.bos,
        eos=parts.eos,
        pad=parts.pad,
    )
    generation, notes = read_generation(checkpoint, parts.sections, parts.decoder["positions"])
    architecture = {
        "encoder": parts.encoder,
        "decoder": parts.decoder,
        "vocabulary": parts.vocabulary,
        "size": transform.size,
    }
    tensors = Tensors(checkpoint.tensors(), str(checkpoint.directory))
    encoder, decoder = parts.state(tensors)
    tensors.finish(parts.unused)
    with torch.random.fork_rng(devices=[]):
        model = build(architecture)
    # All of the encoder's stages are frozen: the architecture says train = none.
    state = {f"encoder.frozen.{name}": value for name, value in encoder.items()}
    state |= {f"decoder.{name}": value for name, value in decoder.items()}
    load(model, state, str(checkpoint.directory))
    provenance = {
        "imported_from": "Hugging Face",
        "original": checkpoint.architecture,
        "original_sha256": checkpoint.weights_sha256(),
    }
    saved = SavedCaptioner(model.eval(), tokenizer, transform, generation, architecture, provenance)
    return saved, notes


def _find(source: str) -> Path:
    """The checkpoint's directory, fetched where `source` is a name on the hub."""
    path = Path(source)
    if source and path.is_dir():
        return path
    if path.is_file() or path.suffix.lower() in FILES:
        raise ModelError(
            f"{source} is a file; a checkpoint is the directory that save_pretrained wrote, or "
            "OWNER/NAME on the Hugging Face hub"
        )
    return hub.download(source)
