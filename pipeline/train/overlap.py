"""Photos that stand in both the training and the validation split, found by their bytes."""

from __future__ import annotations

from pipeline.config import Config
from pipeline.errors import DataError
from pipeline.shards import ShardReader

_NAMED = 5
"""Photos that the message lists."""


def require_separate_splits(config: Config, training: ShardReader, validation: ShardReader) -> None:
    """Raise DataError if a photo is in both splits, unless `train.allow_overlap` says so.

    Photos are told apart by SHA-256, which the shards' indexes hold: no picture is read. A photo
    that was scaled or encoded again is another one here.
    """
    if config.train.allow_overlap:
        return
    first: dict[str, int] = {}
    for position, digest in enumerate(training.digests()):
        first.setdefault(digest, position)
    both = [
        (first[digest], position)
        for position, digest in enumerate(validation.digests())
        if digest in first
    ]
    if not both:
        return
    pairs = []
    for there, here in both[:_NAMED]:
        one, other = (reader.info(n) for reader, n in ((validation, here), (training, there)))
        pairs.append(f"{other['source']}: {other['file_name']}")
        if (one["source"], one["file_name"]) != (other["source"], other["file_name"]):
            pairs[-1] += f" = {one['source']}: {one['file_name']}"
    more = ", ..." if len(both) > _NAMED else ""
    raise DataError(
        f"{len(both):,} of the {len(validation):,} photos of the split {validation.split!r} are also "
        f"in {training.split!r} ({', '.join(pairs)}{more}); scores on photos that were learned "
        "from say little. Leave them out of one of the splits (shard.sources), or set "
        "train.allow_overlap = true to train all the same"
    )
