"""A stack's story on real photos, as Markdown: retrained, again, with more photos, a refresh, a rollback.

    PYTHONPATH=tests/stack python tests/benchmarks/stack_story.py -c configs/flickr8k_gpt.yaml \
        --data DATA --archive FOLDER [--held-back 500] [--set a.b=value ...] > story.md

Starts the services of docker/compose.yaml as processes (as `make test-stack` does), registers the
deployments with `captionmill deploy`, and triggers them through Prefect's API:

1. `retrain` on the training photos but for those held back; the promotion has `caption` caption FOLDER;
2. `retrain` again, where nothing is new; 3. `retrain` with the photos that were held back, from the
champion's weights; a new champion has `caption` refresh the table; 4. `captionmill rollback`.

Everything is removed at the end. Progress goes to standard error. Exit code 1 where a run failed, where
the second did work, or where the table does not verify.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections import Counter
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import yaml
from prefect_api import PrefectApi
from running_stack import BIN, Stack

from pipeline import storage
from pipeline.caption.verify import verify
from pipeline.config import load_config

GPU_WORKER = "worker-gpu-runs-on-cpu"
HOURS = 3 * 3600.0


class Story:
    """The steps; each prints what was asked and what came of it."""

    def __init__(self, stack: Stack, given: argparse.Namespace) -> None:
        self.stack = stack
        self.work = stack.work / "captionmill-work"
        self.table = stack.work / "captions"
        self.api = PrefectApi(stack.prefect_url, stack.secrets["prefect_auth"])
        self.archive = given.archive.absolute()
        self.captions = stack.work / "captions_train.json"
        self.all_captions = self._write_settings(given)

    def _write_settings(self, given: argparse.Namespace) -> dict[str, Any]:
        """The settings with training captions of our own, which can grow."""
        settings = load_config(given.config, [f"data_root={given.data.absolute()}"])
        value = settings.model_dump(mode="json", exclude_unset=True)
        (source,) = (each for each in value["shard"]["sources"] if each["split"] == "train")
        captions: dict[str, Any] = storage.read_json(settings.input_path(source["annotations"]))
        source["annotations"] = str(self.captions)
        storage.commit(self.stack.work / "story.yaml", yaml.safe_dump(value, sort_keys=False))
        return captions

    # ---- what is asked

    def photos(self, count: int) -> None:
        """Let the captions file hold the first `count` photos."""
        images = self.all_captions["images"][:count]
        kept = {image["id"] for image in images}
        rows = [row for row in self.all_captions["annotations"] if row["image_id"] in kept]
        storage.commit_json(
            self.captions, {**self.all_captions, "images": images, "annotations": rows}
        )

    def command(self, *words: str) -> None:
        """Run it as a person beside the servers would, and print both."""
        began = time.monotonic()
        done = subprocess.run(
            [str(BIN / "captionmill"), *words],
            env=self.stack.client(),
            cwd=self.stack.work,
            stdout=subprocess.PIPE,
            text=True,
            check=False,
        )
        told = self._without_paths(shlex.join(["captionmill", *words]))
        seconds = time.monotonic() - began
        answer = self._without_paths(done.stdout.rstrip())
        print(f"```\n$ {told}\n{answer}\n({seconds:.0f} s)\n```\n", flush=True)
        if done.returncode:
            sys.exit(f"captionmill {words[0]} ended with {done.returncode}")

    def retrain(self, cause: str) -> dict[str, Any]:
        """Trigger the deployment and wait for it; prints its stages and the decision."""
        before = len(self.audit())
        identity = self.api.trigger("retrain/retrain", cause=cause)
        run = self._ended(identity)
        tasks = self.api.tasks(identity)
        print(
            f"Flow run `{run['name']}`: {run['state_name']} in {seconds_of(run):.0f} s, of them\n"
        )
        rows = sorted((row for found in tasks.values() for row in found), key=start_time)
        print("| task | state | seconds |\n|---|---|---:|")
        for row in rows:
            print(
                f"| {row['name'].rpartition('-')[0]} | {row['state_name']} | {seconds_of(row):.1f} |"
            )
        print()
        for line in self.audit()[before:]:
            print(
                f"> {line['event']}, version {line['version']}: {line['reason']} ({line['why']})\n"
            )
        sys.stdout.flush()
        return run

    def captioned(self, runs: int) -> None:
        """Wait for the caption run that a promotion asked for, and say what the table holds."""
        give_up = time.monotonic() + 300
        while len(found := self.api.runs("caption")) < runs:
            if time.monotonic() > give_up:
                sys.exit("the promotion has asked for no caption run")
            time.sleep(1)
        run = self._ended(found[-1]["id"])
        report = verify(self.table)
        rows = ds.dataset(self.table, exclude_invalid_files=True).to_table(["model_version"])
        versions = Counter(rows.column("model_version").to_pylist())
        made = ", ".join(
            f"{count} rows of version {version}" for version, count in versions.items()
        )
        print(
            f"Flow run `{run['name']}`, asked for by the promotion: {run['state_name']} in "
            f"{seconds_of(run):.0f} s. {report.discovered} pictures, {report.captioned} captioned, "
            f"{sum(report.failed.values())} failed, {sum(report.skipped.values())} skipped; verified; {made}.\n",
            flush=True,
        )

    # ---- what came of it

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        log = self.work / "promote" / "audit.jsonl"
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def trained(self) -> set[str]:
        """The trainings that were done."""
        return {path.name for path in (self.work / "train").glob("*")}

    def _ended(self, identity: str) -> dict[str, Any]:
        run = self.api.ended(identity, HOURS)
        if run["state_type"] != "COMPLETED":
            sys.exit(f"{run['name']}: {run['state']}\n{self.stack.tail(GPU_WORKER)}")
        return run

    def _without_paths(self, text: str) -> str:
        text = text.replace(str(self.archive), "FOLDER").replace(self.stack.mlflow_url, "MLFLOW")
        return text.replace(self.stack.prefect_url, "PREFECT").replace(f"{self.stack.work}/", "")


def start_time(row: dict[str, Any]) -> str:
    """When a run began; those that never did come last."""
    return row["start_time"] or "9"


def seconds_of(row: dict[str, Any]) -> float:
    """How long a run took."""
    if not row["start_time"]:
        return 0.0
    first, last = (datetime.fromisoformat(row[key]) for key in ("start_time", "end_time"))
    return (last - first).total_seconds()


def tell(story: Story, given: argparse.Namespace) -> None:
    """All of it."""
    photos = len(story.all_captions["images"])
    print(f"**The deployments, for {photos - given.held_back:,} of {photos:,} training photos.**\n")
    story.photos(photos - given.held_back)
    settings = [word for one in given.overrides for word in ("--set", one)]
    archive = ("--archive", str(story.archive), "--table", "captions")
    story.command("deploy", "-c", "story.yaml", *settings, *archive)
    print("**The first champion.**\n")
    story.retrain("the-first")
    story.captioned(1)
    print("**The same again: nothing is new.**\n")
    trained, decided = story.trained(), len(story.audit())
    story.retrain("schedule")
    if story.trained() != trained or len(story.audit()) != decided:
        sys.exit("the second run did work")
    print(f"**With the {given.held_back} photos that were held back.**\n")
    story.photos(photos)
    story.retrain("more-photos")
    if story.audit()[-1]["event"] == "promoted":
        story.captioned(2)
    story.command("models")
    print("**Back to the champion of before.**\n")
    story.command(
        "rollback", "--reason", "to show that it works", "--by", "a person", "--table", "captions"
    )
    story.command("models")


def main() -> None:
    """Bring the stack up, tell the story, take it down."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--archive", type=Path, required=True)
    parser.add_argument("--held-back", type=int, default=500)
    parser.add_argument("--set", dest="overrides", action="append", default=[])
    given = parser.parse_args()
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "ERROR")
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="captionmill-story-") as place:
        stack = Stack(Path(place) / "stack")
        try:
            stack.up("worker-cpu", GPU_WORKER, "watch")
            tell(Story(stack, given), given)
        finally:
            stack.down()
    minutes = (time.monotonic() - began) / 60
    print(f"All of it took {minutes:.0f} minutes on {os.cpu_count()} CPU cores.")


if __name__ == "__main__":
    main()
