"""Commits are whole or absent, also when the process is killed; locks hold between processes."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys

import pytest

from pipeline import storage
from pipeline.errors import BusyError


def test_a_failed_commit_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.json"
    storage.commit_json(path, {"b": 1, "a": "é"})
    assert path.read_bytes() == '{\n "a": "é",\n "b": 1\n}\n'.encode()

    def fail(file):
        file.write(b"half")
        raise RuntimeError

    with pytest.raises(RuntimeError):
        storage.commit(path, fail)
    assert storage.read_json(path) == {"a": "é", "b": 1}
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_full_disk_is_named_by_the_file_that_did_not_fit(tmp_path):
    def full(_file):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match=r"No space left on device: '.*a\.bin'"):
        storage.commit(tmp_path / "a.bin", full)


def test_a_directory_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "d"
    for text in ("one", "two"):
        with storage.commit_directory(path) as directory:
            (directory / text).write_text(text)
    assert os.listdir(path) == ["two"]
    with pytest.raises(RuntimeError), storage.commit_directory(path) as directory:
        (directory / "three").write_text("")
        raise RuntimeError
    assert os.listdir(path) == ["two"] and os.listdir(tmp_path) == ["d"]


def test_a_killed_commit_is_never_seen(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from pipeline import storage\n"
        "def half(file):\n"
        "    file.write(b'x' * 100); file.flush(); os.kill(os.getpid(), signal.SIGKILL)\n"
        "storage.commit(Path(sys.argv[1]), half)\n"
    )
    path = tmp_path / "a.bin"
    done = subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert not path.exists()
    assert len(os.listdir(tmp_path)) == 1
    storage.remove_temporaries(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_lock_holds_against_another_process_and_dies_with_it(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipeline import storage\n"
        "with storage.lock(Path(sys.argv[1])):\n"
        "    print('held', flush=True); sys.stdin.read()\n"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(BusyError, match=str(holder.pid)), storage.lock(tmp_path):
        pass
    holder.kill()
    holder.communicate()
    with storage.lock(tmp_path):
        pass


def test_a_lock_can_be_waited_for(tmp_path):
    code = (
        "import sys; from pathlib import Path; from pipeline import storage\n"
        "say = lambda owner: print(owner, flush=True)\n"
        "with storage.lock(Path(sys.argv[1]), wait=say):\n"
        "    print('held', flush=True)\n"
    )
    with storage.lock(tmp_path):
        other = subprocess.Popen(
            [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert other.stdout.readline() == f"{os.getpid()}\n".encode()
        assert other.poll() is None
    assert other.communicate()[0] == b"held\n"
    assert other.returncode == 0


def test_fingerprints_do_not_depend_on_the_order_of_keys():
    assert storage.fingerprint({"a": 1, "b": [1.5]}) == storage.fingerprint({"b": [1.5], "a": 1})
    assert storage.fingerprint({"a": 1}) != storage.fingerprint({"a": 2})
