import os
import tarfile
from pathlib import Path
from typing import Any

import pytest
from webdataset import TarWriter

from pipeline.shard.sample_tar import SampleTar

# Sizes on both sides of tar's blocks and records, and more than what is written back at once.
SIZES = [0, 1, 511, 512, 513, 10_239, 10_240, 70_001, 3_000_000, 3_000_000, 5]
SAMPLES = [
    (f"{n:020x}", {extension: bytes([n + 1]) * size, "json": b"{}" + b" " * n})
    for n, (size, extension) in enumerate(zip(SIZES, ["jpg", "webp", "png"] * 4, strict=False))
]


def write(path: Path) -> list[dict[str, int]]:
    with open(path, "wb") as file:
        tar = SampleTar(file.fileno())
        offsets = [tar.add(key, members) for key, members in SAMPLES]
        tar.close()
    return offsets


def peer(path: Path) -> bytes:
    """What webdataset's own writer makes of the samples."""
    writer = TarWriter(str(path), encoder=False, mtime=0, user="captionmill", group="captionmill")
    for key, members in SAMPLES:
        writer.write({"__key__": key, **members})
    writer.close()
    return path.read_bytes()


def test_the_bytes_are_those_of_webdataset(tmp_path: Path) -> None:
    offsets = write(tmp_path / "ours.tar")
    data = (tmp_path / "ours.tar").read_bytes()
    assert data == peer(tmp_path / "theirs.tar")
    with tarfile.open(tmp_path / "ours.tar") as tar:
        at = {member.name: member.offset_data for member in tar}
    for (key, members), found in zip(SAMPLES, offsets, strict=True):
        assert found == {name: at[f"{key}.{name}"] for name in members}
        for name, content in members.items():
            assert data[found[name] : found[name] + len(content)] == content


def test_writes_that_stop_in_between_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "whole.tar")
    whole, rest = os.write, []

    def writev(descriptor: int, pieces: list[Any]) -> int:
        joined = b"".join(pieces)
        return whole(descriptor, joined[: len(joined) // 3])

    def some(descriptor: int, data: Any) -> int:
        rest.append(len(data))
        return whole(descriptor, data[: max(1, len(data) // 2)])

    monkeypatch.setattr(os, "writev", writev)
    monkeypatch.setattr(os, "write", some)
    write(tmp_path / "pieces.tar")
    assert rest
    assert (tmp_path / "pieces.tar").read_bytes() == (tmp_path / "whole.tar").read_bytes()


def test_systems_that_cannot_be_asked_to_write_early(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "one.tar")
    monkeypatch.delattr(os, "posix_fadvise", raising=False)
    write(tmp_path / "two.tar")
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "two.tar").read_bytes()


def test_a_name_that_no_header_holds(tmp_path: Path) -> None:
    with open(tmp_path / "long.tar", "wb") as file, pytest.raises(AssertionError, match="kkk"):
        SampleTar(file.fileno()).add("k" * 97, {"jpg": b""})
