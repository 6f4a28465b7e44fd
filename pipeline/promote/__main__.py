"""The process that measures one captioner: `python -m pipeline.promote DIRECTORY`."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path

from pipeline import storage
from pipeline.errors import CaptionmillError
from pipeline.memory import keep_freed_memory
from pipeline.promote.measure import ERROR, FOUND, Job, Measured


def main(directory: Path) -> None:
    """Do the job in `directory`; an error that a user can mend is left there for the promotion."""
    threading.Thread(target=_heed_the_promotion, daemon=True).start()
    try:
        work(Job.load(directory / "job.json")).save(directory / FOUND)
    except CaptionmillError as error:
        facts = {"kind": type(error).__name__, "message": str(error)}
        storage.commit_json(directory / ERROR, facts)
        sys.exit(error.exit_code)


def work(job: Job) -> Measured:
    """Caption the evaluation set."""
    import torch

    from pipeline.evaluate import caption_split
    from pipeline.predict import load_directory
    from pipeline.shards import ShardReader

    keep_freed_memory()
    if job.threads is not None:
        torch.set_num_threads(job.threads)
    reader = ShardReader(job.evaluation_set.shard_set, job.evaluation_set.split)
    predictor = load_directory(
        Path(job.model), device=job.device, dtype=job.dtype, ref=job.name, name=job.name
    )
    # What is built at a first use belongs to no picture.
    caption_split(predictor, reader, 1, job.beam, job.batch_size, progress=False)
    began = time.monotonic()
    captions = caption_split(predictor, reader, len(reader), job.beam, job.batch_size)
    return Measured(
        images=tuple(str(info["id"]) for info in reader.infos()),
        captions=tuple(caption.text for caption in captions),
        scores=tuple(caption.score for caption in captions),
        unfinished=sum(not caption.ended for caption in captions),
        seconds=time.monotonic() - began,
    )


def _heed_the_promotion() -> None:
    """Standard input is a pipe from the promotion: its end means that it is gone."""
    while os.read(0, 1):
        pass
    os._exit(1)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
