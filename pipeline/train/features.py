"""The frozen encoder's features on disk, half precision, a file a tar.

A file's name says what made it (encoder, transform) and for which tar (SHA-256), and it is
committed whole: one that is there is right, and grown data costs only its new tars.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import storage
from pipeline.config_recipe import AugmentConfig
from pipeline.errors import ModelError
from pipeline.evaluate import load_pixels
from pipeline.images import Transform, normalise
from pipeline.models.captioner import Captioner
from pipeline.progress import Progress, say
from pipeline.shard_tars import Tar
from pipeline.shards import ShardReader
from pipeline.train.augment import Augmentation


class FeatureCache:
    """Features of every sample of a split, computed where missing, then memory-mapped."""

    def __init__(
        self,
        model: Captioner,
        transform: Transform,
        reader: ShardReader,
        directory: Path,
        batch_size: int,
        augmentation: Augmentation | None = None,
    ) -> None:
        """Fill `directory`; a kill costs at most the tar in flight.

        With an `augmentation`, its versions of the pictures are cached as well.

        Raises:
            ShardError, DataError: a picture that is missing here cannot be read.
            ModelError: features that half precision cannot hold.
        """
        augmentation = augmentation or Augmentation(AugmentConfig(), 0)
        self._starts = [0, *accumulate(tar.count for tar in reader.tars)][:-1]
        make = _Make(model, transform, reader, batch_size, augmentation)
        # Another training may need the same features, and be making them.
        with storage.lock(directory, wait=_say_who):
            storage.remove_temporaries(directory)
            self._versions = [
                _fill(make, directory, number) for number in range(len(augmentation.versions))
            ]

    def __call__(self, start: int, stop: int) -> Tensor:
        """float32 features of samples `start` to `stop` in the reader's order."""
        return self.rows(list(range(start, stop)))

    def rows(self, rows: list[int], versions: list[int] | None = None) -> Tensor:
        """float32 features of the samples at `rows`, each in its version (see `Augmentation`)."""
        out = np.empty((len(rows), *self._versions[0][0].shape[1:]), dtype=np.float16)
        for place, row in enumerate(rows):
            tar = bisect_right(self._starts, row) - 1
            arrays = self._versions[versions[place] if versions is not None else 0]
            out[place] = arrays[tar][row - self._starts[tar]]
        return torch.from_numpy(out).float()


def _say_who(owner: str) -> None:
    say("encode", f"another run (process {owner}) encodes the same pictures: waiting for it")


def encoder_fingerprint(
    model: Captioner, transform: Transform, architecture: dict[str, Any]
) -> str:
    """Of the frozen stages' tensors, of what they are (equal tensors make more than one ViT), and of the transform."""
    import hashlib

    what = storage.fingerprint({"encoder": architecture["encoder"]})
    digest = hashlib.sha256((transform.fingerprint() + what).encode())
    for name, tensor in sorted(model.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


class _Make:
    """Features of samples in one of their versions."""

    def __init__(
        self,
        model: Captioner,
        transform: Transform,
        reader: ShardReader,
        batch_size: int,
        augmentation: Augmentation,
    ) -> None:
        self.model, self.transform, self.reader = model, transform, reader
        self.batch_size, self.augmentation = batch_size, augmentation
        self.keys = reader.keys()
        self.sided = augmentation.sided(reader.captions())

    @torch.inference_mode()
    def __call__(self, rows: range, version: int, line: Progress | None) -> NDArray[np.float16]:
        device = next(self.model.parameters()).device
        parts = []
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            pixels = load_pixels(self.transform, self.reader, batch)
            for place, row in enumerate(batch):
                pixels[place] = self.augmentation.version(
                    version, pixels[place], self.keys[row], self.sided[row]
                )
            features = self.model.features(normalise(pixels.to(device), self.transform)).half()
            _require_finite(features, [self.keys[row] for row in batch])
            parts.append(features.cpu().numpy())
            if line is not None:
                line.add(len(pixels))
        return np.concatenate(parts)


def _require_finite(features: Tensor, keys: list[str]) -> None:
    """Raise ModelError where a picture's features are no numbers in half precision."""
    good = features.flatten(1).isfinite().all(1).tolist()
    bad = [key for key, fine in zip(keys, good, strict=True) if not fine]
    if bad:
        raise ModelError(
            f"the encoder's features of {len(bad)} of {len(keys)} pictures ({', '.join(bad[:3])}"
            f"{', ...' if len(bad) > 3 else ''}) are infinite or no numbers in the cache's half "
            f"precision (at most {torch.finfo(torch.float16).max:,.0f}). Look at train.encoder.weights, "
            "or set train.cache_features = false"
        )


def _fill(make: _Make, directory: Path, version: int) -> list[NDArray[np.float16]]:
    tars, name = make.reader.tars, make.augmentation.versions[version]
    files = [directory / f"{tar.sha256[:32]}{name}.npy" for tar in tars]
    found = [_stored(file, tar) for file, tar in zip(files, tars, strict=True)]
    missing = sum(tar.count for tar, array in zip(tars, found, strict=True) if array is None)
    line = Progress("encode", missing) if missing else None
    arrays, start = [], 0
    for tar, file, stored in zip(tars, files, found, strict=True):
        if (array := stored) is None:
            made = make(range(start, start + tar.count), version, line)
            storage.commit(file, lambda out, made=made: np.save(out, made))  # type: ignore[misc]
            array = np.load(file, mmap_mode="r")
        arrays.append(array)
        start += tar.count
    if line is not None:
        line.close()
    return arrays


def _stored(file: Path, tar: Tar) -> NDArray[np.float16] | None:
    """A tar's features; None where they are missing or damaged, so that they are made again."""
    try:
        array: NDArray[np.float16] = np.load(file, mmap_mode="r")
    except FileNotFoundError:
        return None
    except (ValueError, EOFError) as error:
        say("encode", f"{file} is damaged and made again: {error}")
        return None
    return array if len(array) == tar.count else None
