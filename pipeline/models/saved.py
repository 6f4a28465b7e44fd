"""A captioner's directory: weights, tokenizer, and what is needed to load it elsewhere.

    model.safetensors           every tensor
    tokenizer.json              the `tokenizers` library's format
    captioner.json              architecture, special tokens, transform, generation settings,
                                provenance, the other files' SHA-256
    document_frequencies.parquet   of the training captions, for CIDEr
    photos.parquet              training photos, where captions are compared with theirs

No pickle. The fingerprint covers what decides a caption: tensors, tokenizer and settings.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save

from pipeline import storage
from pipeline.config_model import GenerationConfig
from pipeline.errors import ModelError, WeightsError
from pipeline.images import Transform
from pipeline.models.build import build
from pipeline.models.captioner import Captioner
from pipeline.models.digests import DIGESTS, damaged
from pipeline.text import Tokenizer

FORMAT = 2
DECISIVE = ("architecture", "tokenizer", "transform", "generation", "weights_sha256")
"""The parts of captioner.json that decide a caption."""
PARTS = (*DECISIVE, "provenance")
"""What every captioner.json says."""


@dataclass
class SavedCaptioner:
    """A captioner and all that travels with it."""

    model: Captioner
    tokenizer: Tokenizer
    transform: Transform
    generation: GenerationConfig
    architecture: dict[str, Any]
    provenance: dict[str, Any] = field(default_factory=dict)
    """Where it came from: training set, settings, epoch."""
    document_frequencies: bytes | None = None
    """A file of `metrics.DocumentFrequencies`."""
    photos: bytes | None = None
    """A file of `predict.Photos`."""

    def description(self) -> dict[str, Any]:
        """The content of captioner.json without the digests."""
        return {
            "format": FORMAT,
            "architecture": self.architecture,
            "tokenizer": self.tokenizer.description(),
            "transform": self.transform.model_dump(mode="json"),
            "recipe": self.transform.fingerprint(),
            "generation": self.generation.model_dump(mode="json"),
            "provenance": self.provenance,
        }

    def save(self, directory: Path) -> None:
        """Write the files into `directory`, captioner.json last."""
        tensors = {k: v.detach().cpu().contiguous() for k, v in self.model.state_dict().items()}
        files = {
            "model.safetensors": save(tensors),
            "tokenizer.json": self.tokenizer.to_json().encode(),
            "document_frequencies.parquet": self.document_frequencies,
            "photos.parquet": self.photos,
        }
        description = self.description()
        for name, content in files.items():
            if content is not None:
                storage.commit(directory / name, content)
                description[DIGESTS[name]] = hashlib.sha256(content).hexdigest()
        storage.commit_json(directory / "captioner.json", description)

    @classmethod
    def load(cls, directory: Path) -> SavedCaptioner:
        """Read a captioner's directory onto the CPU, in evaluation mode.

        Raises:
            ModelError: not such a directory, of another format or decode recipe, or damaged.
            WeightsError: tensors that do not fit the architecture.
        """
        description = read_description(directory)
        for path, wrong in damaged(directory, description):
            kind = WeightsError if path.suffix == ".safetensors" else ModelError
            raise kind(f"{path} {wrong}; use another version, or train or import it again")
        path = directory / "model.safetensors"
        try:
            transform = Transform.model_validate(description["transform"])
            generation = GenerationConfig.model_validate(description["generation"])
            with torch.random.fork_rng(devices=[]):
                model = build(description["architecture"])
            state = load_file(path)
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            place = ".".join(map(str, problem["loc"]))
            raise ModelError(
                f"{directory}: captioner.json has {place} = {problem['input']!r}: {problem['msg']}; "
                "use the version that made it, or train again"
            ) from None
        except (KeyError, TypeError, SafetensorError) as error:
            raise ModelError(f"{directory} does not describe a captioner: {error}") from None
        if description.get("recipe", transform.fingerprint()) != transform.fingerprint():
            raise ModelError(
                f"{directory} was trained with another decode recipe than this version's; "
                "train again, or use the version that made it"
            )
        try:
            result = model.load_state_dict(state, strict=False)
        except RuntimeError as error:  # shapes; torch names the tensors
            raise WeightsError(f"{path} does not fit captioner.json: {error}") from None
        if result.missing_keys or result.unexpected_keys:
            raise WeightsError(
                f"{path}: missing {result.missing_keys[:5]}, unknown {result.unexpected_keys[:5]}"
            )
        if broken := [name for name, value in state.items() if not _finite(value)]:
            raise WeightsError(
                f"{path}: NaN or infinity in {len(broken)} tensors, {broken[0]} the first; its "
                "captions would be empty. Use another version, or train or import it again"
            )
        try:
            tokenizer = Tokenizer.load(directory / "tokenizer.json", **description["tokenizer"])
        except TypeError:
            raise ModelError(
                f"{directory / 'captioner.json'}: tokenizer = {description['tokenizer']!r} does not "
                "describe one; the model's directory is damaged"
            ) from None
        if len(tokenizer) != (words := description["architecture"]["vocabulary"]):
            raise ModelError(
                f"{directory / 'tokenizer.json'} has {len(tokenizer)} words, the model {words}; "
                "it belongs to another model"
            )
        frequencies = directory / "document_frequencies.parquet"
        photos = "photos_sha256" in description
        return cls(
            model.eval(),
            tokenizer,
            transform,
            generation,
            description["architecture"],
            description["provenance"],
            frequencies.read_bytes() if frequencies.is_file() else None,
            (directory / "photos.parquet").read_bytes() if photos else None,
        )


def _finite(tensor: torch.Tensor) -> bool:
    """Whether a tensor holds no NaN and no infinity; reads it once and writes nothing."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return bool(torch.stack(torch.aminmax(tensor)).isfinite().all())


def read_description(directory: Path) -> dict[str, Any]:
    """captioner.json of a directory.

    Raises:
        ModelError: there is none, or it is of another format or incomplete.
    """
    path = directory / "captioner.json"
    try:
        description = storage.read_json(path)
    except FileNotFoundError:
        raise ModelError(
            f"{directory} is no captioner's directory: it has no captioner.json"
        ) from None
    except ValueError:
        raise ModelError(f"{path} is not JSON") from None
    if not isinstance(description, dict) or description.get("format") != FORMAT:
        raise ModelError(f"{path} is not of format {FORMAT}; it was written by another version")
    if absent := [name for name in PARTS if name not in description]:
        raise ModelError(f"{path} lacks {', '.join(absent)}; the model's directory is damaged")
    return description


def model_fingerprint(directory: Path) -> str:
    """Of what decides a caption: tensors, tokenizer, architecture, transform, generation.

    With a consensus also what captions are compared by.

    Raises:
        ModelError: no captioner's directory, or incomplete.
    """
    description = read_description(directory)
    parts = {name: description[name] for name in DECISIVE}
    if "photos_sha256" in description:
        parts["photos"] = description["photos_sha256"]
    frequencies = directory / "document_frequencies.parquet"
    if "consensus" in description["generation"] and frequencies.is_file():
        parts["document_frequencies"] = storage.sha256_file(frequencies)
    try:
        vocabulary = storage.sha256_file(directory / "tokenizer.json")
    except FileNotFoundError:
        raise ModelError(f"no tokenizer.json in {directory}; it is incomplete") from None
    return storage.fingerprint({**parts, "vocabulary": vocabulary})
