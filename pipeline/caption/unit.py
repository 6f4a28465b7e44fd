"""The unit function: members in, rows out. Every engine calls it; it knows no plan and no table.

Reads and decodes ahead of the model. Memory is bounded by the pictures read ahead (pixels at
the model's size), one unit's rows, and a raw file a thread.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from pipeline import images
from pipeline.caption.copies import Place
from pipeline.caption.members import FAILED, SKIPPED, Archive, Member
from pipeline.caption.plan import Unit
from pipeline.caption.room import READERS
from pipeline.caption.schema import Row
from pipeline.caption.stages import Stages
from pipeline.caption.wording import worded
from pipeline.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

    from pipeline.caption.marker import Marker
    from pipeline.caption.recipe import Captioner, Described
    from pipeline.config import CaptionConfig

DISTANT_THREADS = 16
"""Threads that read and decode, of archives whose reads wait for a network."""

KILLERS = {
    "decoder_crash": "decoding this picture ended the process, each time it was tried",
    "captioner_crash": "captioning this picture ended the process, each time it was tried",
}
"""Why a picture that could be read has no caption, beside the decoder's own codes."""


class Killer(NamedTuple):
    """A picture that is known to end the process that works on it."""

    code: str
    """A key of KILLERS."""
    size: int | None = None
    """Bytes."""
    sha256: str | None = None


class Task(NamedTuple):
    """A unit to caption, and what earlier tries of it have told."""

    unit: Unit
    killers: Mapping[tuple[str, int], Killer] = MappingProxyType({})
    """By (name, occurrence): left out, each a failed row."""
    careful: bool = False
    """One picture at a time, announced before it is touched."""
    alone: frozenset[int] = frozenset()
    """Places at which a batch starts whose pictures are first captioned one by one."""


class Step(NamedTuple):
    """What a careful worker is about to do; if it dies, this is what it died of."""

    kind: str
    """read, decode, batch or alone."""
    place: int
    """Of the member in its unit; of a batch's first member."""
    size: int | None = None
    sha256: str | None = None


class Done(NamedTuple):
    """A captioned unit."""

    unit: Unit
    rows: list[Row]
    copies: dict[int, Place]
    """By place: the rows without a caption of their own, and the (unit, place) it is copied from."""


@dataclass(slots=True)
class Picture:
    """A member after reading and decoding: pixels, or why there are none."""

    member: Member
    size: int | None = None
    """Bytes."""
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    meta: str | None = None
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)
    """[3, size, size]."""
    code: str | None = None
    error: str | None = None


class Reader:
    """Members into pictures; may be called from several threads."""

    def __init__(
        self, transform: images.Transform, limits: images.Limits, stages: Stages | None = None
    ) -> None:
        self.transform, self.limits = transform, limits
        self.stages = stages if stages is not None else Stages()

    def load(
        self,
        archive: Archive,
        member: Member,
        killer: Killer | None = None,
        before_decode: Callable[[Picture], object] = lambda picture: None,
    ) -> Picture:
        """Read and decode one member. Whatever is wrong with it is in the result."""
        picture = Picture(member, size=member.size)
        if member.reason is not None:
            picture.error = SKIPPED[member.reason]
            return picture
        # Front to back, since a gzipped tar cannot go back: a sample's JSON may come first.
        early = bool(member.sidecars) and member.sidecars[0].offset < member.offset
        try:
            picture.meta = archive.meta(member) if early else None
            if killer is not None:
                picture.size, picture.sha256 = killer.size, killer.sha256
                raise ImageError(killer.code, KILLERS[killer.code])
            if member.code is not None:
                raise ImageError(member.code, FAILED[member.code])
            with self.stages.busy("read"):
                data = archive.read(member, self.limits.max_bytes)
                picture.size = len(data)
                picture.sha256 = hashlib.sha256(data).hexdigest()
            before_decode(picture)
            with self.stages.busy("decode"):
                probe = images.probe(data, self.limits)
                picture.width, picture.height = probe.width, probe.height
                picture.pixels = images.load(data, self.transform, self.limits)
        except ImageError as error:
            picture.code, picture.error = error.code, error.detail
        except Exception as error:
            error.add_note(f"while reading {member.name!r}")
            raise
        if not early:
            picture.meta = archive.meta(member)
        return picture


class UnitCaptioner:
    """A captioner with the archives at hand: what a worker of any engine holds."""

    def __init__(
        self,
        config: CaptionConfig,
        captioner: Captioner,
        marker: Marker,
        archive: Callable[[str], Archive],
        *,
        copies: Callable[[str, int, Sequence[str | None]], list[Place | None]],
        progress: Callable[[str, int, int], object] = lambda unit, members, failed: None,
        announce: Callable[[Step], object] = lambda step: None,
        threads: int = 1,
    ) -> None:
        """What it needs, and whom it tells.

        Args:
            config: the stage's settings.
            captioner: the model.
            marker: what the rows are made with.
            archive: an archive by its source name.
            copies: `Copies.find`, or one who asks it.
            progress: told (unit, members done, of them failed).
            announce: told before each step of a careful task.
            threads: that read and decode.
        """
        self.config, self.captioner, self.marker = config, captioner, marker
        self.archive, self.copies = archive, copies
        self.progress, self.announce = progress, announce
        self.threads = threads
        self.stages = Stages()
        limits = images.Limits(max_bytes=config.max_bytes, max_pixels=config.max_pixels)
        self.reader = Reader(captioner.transform, limits, self.stages)

    def run(self, tasks: Iterable[Task | None]) -> Iterator[Done]:
        """Caption units in order. Tasks are asked for ahead of what is captioned.

        None among them says that the next one may be long in coming.
        """
        ours, theirs = itertools.tee(tasks)
        with (
            ThreadPoolExecutor(self.threads) as quick,
            ThreadPoolExecutor(DISTANT_THREADS) as distant,
            ThreadPoolExecutor(1) as sequential,
        ):
            pictures = self._ahead(theirs, quick, distant, sequential)
            for task in ours:
                if task is not None:
                    yield self._caption_unit(task, pictures)

    def _ahead(
        self,
        tasks: Iterable[Task | None],
        quick: ThreadPoolExecutor,
        distant: ThreadPoolExecutor,
        sequential: ThreadPoolExecutor,
    ) -> Iterator[Picture]:
        """Every member's picture in order, up to two batches ahead of the caller."""
        waiting: deque[Future[Picture]] = deque()
        window = read_ahead(self.config)
        for task in tasks:
            if task is None or task.careful:
                while waiting:
                    yield waiting.popleft().result()
            if task is None:
                continue
            archive = self.archive(task.unit.source)
            if task.careful:
                yield from self._one_by_one(task, archive)
                continue
            near = distant if archive.distant else quick
            pool = sequential if archive.sequential else near
            for member in task.unit.members:
                killer = task.killers.get((member.name, member.occurrence))
                waiting.append(pool.submit(self.reader.load, archive, member, killer))
                if len(waiting) >= window:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _one_by_one(self, task: Task, archive: Archive) -> Iterator[Picture]:
        for place, member in enumerate(task.unit.members):
            self.announce(Step("read", place))

            def about_to_decode(picture: Picture, place: int = place) -> None:
                self.announce(Step("decode", place, picture.size, picture.sha256))

            killer = task.killers.get((member.name, member.occurrence))
            yield self.reader.load(archive, member, killer, about_to_decode)

    def _caption_unit(self, task: Task, pictures: Iterator[Picture]) -> Done:
        """A row for each member; takes the unit's pictures from `pictures`."""
        unit = task.unit
        rows: list[Row | None] = [None] * len(unit.members)
        copied: dict[int, Place] = {}
        batch: list[tuple[int, Picture]] = []
        for start in range(0, len(unit.members), self.config.batch_size):
            some = list(itertools.islice(pictures, min(self.config.batch_size, len(rows) - start)))
            sources = self.copies(unit.id, start, [picture.sha256 for picture in some])
            for place, (picture, source) in enumerate(zip(some, sources, strict=True), start):
                if picture.pixels is not None and source is None:
                    batch.append((place, picture))
                else:
                    rows[place] = self._row(unit, picture, None)
                    self.progress(unit.id, 1, int(picture.code is not None))
                if picture.pixels is not None and source is not None:
                    copied[place] = source
                if len(batch) == self.config.batch_size:
                    self._caption(task, batch, rows)
                    batch = []
        if batch:
            self._caption(task, batch, rows)
        whole = [row for row in rows if row is not None]
        assert len(whole) == len(unit.members), "a member without a row"
        return Done(unit, whole, copied)

    def _caption(
        self, task: Task, batch: list[tuple[int, Picture]], rows: list[Row | None]
    ) -> None:
        start = batch[0][0]
        if start in task.alone:
            for place, picture in batch:
                self.announce(Step("alone", place, picture.size, picture.sha256))
                self._describe([picture])
        if task.careful:
            self.announce(Step("batch", start))
        captions = self._describe([picture for _, picture in batch])
        for (place, picture), caption in zip(batch, captions, strict=True):
            rows[place] = self._row(task.unit, picture, caption)
        self.progress(task.unit.id, len(batch), 0)

    def _describe(self, pictures: list[Picture]) -> list[Described]:
        import torch

        # Always a full batch, so that a picture's numbers do not depend on how many came along.
        side = self.captioner.transform.size
        pixels = np.zeros((self.config.batch_size, 3, side, side), np.uint8)
        for slot, picture in enumerate(pictures):
            assert picture.pixels is not None
            pixels[slot] = picture.pixels
        return list(self._search(torch.from_numpy(pixels)))[: len(pictures)]

    def _search(self, pixels: Tensor) -> Iterable[Described]:
        config = self.config
        encode = getattr(self.captioner, "encode", None)
        if encode is None:
            with self.stages.busy("search"):
                return self.captioner.caption_pixels(
                    pixels, beam=config.beam, candidates=config.candidates
                )
        with self.stages.busy("encode"):
            memory = encode(pixels)
        with self.stages.busy("search"):
            found: Iterable[Described] = self.captioner.caption_memory(  # type: ignore[attr-defined]
                memory, beam=config.beam, candidates=config.candidates
            )
        return found

    def _row(self, unit: Unit, picture: Picture, caption: Described | None) -> Row:
        member, model = picture.member, self.marker.model
        status = "captioned" if caption is not None else "failed" if picture.code else "skipped"
        return Row(
            source=unit.source,
            member=member.name,
            occurrence=member.occurrence,
            sha256=picture.sha256,
            bytes=picture.size,
            width=picture.width,
            height=picture.height,
            caption=worded(caption.text, self.config.format) if caption else None,
            score=caption.score if caption else None,
            candidates=[
                {"caption": worded(text, self.config.format), "score": score}
                for text, score in caption.candidates
            ]
            if caption
            else None,
            status=status,
            error_code=picture.code or member.reason,
            error=picture.error,
            model_name=model.name,
            model_version=model.version,
            recipe=self.marker.recipe,
            meta=picture.meta,
        )


def read_ahead(config: CaptionConfig) -> int:
    """Most pictures that are read before they are captioned."""
    return 2 * config.batch_size + READERS
