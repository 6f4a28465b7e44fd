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
from pipeline.progress import Progress
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
    ) -> None:
        """Fill `directory`; a kill costs at most the tar in flight."""
        with storage.lock(directory):
            storage.remove_temporaries(directory)
            self._arrays, self._starts = _fill(model, transform, reader, directory, batch_size)

    def __call__(self, start: int, stop: int) -> Tensor:
        """float32 features of samples `start` to `stop` in the reader's order."""
        return self.rows(list(range(start, stop)))

    def rows(self, rows: list[int]) -> Tensor:
        """float32 features of the samples at `rows`."""
        out = np.empty((len(rows), *self._arrays[0].shape[1:]), dtype=np.float16)
        for place, row in enumerate(rows):
            tar = bisect_right(self._starts, row) - 1
            out[place] = self._arrays[tar][row - self._starts[tar]]
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
    model: Captioner, transform: Transform, reader: ShardReader, directory: Path, batch_size: int
) -> tuple[list[NDArray[np.float16]], list[int]]:
    files = [directory / f"{tar.sha256[:32]}.npy" for tar in reader.tars]
    missing = sum(
        tar.count for tar, file in zip(reader.tars, files, strict=True) if not file.exists()
    )
    line = Progress("encode", missing) if missing else None
    arrays, starts, start = [], [], 0
    for tar, file in zip(reader.tars, files, strict=True):
        if not file.exists():
            array = _encode(
                model, transform, reader, range(start, start + tar.count), batch_size, line
            )
            storage.commit(file, lambda out, array=array: np.save(out, array))  # type: ignore[misc]
        arrays.append(np.load(file, mmap_mode="r"))
        starts.append(start)
        start += tar.count
    if line is not None:
        line.close()
    return arrays, starts


@torch.inference_mode()
def _encode(
    model: Captioner,
    transform: Transform,
    reader: ShardReader,
    rows: range,
    batch_size: int,
    line: Progress | None,
) -> NDArray[np.float16]:
    device = next(model.parameters()).device
    parts = []
    for start in range(0, len(rows), batch_size):
        pixels = load_pixels(transform, reader, rows[start : start + batch_size])
        features = model.features(normalise(pixels.to(device), transform))
        parts.append(features.half().cpu().numpy())
        if line is not None:
            line.add(len(pixels))
    return np.concatenate(parts)
