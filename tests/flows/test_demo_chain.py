"""The whole chain as a user runs it: one command, real processes, and nothing that frightens."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from pipeline import storage
from pipeline.records import ScoreCard

CAPTIONMILL = str(Path(sys.executable).with_name("captionmill"))
SMALL = [
    "demo.train_images=700",
    "demo.val_images=60",
    "demo.test_images=60",
    "demo.archive_images=20",
    "demo.image_size=64",
    "train.transform.size=48",
    "train.epochs=10",
    "device=cpu",
]
FRIGHTENING = re.compile(
    r"traceback|warning|deprecat|error:|exception|telemetry|analytics|futurewarning|http://",
    re.IGNORECASE,
)


def captionmill(*words: str, work: Path, small: bool = True) -> subprocess.CompletedProcess[str]:
    options = [part for setting in SMALL if small for part in ("--set", setting)]
    return subprocess.run(
        [CAPTIONMILL, *words, *options, "--work", str(work)],
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    work = tmp_path_factory.mktemp("demo")
    return work, captionmill("demo", work=work)


@pytest.mark.slow
def test_one_command_ends_with_a_summary_a_person_understands(demo):
    work, done = demo
    assert done.returncode == 0, done.stderr
    assert not FRIGHTENING.search(done.stdout + done.stderr), done.stdout + done.stderr
    for line in ("captioner/1", "BLEU-4", "CIDEr", "pictures in   28", "captions out  24"):
        assert line in done.stdout
    assert "1 not_an_image, 1 truncated, 1 zero_bytes" in done.stdout
    assert len(re.findall(r"^  \S+\.(?:jpg|png)  \w+", done.stdout, re.MULTILINE)) == 5
    [table] = (work / "captions").iterdir()
    assert str(table) in done.stdout
    rows = ds.dataset([str(p) for p in table.glob("*.parquet")]).to_table().to_pylist()
    assert len(rows) == 28
    assert {row["model_name"] for row in rows} == {"captioner"}
    query = next(line for line in done.stdout.splitlines() if "pyarrow.dataset" in line)
    asked = subprocess.run(shlex.split(query), capture_output=True, text=True, check=False)
    assert asked.returncode == 0 and "caption" in asked.stdout, asked.stderr


@pytest.mark.slow
def test_run_again_nothing_is_redone_also_without_prefects_database(demo):
    work, _ = demo
    shutil.rmtree(work / "prefect")
    before = {path: path.stat().st_mtime_ns for path in outputs(work)}
    done = captionmill("demo", work=work)
    assert done.returncode == 0, done.stderr
    for stage in ("demo", "shard", "train", "score", "promote", "caption"):
        assert re.search(rf"^{stage} +nothing new", done.stderr, re.MULTILINE), done.stderr
    assert {path: path.stat().st_mtime_ns for path in outputs(work)} == before
    assert "captioner/1" in done.stdout and "captioner/2" not in done.stdout


def outputs(work: Path) -> list[Path]:
    patterns = (
        "shard/**/*.tar",
        "train/*/model/*",
        "score/*/*",
        "captions/*/*.parquet",
        "demo/**/*.jpg",
    )
    return sorted(path for pattern in patterns for path in work.glob(pattern) if path.is_file())


@pytest.mark.slow
def test_it_looks_at_the_pictures(demo):
    """Scored against other pictures' references, the same captions are worth less than half."""
    work, _ = demo
    config = ["-c", str(Path(__file__).parents[2] / "configs" / "demo.yaml")]
    root = ["--set", f"data_root={work / 'demo'}"]
    shuffled = ["--set", "score.shuffle_images=true"]
    done = captionmill("score", *config, *root, *shuffled, work=work)
    assert done.returncode == 0, done.stderr
    cards = [ScoreCard.load(path) for path in work.glob("score/*/record.json")]
    control = [
        storage.read_json(Path(c.path) / "scores.json")["settings"]["score"]["shuffle_images"]
        for c in cards
    ]
    cider = {control[i]: card.metrics["cider"] for i, card in enumerate(cards)}
    assert cider[True] < cider[False] / 2, cider
    assert cider[False] > 30, cider


@pytest.mark.slow
def test_the_champion_captions_a_folder_and_the_table_is_verified(demo, tmp_path):
    work, _ = demo
    table = tmp_path / "table"
    done = captionmill("caption", str(work / "demo" / "val"), "--table", str(table), work=work)
    assert done.returncode == 0, done.stderr
    checked = subprocess.run(
        [CAPTIONMILL, "verify", str(table)], capture_output=True, text=True, check=False
    )
    assert checked.returncode == 0 and "every picture is accounted for" in checked.stdout
    for part in table.glob("*.parquet"):
        part.write_bytes(part.read_bytes()[:-9])
    broken = subprocess.run(
        [CAPTIONMILL, "verify", str(table)], capture_output=True, text=True, check=False
    )
    assert broken.returncode == 5 and broken.stderr.startswith("error: ")
