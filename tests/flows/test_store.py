"""The commands with object storage: URLs where paths stand, one line for what goes wrong."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from pipeline.remote import s3


def run(*arguments: object, **environment: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, as a user starts it."""
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def photos(bucket):
    for number in range(3):
        (bucket / f"photos/{number}.jpg").write_bytes(jpeg(number))
    (bucket / "photos/broken.jpg").write_bytes(b"")
    return bucket / "photos"


def jpeg(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (40, 30), (80 * number, 10, 10)).save(file, "JPEG")
    return file.getvalue()


def test_caption_verify_export_and_break_lock(photos, bucket, save_captioner, tmp_path):
    model = save_captioner(tmp_path / "model", ["a red circle above a blue square"])
    table = bucket / "captions"
    common = ["--table", table, "--model", model, "--work", tmp_path / "work"]
    first = run("caption", photos, *common, "--set", "device=cpu")
    assert first.returncode == 0, first.stderr
    assert "captions out  3\n" in first.stdout
    assert "failed        1 zero_bytes\n" in first.stdout
    assert f"table         {table}" in first.stdout
    assert "Traceback" not in first.stderr and "Warning" not in first.stderr

    theirs = {"owner": "x", "host": "elsewhere", "pid": 7, "started": "long ago"}
    s3.put(bucket.bucket, "captions/.lock", json.dumps(theirs).encode())
    busy = run("caption", photos, *common, "--set", "device=cpu")
    assert busy.returncode == 6
    assert "process 7 on elsewhere" in busy.stderr and "--break-lock" in busy.stderr
    again = run("caption", photos, *common, "--set", "device=cpu", "--break-lock")
    assert again.returncode == 0, again.stderr
    assert "nothing new: 4 members" in again.stderr

    verified = run("verify", table)
    assert (verified.returncode, verified.stderr) == (0, "")
    exported = run("export", table, "--to", "jsonl", "--columns", "member,status")
    rows = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [row["member"] for row in rows] == ["0.jpg", "1.jpg", "2.jpg", "broken.jpg"]


@pytest.mark.parametrize(
    ("arguments", "environment", "code", "words"),
    [
        (["s3://no-such-bucket/t"], {}, 7, "there is no bucket s3://no-such-bucket"),
        (["gs://bucket/t"], {}, 2, "gs://bucket/t: URLs of this kind are not read"),
        (["s3://"], {}, 2, "write s3://bucket/prefix"),
        (
            ["s3://bucket/t"],
            {"AWS_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "2"},
            7,
            "the store cannot be reached or breaks off",
        ),
        (
            ["s3://bucket/t"],
            {"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": ""},
            7,
            "there are no credentials",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(s3_server, arguments, environment, code, words):
    done = run("verify", *arguments, **environment)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert words in done.stderr
    assert "test-secret" not in done.stderr


def test_shards_are_published_and_trained_from_elsewhere(bucket, tmp_path):
    rows = []
    for number in range(8):
        (tmp_path / f"{number}.jpg").write_bytes(jpeg(number % 4))
        split = "train" if number < 6 else "val"
        rows.append({"image": f"{number}.jpg", "caption": "a plain picture", "split": split})
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = {"kind": "jsonl", "annotations": "rows.jsonl"}
    common = [
        *("--set", f"shard.sources={json.dumps([source])}"),
        *("--set", f"shard.store={bucket / 'sets'}"),
    ]
    here = ["--set", f"data_root={tmp_path}", "--work", tmp_path / "work"]
    made = run("shard", *common, *here)
    assert made.returncode == 0, made.stderr
    assert f"{bucket}/sets/" in made.stdout
    small = "train.encoder={name: vit, train: none, patch: 16, depth: 1, width: 16, heads: 2}"
    options = ["train.epochs=1", "device=cpu", "train.tokenizer.min_count=1", small]
    options += ["train.transform.size=32", "train.allow_overlap=true"]
    chosen = [word for option in options for word in ("--set", option)]
    elsewhere = ["--work", tmp_path / "other work"]
    trained = run("train", *common, *chosen, *elsewhere)
    assert trained.returncode == 0, trained.stderr
    assert not list(Path(tmp_path / "other work").rglob("*.tar"))
