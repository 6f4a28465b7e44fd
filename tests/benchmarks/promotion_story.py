"""A promotion's story on real photos, as Markdown: better, a copy, shuffled captions, a rollback.

    python tests/benchmarks/promotion_story.py -c configs/flickr8k_gpt.yaml --work WORK \
        [--set a.b=value ...] [--first-epochs 2] [--shuffled-epochs 3] > story.md

1. a first champion, trained for few epochs; 2. a candidate trained for all of them, to be promoted; 3. the
same again, where nothing is new; 4. a copy of that champion under another provenance, to be refused for lack
of gain; 5. a candidate trained on the captions of other photos, to be refused by guards; 6. a rollback.

The registered model is called `story` (`story-2` where that exists), so a work directory that holds the shards,
features and training of `captionmill retrain -c FILE` is used as it is, its own champion stays, and step 2
trains nothing. Progress goes to standard error. Exit code 1 where the story went otherwise.
"""

from __future__ import annotations

import argparse
import itertools
import os
import random
import shlex
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import yaml

from flows import report
from pipeline import storage
from pipeline.config import Config, load_config
from pipeline.models.saved import SavedCaptioner
from pipeline.promote import promote
from pipeline.promote.listing import VersionRow, list_models, list_versions
from pipeline.records import Decision
from pipeline.score import as_checkpoint, score
from pipeline.shard import find_shard_set
from pipeline.tracking import Tracker

CAPTIONMILL = str(Path(sys.executable).with_name("captionmill"))


class Story:
    """The steps; prints each command before what it said."""

    def __init__(self, config: str, overrides: list[str], work: Path) -> None:
        self.file, self.work = config, work
        self.name = _free_name(work)
        self.overrides = [*overrides, f"promote.name={self.name}"]
        self.settings = load_config(config, self.overrides)

    def retrain(self, file: str, cause: str, *overrides: str) -> None:
        """Run the flow with the settings, and these."""
        changed = [word for one in (*self.overrides, *overrides) for word in ("--set", one)]
        asked = ["--cause", cause] if cause else []
        self.command("retrain", "-c", file, *changed, *asked)

    def command(self, *words: str) -> None:
        """Run it as a user would, and print both.

        Raises:
            SystemExit: it failed.
        """
        told = shlex.join(["captionmill", *words]).replace(str(self.work), "WORK")
        print(f"```\n$ {told}", flush=True)
        began = time.monotonic()
        done = subprocess.run(
            [CAPTIONMILL, *words, "--work", str(self.work)],
            env=_environment(),
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        self._answer(done.stdout, began)
        if done.returncode:
            sys.exit(f"captionmill {words[0]} ended with {done.returncode}")

    def promote_a_copy(self) -> None:
        """The champion saved again with another provenance: the same captions, another version."""
        print("The champion, saved again and promoted as another version:\n\n```")
        began = time.monotonic()
        champion = Tracker(self.work).resolve(self.name, alias="champion")
        saved = SavedCaptioner.load(champion.directory)
        copy = self.work / "promotion-story" / "copy"
        saved.provenance["training_fingerprint"] = storage.fingerprint("a copy")
        saved.save(copy)
        shard_set, checkpoint = find_shard_set(self.settings, self.work), as_checkpoint(copy)
        card = score(self.settings, self.work, shard_set, checkpoint)
        decision = promote(
            self.settings, self.work, shard_set, checkpoint, card, cause="a copy of the champion"
        )
        self._answer(report.about_decision(decision), began)

    def shuffled(self) -> str:
        """A settings file of the same photos with the training captions at other ones."""
        place = self.work / "promotion-story"
        changed = self.settings.model_dump(mode="json")
        changed["data_root"] = str(Path(self.settings.data_root).absolute())
        changed["shard"]["sources"] = shuffled_sources(self.settings, place)
        path = place / "shuffled.yaml"
        storage.commit(path, yaml.safe_dump(changed, sort_keys=False))
        return str(path)

    def versions(self) -> list[VersionRow]:
        """What is registered, oldest first."""
        return list_versions(self.work, self.name)[::-1]

    def _answer(self, text: str, began: float) -> None:
        answer = text.rstrip().replace(str(self.work), "WORK")
        print(f"{answer}\n({time.monotonic() - began:.0f} s)\n```\n", flush=True)


def shuffled_sources(config: Config, place: Path) -> list[dict[str, Any]]:
    """The settings' COCO-style sources, the training captions at other training photos."""
    sources = [source.model_dump(mode="json") for source in config.shard.sources]
    for source in sources:
        path = config.input_path(source["annotations"]).absolute()
        source["annotations"] = str(path)
        source["images"] = [str(config.input_path(one).absolute()) for one in source["images"]]
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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    parser.add_argument("--first-epochs", type=int, default=2)
    parser.add_argument("--shuffled-epochs", type=int, default=3)
    given = parser.parse_args()
    began = time.monotonic()
    story = Story(given.config, given.overrides, given.work.absolute())
    print("**A first champion, trained for too short a time.**\n")
    story.retrain(given.config, "the-first", f"train.epochs={given.first_epochs}")
    print("**A better candidate: the whole training.**\n")
    story.retrain(given.config, "more-epochs")
    if story.versions()[-1].aliases != ["champion"]:
        sys.exit(f"not promoted, as it should be: {story.versions()[-1].reason}")
    print("**The same again: nothing is new.**\n")
    story.retrain(given.config, "schedule")
    print("**A copy of the champion.**\n")
    story.promote_a_copy()
    print("**A candidate that learned the captions of other photos.**\n")
    story.retrain(story.shuffled(), "shuffled", f"train.epochs={given.shuffled_epochs}")
    story.command("models", "--name", story.name)
    print("**Back to the champion of before.**\n")
    story.command("rollback", "--name", story.name, "--reason", "to show that it works")
    story.command("models", "--name", story.name)
    print(summary(story, time.monotonic() - began))


def summary(story: Story, seconds: float) -> str:
    """The decisions in a table.

    Raises:
        SystemExit: they are not those that the story tells of.
    """
    rows = story.versions()
    if [row.aliases for row in rows] != [["champion"], [], [], ["challenger"]]:
        sys.exit(f"the aliases stand otherwise: {[(row.version, row.aliases) for row in rows]}")
    decisions = [_decision(story, row) for row in rows]
    first, better, copy, shuffled = decisions
    failed = [guard.name for guard in shuffled.failed()]
    as_told = first.promoted and better.promoted and not copy.promoted and not shuffled.promoted
    if not (as_told and "for lack of gain:" in copy.reason and failed):
        sys.exit("the story went otherwise: " + "; ".join(one.reason for one in decisions))
    titles = ("first champion", "better", "copy of the champion", "shuffled captions")
    lines = [
        "| candidate | CIDEr | gain over the champion | 95 % | p | decision | guards that failed |",
        "|---|---:|---:|---|---:|---|---|",
    ]
    for title, one in zip(titles, decisions, strict=True):
        gain = one.gains.get("cider")
        cells = ["", "", ""]
        if gain is not None:
            interval = f"{gain.low:+.2f} .. {gain.high:+.2f}"
            cells = [f"{gain.difference:+.2f}", interval, f"{gain.p_value:.4f}"]
        verdict = "promoted" if one.promoted else "refused"
        names = ", ".join(guard.name for guard in one.failed()) or "none"
        cider = f"{one.candidate['cider']:.1f}"
        lines.append(f"| {' | '.join([title, cider, *cells, verdict, names])} |")
    lines.append(f"\nAll of it took {seconds / 60:.0f} minutes on {os.cpu_count()} CPU cores.")
    return "\n".join(lines)


def _decision(story: Story, row: VersionRow) -> Decision:
    from pipeline.promote.keep import read_decision

    found = Tracker(story.work).find(story.name, row.version)
    decision = None if found is None else read_decision(found)
    assert decision is not None, "every step decides"
    return decision


def _free_name(work: Path) -> str:
    taken = set(list_models(work))
    names = itertools.chain(["story"], (f"story-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)


def _environment() -> dict[str, str]:
    """This checkout for the commands too, wherever they are run."""
    root = str(Path(__file__).parents[2])
    return {**os.environ, "PYTHONPATH": root}


if __name__ == "__main__":
    main()
