"""Work directories that are read-only, full, on odd file systems, or that killed runs left things in."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import storage
from pipeline.doctor import Finding, Inputs, work


def found(directory: Path) -> dict[str, Finding]:
    return {each.subject: each for each in work.check(Inputs(work=str(directory)))}


def everything(directory: Path) -> set[str]:
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


def test_a_good_place_is_left_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    before = everything(tmp_path)
    findings = found(tmp_path)
    assert findings["work directory"].status == "ok"
    assert everything(tmp_path) == before


def test_a_directory_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    findings = found(tmp_path / "new" / "work")
    assert findings["work directory"].status == "ok"
    assert "made by the first run" in findings["work directory"].text
    assert everything(tmp_path) == set()


def test_a_file_in_its_place_is_wrong(tmp_path: Path) -> None:
    (tmp_path / "work").write_text("")
    assert found(tmp_path / "work")["work directory"].status == "wrong"


def test_a_place_that_cannot_be_written_is_wrong() -> None:
    finding = found(Path("/proc/sys"))["work directory"]  # read-only for root as well
    assert finding.status == "wrong"
    assert "cannot be written" in finding.text


def test_a_full_place_is_wrong(tmp_path: Path) -> None:
    program = (
        "import resource, sys; from pipeline.doctor import Inputs, work\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "for each in work.check(Inputs(work=sys.argv[1])): print(each.status, each.text)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert f"wrong {tmp_path} takes no files: File too large" in ended.stdout
    assert everything(tmp_path) == set()


def test_a_place_without_locks_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work.fcntl, "flock", lambda *_: None)  # as a mount with `nolock`
    finding = found(tmp_path)["work directory"]
    assert finding.status == "wrong"
    assert "two runs could write at once" in finding.text


@pytest.mark.parametrize(
    ("free", "status"), [(work.LEAST_ROOM - 1, "wrong"), (5 << 30, "warning"), (1 << 40, "ok")]
)
def test_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: int, status: str) -> None:
    real = os.statvfs(tmp_path)
    block = real.f_frsize
    facts = os.statvfs_result((block, block, 1 << 30, 0, free // block, 0, 0, 0, 0, 255))
    monkeypatch.setattr(work.os, "statvfs", lambda _path: facts)
    assert found(tmp_path)["disk"].status == status


MOUNTS = """\
21 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 21 0:30 / /mnt/a\\040share rw shared:7 - nfs4 server:/x rw
41 21 0:31 / /data rw - fuse.s3fs s3fs rw
42 41 0:32 / /data/quick rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        ("/home/x", "ext4"),
        ("/mnt/a share/work", "nfs4"),
        ("/data/x", "fuse.s3fs"),
        ("/data/quick", "tmpfs"),
        ("/datax", "ext4"),
    ],
)
def test_the_file_system_is_that_of_the_nearest_mount(
    tmp_path: Path, place: str, kind: str
) -> None:
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    assert work.file_system(Path(place), mounts) == kind


def test_network_and_fleeting_file_systems_are_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for kind, words in (("nfs4", "from other machines"), ("overlay", "container's next start")):
        monkeypatch.setattr(work, "file_system", lambda _place, kind=kind: kind)
        finding = found(tmp_path)["file system"]
        assert finding.status == "warning"
        assert words in finding.text


def test_what_killed_runs_left_is_told_and_who_is_at_work(tmp_path: Path) -> None:
    old = tmp_path / "train" / f"{storage.TEMPORARY}abc"
    old.mkdir(parents=True)
    (tmp_path / f"{storage.TEMPORARY}new").mkdir()
    os.utime(old, (time.time() - 2 * 86400,) * 2)
    (tmp_path / "promote").mkdir()
    (tmp_path / "promote" / "pending-captioner.json").write_text("{}")
    with storage.lock(tmp_path / "shard"):
        findings = found(tmp_path)
    assert findings["left behind"].text.startswith("1 temporary")
    assert "pending-captioner.json" in findings["promotion"].text
    assert findings["in use"].text == f"{tmp_path / 'shard'} by process {os.getpid()}"
    after = found(tmp_path)
    assert "in use" not in after, "the kernel freed it"
