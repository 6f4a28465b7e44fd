"""A Hugging Face checkpoint's directory: its JSON files and its tensors, read without transformers.

Knows no architecture. Nothing in the directory is executed: JSON, safetensors, and
pytorch_model.bin by torch's weights-only unpickler.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from pipeline import storage
from pipeline.errors import ModelError, WeightsError

WEIGHTS = ("model.safetensors", "pytorch_model.bin")
"""Whole, or in parts that NAME.index.json lists; looked for in this order, as transformers does."""


@dataclass(frozen=True)
class Checkpoint:
    """A directory that `save_pretrained` wrote, or a copy of a repository of the hub."""

    directory: Path
    config: dict[str, Any]
    """config.json."""

    @classmethod
    def open(cls, directory: Path) -> Checkpoint:
        """Read config.json.

        Raises:
            ModelError: no such directory, or it holds no config.json with a model_type.
        """
        if not directory.is_dir():
            raise ModelError(f"{directory} is not a directory; give that of a checkpoint")
        config = read_json(directory, "config.json")
        if config is None:
            raise ModelError(
                f"{directory} is no Hugging Face checkpoint: it has no config.json; "
                "give the directory that save_pretrained wrote"
            )
        if not isinstance(config.get("model_type"), str):
            raise ModelError(
                f"{directory / 'config.json'} names no model_type; it is not a model's"
            )
        return cls(directory, config)

    @property
    def architecture(self) -> str:
        """The class that wrote it, or its model_type where it does not say."""
        named = self.config.get("architectures")
        return str(named[0] if isinstance(named, list) and named else self.config["model_type"])

    def json(self, name: str) -> dict[str, Any]:
        """The JSON object in a file; empty if there is no such file.

        Raises:
            ModelError: not JSON, or not an object.
        """
        return read_json(self.directory, name) or {}

    def section(self, name: str) -> dict[str, Any]:
        """An object inside config.json.

        Raises:
            ModelError: there is none.
        """
        found = self.config.get(name)
        if not isinstance(found, dict):
            raise ModelError(f"{self.directory / 'config.json'} has no section {name!r}")
        return found

    def weights_files(self) -> list[Path]:
        """The files that hold the tensors.

        Raises:
            WeightsError: there are none, or one that the index names is missing.
        """
        for name in WEIGHTS:
            if (self.directory / name).is_file():
                return [self.directory / name]
            index = self.json(f"{name}.index.json")
            if index:
                places = index.get("weight_map")
                if not isinstance(places, dict) or not places:
                    raise WeightsError(f"{self.directory / name}.index.json has no weight_map")
                files = [self.directory / Path(str(part)).name for part in places.values()]
                parts = sorted(set(files))
                if absent := [part.name for part in parts if not part.is_file()]:
                    raise WeightsError(
                        f"{self.directory} lacks {', '.join(absent)}, which {name}.index.json names; "
                        "download it again"
                    )
                return parts
        raise WeightsError(f"{self.directory} has no weights: neither {' nor '.join(WEIGHTS)}")

    def weights_sha256(self) -> str:
        """Of the weights files' bytes, in the order of their names."""
        digest = hashlib.sha256()
        files = self.weights_files()
        if len(files) == 1:
            return storage.sha256_file(files[0])
        for file in files:
            digest.update(bytes.fromhex(storage.sha256_file(file)))
        return digest.hexdigest()

    def tensors(self) -> dict[str, Tensor]:
        """All tensors by name, floating-point ones in float32.

        Raises:
            WeightsError: no weights, or files that cannot be read.
        """
        tensors: dict[str, Tensor] = {}
        for path in self.weights_files():
            tensors.update(_read(path))
        return {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path} cannot be read: {error}") from None
    except Exception as error:  # noqa: BLE001  the unpickler raises anything on hostile bytes
        raise WeightsError(
            f"{path} is not a file of plain tensors ({type(error).__name__}), and nothing else in it "
            "is ever executed; save the model again as safetensors"
        ) from None
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise WeightsError(f"{path} holds no state dict (a mapping of names to tensors)")
    return state


def read_json(directory: Path, name: str) -> dict[str, Any] | None:
    """The JSON object in a file of `directory`; none if there is no such file.

    Raises:
        ModelError: not JSON, or not an object.
    """
    path = directory / name
    try:
        value = storage.read_json(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ModelError(f"cannot read {path}: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise ModelError(f"{path} is not JSON") from None
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds no JSON object")
    return value
