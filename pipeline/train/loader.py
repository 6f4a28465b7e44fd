"""An epoch's batches for one rank of several, read and decoded ahead of the model.

Guarantees: every sample is in exactly one rank's part of exactly one global batch of an epoch, for
any number of ranks and workers; all ranks have the same number of batches (the last may leave a
rank without pictures); batches depend on (seed, epoch) alone, so a position is (epoch, batch) and
may be taken up by another number of ranks; a truncated or corrupt shard is a `ShardError`.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

from torch import Tensor

from pipeline.config import TrainConfig
from pipeline.errors import ConfigError
from pipeline.evaluate import load_pixels
from pipeline.images import Transform
from pipeline.remote import held
from pipeline.shard_bytes import Fetch
from pipeline.shards import ShardReader
from pipeline.train.augment import Augmentation
from pipeline.train.captions import EncodedCaptions
from pipeline.train.features import FeatureCache
from pipeline.train.order import EpochOrder

HELD = 512 << 20
"""Bytes of shards on object storage that a rank holds, at most."""


@dataclass(frozen=True)
class Batch:
    """A rank's part of one global batch; it may be empty."""

    number: int
    """Of the global batch in its epoch."""
    pictures: list[int]
    """Positions in the reader."""
    keys: list[str]
    images: Tensor
    """uint8 pixels [B, 3, H, W], or cached features."""
    captions_BCT: Tensor
    real_BCT: Tensor
    """Where a caption has a token; the rest is padding."""
    words: int
    """To be predicted in the whole global batch: what the ranks' sums are divided by."""
    captions: int
    """In the whole global batch."""
    global_pictures: int


class Loader:
    """The batches of rank `rank` of `world`."""

    def __init__(
        self,
        reader: ShardReader,
        captions: EncodedCaptions,
        transform: Transform,
        settings: TrainConfig,
        *,
        features: FeatureCache | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        """A loader; nothing is read yet.

        Raises:
            ConfigError: ranks that do not divide the batch.
        """
        if settings.batch_size % world:
            raise ConfigError(
                f"train.batch_size = {settings.batch_size} is not divisible by {world} ranks; "
                f"take {max(settings.batch_size // world, 1) * world}, or another number of devices"
            )
        self.reader, self.encoded, self.transform = reader, captions, transform
        self.settings, self.features, self.rank, self.world = settings, features, rank, world
        self.order = EpochOrder([tar.count for tar in reader.tars], settings.order, settings.seed)
        self.augmentation = Augmentation(settings.augment, settings.seed)
        self._permutation = lru_cache(maxsize=1)(self.order.permutation)
        self._keys = reader.keys()
        self._sided = self.augmentation.sided(reader.captions())
        self._fetch = _held(reader, settings, world) if features is None else None
        self.waited = 0.0
        """Seconds that whoever asked for batches has waited for them."""

    @property
    def steps(self) -> int:
        """Global batches an epoch; the last may be smaller."""
        return -(-len(self.reader) // self.settings.batch_size)

    def pictures(self, epoch: int, number: int) -> list[int]:
        """The pictures of a global batch; rank r of R takes every R-th from the r-th on."""
        size = self.settings.batch_size
        found: list[int] = self._permutation(epoch)[number * size : (number + 1) * size].tolist()
        return found

    def batches(self, epoch: int, first: int = 0) -> Generator[Batch, None, None]:
        """This rank's parts of the epoch's batches from number `first` on.

        Raises:
            ShardError: a shard is truncated or corrupt; names it.
            DataError: a picture cannot be decoded; names it.
        """
        workers = self.settings.workers
        with ThreadPoolExecutor(workers) as pool:
            waiting: deque[Future[Batch]] = deque()
            try:
                for number in range(first, self.steps):
                    waiting.append(pool.submit(self.load, epoch, number))
                    if len(waiting) > 2 * workers:
                        yield self._next(waiting)
                while waiting:
                    yield self._next(waiting)
            finally:
                for future in waiting:
                    future.cancel()

    def _next(self, waiting: deque[Future[Batch]]) -> Batch:
        started = time.monotonic()
        try:
            return waiting.popleft().result()
        finally:
            self.waited += time.monotonic() - started

    def load(self, epoch: int, number: int) -> Batch:
        """This rank's part of one global batch."""
        everyone = self.pictures(epoch, number)
        rows = [self._rows(epoch, picture) for picture in everyone]
        mine = slice(self.rank, None, self.world)
        pictures = everyone[mine]
        captions, real = self.encoded.padded(rows[mine])
        return Batch(
            number,
            pictures,
            [self._keys[picture] for picture in pictures],
            self._images(epoch, pictures),
            captions,
            real,
            words=sum(self.encoded.length(row) - 1 for group in rows for row in group),
            captions=sum(map(len, rows)),
            global_pictures=len(everyone),
        )

    def _rows(self, epoch: int, picture: int) -> list[int]:
        chooser = random.Random(f"{self.settings.seed}/{epoch}/{self._keys[picture]}")  # noqa: S311
        return self.encoded.choose(picture, self.settings.captions_per_image, chooser)

    def _images(self, epoch: int, pictures: list[int]) -> Tensor:
        sided = [self._sided[picture] for picture in pictures]
        keys = [self._keys[picture] for picture in pictures]
        if self.features is not None:
            named = zip(keys, sided, strict=True)
            versions = [self.augmentation.choose(epoch, key, side) for key, side in named]
            return self.features.rows(pictures, versions)
        pixels = load_pixels(self.transform, self.reader, pictures, self._fetch)
        for place, (key, side) in enumerate(zip(keys, sided, strict=True)):
            mirrored = self.augmentation.mirrors(epoch, key, side)
            pixels[place] = self.augmentation(pixels[place], epoch, key, mirrored)
        return pixels


def _held(reader: ShardReader, settings: TrainConfig, world: int) -> Fetch | None:
    """What fetches a rank's streams from object storage by whole blocks, front to back.

    None for local tars, and where the windows in which streams are shuffled are too large to be
    held: samples are then fetched one by one.
    """
    if not reader.remote:
        return None
    order, samples = settings.order, len(reader)
    streams = min(order.streams, samples)
    mine = streams // world if streams % world == 0 else streams
    window = min(order.window, -(-samples // streams))
    size = sum(tar.size for tar in reader.tars) / samples
    # Each run of a window ends somewhere in a block; the next window begins while one ends.
    blocks = 2 * mine * (window * size / held.BLOCK + window / order.run + 2)
    if blocks * held.BLOCK > HELD:
        return None
    return held.HeldBlocks(int(blocks) + 1).fetch
