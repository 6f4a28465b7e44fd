"""The frozen encoder's features on disk, half precision, a file a tar.

A file's name says what made it (encoder, transform) and for which tar (SHA-256), and it is
committed whole: one that is there is right, and grown data costs only its new tars.
"""

from __future__ import annotations

from bisect import bisect_right
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline import storage
from pipeline.evaluate import load_pixels
from pipeline.images import Transform, normalise
from pipeline.models.captioner import Captioner
from pipeline.progress import Progress, say
from pipeline.shard_tars import Tar
from pipeline.shards import ShardReader


class FeatureCache:
    """Features of every sample of a split, computed where missing, then memory-mapped."""

    def __init__(
        self,
        model: Captioner,
        transform: Transform,
        reader: ShardReader,
        directory: Path,
        batch_size: int,
        *,
        mirrored: bool = False,
    ) -> None:
        """Fill `directory`; a kill costs at most the tar in flight.

        `mirrored` asks for the features of the pictures' mirror images as well.

        Raises:
            ShardError, DataError: a picture that is missing here cannot be read.
        """
        with storage.lock(directory):
            storage.remove_temporaries(directory)
            plain = _fill(model, transform, reader, directory, batch_size, False)
            self._arrays, self._starts = plain
            self._mirrored = (
                _fill(model, transform, reader, directory, batch_size, True)[0] if mirrored else []
            )

    def __call__(self, start: int, stop: int) -> Tensor:
        """float32 features of samples `start` to `stop` in the reader's order."""
        return self.rows(list(range(start, stop)))

    def rows(self, rows: list[int], mirrored: list[bool] | None = None) -> Tensor:
        """float32 features of the samples at `rows`; of their mirror images where `mirrored`."""
        out = np.empty((len(rows), *self._arrays[0].shape[1:]), dtype=np.float16)
        for place, row in enumerate(rows):
            tar = bisect_right(self._starts, row) - 1
            arrays = self._mirrored if mirrored is not None and mirrored[place] else self._arrays
            out[place] = arrays[tar][row - self._starts[tar]]
        return torch.from_numpy(out).float()


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


def _fill(
    model: Captioner,
    transform: Transform,
    reader: ShardReader,
    directory: Path,
    batch_size: int,
    mirror: bool,
) -> tuple[list[NDArray[np.float16]], list[int]]:
    ending = "-mirrored" if mirror else ""
    files = [directory / f"{tar.sha256[:32]}{ending}.npy" for tar in reader.tars]
    found = [_stored(file, tar) for file, tar in zip(files, reader.tars, strict=True)]
    missing = sum(tar.count for tar, array in zip(reader.tars, found, strict=True) if array is None)
    line = Progress("encode", missing) if missing else None
    arrays, starts, start = [], [], 0
    for tar, file, stored in zip(reader.tars, files, found, strict=True):
        if (array := stored) is None:
            rows = range(start, start + tar.count)
            made = _encode(model, transform, reader, rows, batch_size, line, mirror)
            storage.commit(file, lambda out, made=made: np.save(out, made))  # type: ignore[misc]
            array = np.load(file, mmap_mode="r")
        arrays.append(array)
        starts.append(start)
        start += tar.count
    if line is not None:
        line.close()
    return arrays, starts


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


@torch.inference_mode()
def _encode(
    model: Captioner,
    transform: Transform,
    reader: ShardReader,
    rows: range,
    batch_size: int,
    line: Progress | None,
    mirror: bool,
) -> NDArray[np.float16]:
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(rows), batch_size):
        pixels = load_pixels(transform, reader, rows[start : start + batch_size])
        if mirror:
            pixels = pixels.flip(-1)
        features = model.features(normalise(pixels.to(device), transform))
        parts.append(features.half().cpu().numpy())
        if line is not None:
            line.add(len(pixels))
    return np.concatenate(parts)
