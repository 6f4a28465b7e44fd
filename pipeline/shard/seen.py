"""What earlier runs learnt of every file, so that an unchanged one is not read again.

A cache: without it the pictures are hashed again and the result is the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.errors import ImageError
from pipeline.shard.bad import Bad
from pipeline.shard.embedded import by_file, read_embedded
from pipeline.shard.locate import Located
from pipeline.shard.read import read_ahead
from pipeline.shard.row import Stat


@dataclass
class Seen:
    """Files as they were when they were read, by sample key."""

    stats: dict[str, Stat] = field(default_factory=dict)
    bad: dict[str, Bad] = field(default_factory=dict)
    """Those that were unusable."""

    @classmethod
    def load(cls, path: Path) -> Seen:
        """From a file; empty if there is none or it cannot be read."""
        try:
            return cls.of(storage.read_json(path))
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()

    @classmethod
    def of(cls, value: Any) -> Seen:
        """From what `value` returned; KeyError, TypeError or the like if it is not that."""
        return cls(
            {key: Stat(*stat) for key, stat in value["stats"].items()},
            {row["key"]: Bad(**row) for row in value["bad"]},
        )

    def value(self) -> dict[str, Any]:
        """As JSON."""
        return {"stats": self.stats, "bad": [asdict(bad) for bad in self.bad.values()]}

    def save(self, path: Path) -> None:
        """Commit to `path`."""
        storage.commit(path, json.dumps(self.value()))

    def update(self, other: Seen) -> None:
        """Take over what `other` knows of its pictures."""
        for key in other.stats:
            self.bad.pop(key, None)
        self.stats |= other.stats
        self.bad |= other.bad

    def forget_all_but(self, keys: set[str]) -> None:
        """Drop the pictures that no source names any more."""
        for key in self.stats.keys() - keys:
            del self.stats[key]
            self.bad.pop(key, None)

    def unchanged(self, located: Located) -> bool:
        """Whether the file is the one that was read, by size and modification time."""
        return self.stats.get(located.picture.key) == located.stat

    def known_bad(self, located: Located) -> Bad | None:
        """What was wrong with the file, if it has not changed since."""
        return self.bad.get(located.picture.key) if self.unchanged(located) else None


def hash_files(files: Iterable[Located], workers: int) -> dict[str, tuple[str | None, Stat]]:
    """SHA-256 (none if unreadable) and stat of each picture's file, by sample key."""

    def digest(data: bytes | None) -> str | None:
        return None if data is None else hashlib.sha256(data).hexdigest()

    def one(located: Located) -> tuple[str, tuple[str | None, Stat]]:
        ((_, data, stat),) = read_ahead([located])
        return located.picture.key, (digest(None if isinstance(data, ImageError) else data), stat)

    def table(pictures: list[Located]) -> list[tuple[str, tuple[str | None, Stat]]]:
        return [
            (located.picture.key, (digest(data), located.stat))
            for located, data in read_embedded(pictures)
        ]

    files = list(files)
    alone = [located for located in files if located.picture.embedded is None]
    with ThreadPoolExecutor(workers) as pool:
        hashes = dict(pool.map(one, alone))
        for found in pool.map(table, by_file(files)):
            hashes |= found
    return hashes
