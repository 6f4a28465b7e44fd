"""The unit function: members in, rows out. Every engine calls it; it knows no plan and no table.

Reads and decodes ahead of the model. Memory is bounded by the pictures read ahead (pixels at
the model's size), one unit's rows, and a raw file a thread.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline import images
from pipeline.caption.ahead import Ahead, Stretch, Tasks
from pipeline.caption.copies import Place
from pipeline.caption.members import Archive
from pipeline.caption.reader import Picture, Reader
from pipeline.caption.schema import Row
from pipeline.caption.stages import Stages
from pipeline.caption.tasks import Done, Step, Task
from pipeline.caption.wording import worded

if TYPE_CHECKING:
    from pipeline.caption.marker import Marker
    from pipeline.caption.plan import Unit
    from pipeline.caption.recipe import Captioner, Described
    from pipeline.config import CaptionConfig


@dataclass
class _Unfinished:
    """A unit while it is captioned."""

    task: Task
    rows: list[Row | None] = field(default_factory=list)
    copied: dict[int, Place] = field(default_factory=dict)
    batch: list[tuple[int, Picture]] = field(default_factory=list)
    """The next one, not full yet."""

    def done(self) -> Done:
        rows = [row for row in self.rows if row is not None]
        assert len(rows) == len(self.task.unit.members), "a member without a row"
        return Done(self.task.unit, rows, self.copied)


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
        alive: Callable[[], object] = lambda: None,
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
            alive: told whenever a picture was read and decoded.
            threads: that read and decode.
        """
        self.config, self.captioner, self.marker = config, captioner, marker
        self.archive, self.copies = archive, copies
        self.progress, self.announce, self.alive = progress, announce, alive
        self.threads = threads
        self.stages = Stages()
        if config.profile:
            self.stages.record(threads)
        limits = images.Limits(max_bytes=config.max_bytes, max_pixels=config.max_pixels)
        self.reader = Reader(captioner.transform, limits, self.stages)

    def run(self, tasks: Tasks) -> Generator[Done, None, None]:
        """Caption units in order; one is read while another is captioned."""
        ahead = Ahead(
            tasks,
            self.reader,
            self.archive,
            copies=self.copies,
            announce=self.announce,
            alive=self.alive,
            threads=self.threads,
        )
        unit: _Unfinished | None = None
        with ahead:
            stretches = ahead.stretches()
            while True:
                with self.stages.busy("await pictures"):
                    stretch = next(stretches, None)
                if stretch is None:
                    return
                if unit is None:
                    unit = _Unfinished(stretch.task, [None] * len(stretch.task.unit.members))
                self._caption(unit, self._batches(unit, stretch), ahead.fetch)
                if stretch.is_last:
                    done, unit = unit.done(), None
                    yield done

    def _batches(self, unit: _Unfinished, stretch: Stretch) -> Iterator[list[tuple[int, Picture]]]:
        """What is to be captioned; the rest gets its rows. Batches fill up, but for the last."""
        pairs = zip(stretch.pictures, stretch.sources, strict=True)
        for place, (picture, source) in enumerate(pairs, stretch.start):
            if picture.pixels is not None and source is None:
                unit.batch.append((place, picture))
            else:
                unit.rows[place] = self._row(unit.task.unit, picture, None)
                self.progress(unit.task.unit.id, 1, int(picture.code is not None))
            if picture.pixels is not None and source is not None:
                unit.copied[place] = source
            if len(unit.batch) == self.config.batch_size:
                batch, unit.batch = unit.batch, []
                yield batch
        if stretch.is_last and unit.batch:
            batch, unit.batch = unit.batch, []
            yield batch

    def _caption(
        self,
        unit: _Unfinished,
        batches: Iterable[list[tuple[int, Picture]]],
        fetch: Callable[[], object],
    ) -> None:
        """Caption batches; one is encoded before another is searched, so that a GPU has both."""
        encoded: tuple[list[tuple[int, Picture]], Any] | None = None
        for batch in batches:
            fetch()
            if unit.task.careful:
                self._announce(unit.task, batch)
            following = batch, self._encode([picture for _, picture in batch])
            if encoded is not None:
                self._finish(unit, *encoded)
            encoded = following
            if unit.task.careful:
                self._finish(unit, *encoded)
                encoded = None
        if encoded is not None:
            self._finish(unit, *encoded)

    def _announce(self, task: Task, batch: list[tuple[int, Picture]]) -> None:
        start = batch[0][0]
        if start in task.alone:
            for place, picture in batch:
                self.announce(Step("alone", place, picture.size, picture.sha256))
                self._search(self._encode([picture]))
        self.announce(Step("batch", start))

    def _finish(self, unit: _Unfinished, batch: list[tuple[int, Picture]], encoded: Any) -> None:
        captions = self._search(encoded)[: len(batch)]
        with self.stages.busy("rows"):
            for (place, picture), caption in zip(batch, captions, strict=True):
                unit.rows[place] = self._row(unit.task.unit, picture, caption)
            self.progress(unit.task.unit.id, len(batch), 0)

    def _encode(self, pictures: list[Picture]) -> Any:
        """What `_search` takes: what the model's encoder gives, or pixels where it has none."""
        import torch

        # Always a full batch, so that a picture's numbers do not depend on how many came along.
        with self.stages.busy("batch"):
            side = self.captioner.transform.size
            pixels = np.zeros((self.config.batch_size, 3, side, side), np.uint8)
            for slot, picture in enumerate(pictures):
                assert picture.pixels is not None
                pixels[slot] = picture.pixels
        encode = getattr(self.captioner, "encode", None)
        if encode is None:
            return torch.from_numpy(pixels)
        with self.stages.busy("encode"):
            return encode(torch.from_numpy(pixels))

    def _search(self, encoded: Any) -> Sequence[Described]:
        captioner: Any = self.captioner
        search = getattr(captioner, "caption_memory", captioner.caption_pixels)
        with self.stages.busy("search"):
            found: Sequence[Described] = search(
                encoded, beam=self.config.beam, candidates=self.config.candidates
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
