"""The local engine: reads and decodes ahead of the model, captions unit by unit.

Knows no plan and no files of the table: units in, rows out. Memory is bounded by the
pictures read ahead (pixels at the model's size), one unit's rows, and a raw file a thread.
"""

from __future__ import annotations

import hashlib
import itertools
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline import images
from pipeline.caption.members import FAILED, SKIPPED, Archive, Member
from pipeline.caption.plan import Relisted, Unit
from pipeline.caption.schema import Row
from pipeline.caption.wording import worded
from pipeline.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.caption.marker import Marker
    from pipeline.caption.recipe import Captioner, Described
    from pipeline.config import CaptionConfig

THREADS = 4
"""Most threads that read and decode; decoding leaves Python's lock."""


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


def load_picture(
    archive: Archive, member: Member, transform: images.Transform, limits: images.Limits
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
        if member.code is not None:
            raise ImageError(member.code, FAILED[member.code])
        data = archive.read(member, limits.max_bytes)
        picture.size = len(data)
        picture.sha256 = hashlib.sha256(data).hexdigest()
        probe = images.probe(data, limits)
        picture.width, picture.height = probe.width, probe.height
        picture.pixels = images.load(data, transform, limits)
    except ImageError as error:
        picture.code, picture.error = error.code, error.detail
    except Exception as error:
        error.add_note(f"while reading {member.name!r}")
        raise
    if not early:
        picture.meta = archive.meta(member)
    return picture


class Engine:
    """One process, one captioner."""

    def __init__(
        self,
        *,
        config: CaptionConfig,
        captioner: Captioner,
        marker: Marker,
        archives: Mapping[str, Archive],
        relisted: Relisted,
        progress: Callable[[int, int], None],
    ) -> None:
        """`archives` by source name; `progress` is told (members done, of them failed)."""
        self.config, self.captioner, self.marker = config, captioner, marker
        self.archives, self.relisted, self.progress = archives, relisted, progress
        self.limits = images.Limits(max_bytes=config.max_bytes, max_pixels=config.max_pixels)

    def run(self, units: Iterable[Unit], finish: Callable[[Unit, list[Row]], object]) -> None:
        """Caption units in order; `finish` is called with each unit's rows."""
        ours, theirs = itertools.tee(units)
        many = min(THREADS, os.cpu_count() or 1)
        with ThreadPoolExecutor(many) as quick, ThreadPoolExecutor(1) as sequential:
            pictures = self._ahead(theirs, quick, sequential)
            for unit in ours:
                finish(unit, self.caption_unit(unit, pictures))

    def _ahead(
        self, units: Iterable[Unit], quick: ThreadPoolExecutor, sequential: ThreadPoolExecutor
    ) -> Iterator[Picture]:
        """Every member's picture in order, up to two batches ahead of the caller."""
        waiting: deque[Future[Picture]] = deque()
        window = 2 * self.config.batch_size + THREADS
        for unit in units:
            archive = self.archives[unit.source]
            pool = sequential if archive.sequential else quick
            for planned in unit.members:
                member = self.relisted.now(unit.source, planned, archive.gone)
                waiting.append(
                    pool.submit(
                        load_picture, archive, member, self.captioner.transform, self.limits
                    )
                )
                if len(waiting) >= window:
                    yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def caption_unit(self, unit: Unit, pictures: Iterator[Picture]) -> list[Row]:
        """A row for each member; takes the unit's pictures from `pictures`."""
        rows: list[Row | None] = []
        batch: list[tuple[int, Picture]] = []
        for place, picture in enumerate(itertools.islice(pictures, len(unit.members))):
            rows.append(None)
            if picture.pixels is not None:
                batch.append((place, picture))
            else:
                rows[place] = self._row(unit, picture, None)
                self.progress(1, int(picture.code is not None))
            if len(batch) == self.config.batch_size:
                self._caption(unit, batch, rows)
                batch = []
        if batch:
            self._caption(unit, batch, rows)
        whole = [row for row in rows if row is not None]
        assert len(whole) == len(unit.members), "a member without a row"
        return whole

    def _caption(
        self, unit: Unit, batch: list[tuple[int, Picture]], rows: list[Row | None]
    ) -> None:
        import torch

        # Always a full batch, so that a picture's numbers do not depend on how many came along.
        side = self.captioner.transform.size
        pixels = np.zeros((self.config.batch_size, 3, side, side), np.uint8)
        for slot, (_, picture) in enumerate(batch):
            assert picture.pixels is not None
            pixels[slot] = picture.pixels
        captions = self.captioner.caption_pixels(
            torch.from_numpy(pixels), beam=self.config.beam, candidates=self.config.candidates
        )
        for (place, picture), caption in zip(batch, captions, strict=False):
            rows[place] = self._row(unit, picture, caption)
        self.progress(len(batch), 0)

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
