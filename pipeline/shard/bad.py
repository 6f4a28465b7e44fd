"""Unusable pictures: what is recorded of each, the report, and how many are too many."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import BadImagesError
from pipeline.shard.sources import Picture, image_folders


@dataclass(frozen=True, slots=True)
class Bad:
    """One picture that cannot be a sample."""

    key: str
    source: str
    file_name: str
    id: int | str
    kind: str
    """missing, unreadable_file, no_captions, or a code of `ImageError`."""
    detail: str

    @classmethod
    def of(cls, picture: Picture, kind: str, detail: str) -> Bad:
        """`picture`, unusable because of `kind`."""
        return cls(picture.key, picture.source, picture.file_name, picture.id, kind, detail)


class Tally:
    """Bad pictures of one run, counted by any thread; knows when they are too many."""

    def __init__(self, discovered: int, max_fraction: float, bad: Iterable[Bad] = ()) -> None:
        self.discovered = discovered
        self.allowed = int(max_fraction * discovered + 1e-9)
        self.bad = list(bad)
        self._lock = threading.Lock()

    def add(self, bad: Bad) -> None:
        """Count one more."""
        with self._lock:
            self.bad.append(bad)

    def too_many(self) -> bool:
        """Whether there are more than are allowed."""
        return len(self.bad) > self.allowed

    def kinds(self) -> dict[str, int]:
        """How many of each kind."""
        return dict(sorted(Counter(bad.kind for bad in self.bad).items()))

    def write(self, report: Path, pictures: Iterable[Picture]) -> None:
        """Commit the report: a JSON object a line for every bad picture and empty caption."""
        ordered = sorted(self.bad, key=lambda bad: (bad.source, bad.file_name))
        lines = [json.dumps(asdict(bad)) for bad in ordered]
        for picture in pictures:
            if picture.captions and picture.empty_captions:
                detail = f"{picture.empty_captions} left out, {len(picture.captions)} kept"
                lines.append(json.dumps(asdict(Bad.of(picture, "empty_caption", detail))))
        content = "".join(f"{line}\n" for line in lines)
        if not report.exists() or report.read_text() != content:
            storage.commit(report, content)

    def error(self, config: Config, report: Path) -> BadImagesError:
        """What to say when there are too many."""
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in self.kinds().items())
        folders = dict.fromkeys(
            Path(folder)
            for source in config.shard.sources
            for folder in image_folders(config, source)
        )
        searched = ", ".join(
            f"{folder}" + ("" if folder.is_dir() else " (no such folder)") for folder in folders
        )
        return BadImagesError(
            f"{len(self.bad):,} of {self.discovered:,} pictures cannot be used ({kinds}); "
            f"shard.max_bad_fraction = {config.shard.max_bad_fraction:g} allows {self.allowed:,}. "
            f"They are listed in {report}. Searched: {searched}. "
            "Correct shard.sources, mend the files, or raise shard.max_bad_fraction"
        )
