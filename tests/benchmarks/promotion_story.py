"""A promotion's story on real photos: better, a copy, shuffled captions, a rollback; transcript out.

    python tests/benchmarks/promotion_story.py -c configs/flickr8k_gpt.yaml --work WORK \
        [--set a.b=value ...] [--first-epochs 1]

1. a first champion, trained for few epochs; 2. a candidate trained for all of them, which is to be
promoted; 3. a copy of that champion under another name, to be refused for lack of gain; 4. a candidate
trained on the captions of other photos, to be refused by guards; 5. a rollback. Every command is
printed before what it said. The shuffled captions are written below WORK.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from pipeline import storage
from pipeline.config import Config, load_config
from pipeline.models.saved import SavedCaptioner
from pipeline.promote import promote
from pipeline.score import as_checkpoint, score
from pipeline.shard import find_shard_set
from pipeline.tracking import Tracker

CAPTIONMILL = str(Path(sys.executable).with_name("captionmill"))


def command(*words: str) -> None:
    """Run it as a user would, and print both."""
    print(f"\n$ captionmill {' '.join(words)}", flush=True)
    began = time.monotonic()
    done = subprocess.run([CAPTIONMILL, *words], capture_output=True, text=True, check=False)
    print(done.stdout.rstrip() or done.stderr.rstrip())
    print(f"[exit code {done.returncode}, {time.monotonic() - began:.1f} s]", flush=True)


def shuffled_sources(config: Config, place: Path) -> list[dict[str, Any]]:
    """The settings' COCO-style sources, the training captions at other training photos."""
    sources = [source.model_dump(mode="json") for source in config.shard.sources]
    for source in sources:
        path = config.input_path(source["annotations"]).absolute()
        source["annotations"] = str(path)
        source["images"] = str(config.input_path(source["images"]).absolute())
        if source["split"] != "train":
            continue
        value = storage.read_json(path)
        owners = sorted({row["image_id"] for row in value["annotations"]})
        moved = owners[:]
        random.Random(0).shuffle(moved)
        other = dict(zip(owners, moved, strict=True))
        for row in value["annotations"]:
            row["image_id"] = other[row["image_id"]]
        target = place / f"shuffled-{path.name}"
        storage.commit_json(target, value)
        source["annotations"] = str(target.absolute())
    return sources


def promote_a_copy(config: Config, work: Path) -> None:
    """The champion saved again, with another provenance: the same captions, another version."""
    champion = Tracker(work).resolve(config.promote.name, alias="champion")
    saved = SavedCaptioner.load(champion.directory)
    copy = work / "a copy of the champion"
    saved.provenance["training_fingerprint"] = storage.fingerprint("a copy")
    saved.save(copy)
    shard_set, checkpoint = find_shard_set(config, work), as_checkpoint(copy)
    card = score(config, work, shard_set, checkpoint)
    print("\n# a copy of the champion, registered as a version of its own")
    print(promote(config, work, shard_set, checkpoint, card, cause="a copy").reason, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--first-epochs", type=int, default=1)
    given = parser.parse_args()
    config, work = load_config(given.config, given.overrides), given.work
    options = [word for one in given.overrides for word in ("--set", one)]
    common = ["-c", given.config, *options, "--work", str(work)]
    command("retrain", *common, "--set", f"train.epochs={given.first_epochs}")
    command("retrain", *common, "--cause", "more-epochs")
    command("retrain", *common)
    promote_a_copy(config, work)
    sources = json.dumps(shuffled_sources(config, work))
    command("retrain", *common, "--set", f"shard.sources={sources}", "--cause", "shuffled")
    command("models", "--work", str(work))
    command("models", "show", f"{config.promote.name}@champion", "--work", str(work))
    command("rollback", "--reason", "to-show-that-it-works", "--work", str(work))
    command("models", "--work", str(work))


if __name__ == "__main__":
    main()
