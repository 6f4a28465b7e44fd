"""Lists of files as archives: text and JSON Lines."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from pipeline.caption import lists
from pipeline.caption.archives import Reading, open_archive
from pipeline.caption.members import Member
from pipeline.errors import ArchiveError, ImageError

MOST = 1 << 20


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "sub").mkdir()
    for name in ("a.jpg", "sub/b.jpg", "sub/.hidden.jpg", "a b.png", "note.txt"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


def ends(path: Path, root: Path | None = None) -> list[tuple[str, str]]:
    """Names, and what each ends as: its bytes or a code."""
    archive = open_archive(path, reading=Reading(root=str(root) if root else None))

    def end(member: Member) -> str:
        try:
            return member.reason or member.code or archive.read(member, MOST).decode()
        except ImageError as error:
            return error.code

    found = [(member.name, end(member)) for member in archive.members()]
    archive.close()
    return found


def test_a_text_list_names_files_wherever_they_are(files: Path) -> None:
    link = files / "link.jpg"
    link.symlink_to("a.jpg")
    (files / "circle.jpg").symlink_to("circle.jpg")
    os.mkfifo(files / "pipe.jpg")
    lines = [
        *(
            "a.jpg",
            "sub/b.jpg",
            "",
            str(files / "sub/b.jpg"),
            "sub/../a b.png",
            "a.jpg",
            "link.jpg",
        ),
        *("gone.jpg", "circle.jpg", "pipe.jpg", "sub", "note.txt", "sub/.hidden.jpg", "/dev/zero"),
        *("x" * 4000 + ".jpg", "nul\0.jpg", "http://example.org/a.jpg"),
    ]
    (files / "list.txt").write_bytes("\r\n".join(lines).encode())
    assert ends(files / "list.txt") == [
        ("a.jpg", "a.jpg"),
        ("sub/b.jpg", "sub/b.jpg"),
        (str(files / "sub/b.jpg"), "sub/b.jpg"),
        ("sub/../a b.png", "a b.png"),
        ("a.jpg", "a.jpg"),
        ("link.jpg", "a.jpg"),
        ("gone.jpg", "unreadable_file"),
        ("circle.jpg", "not_a_regular_file"),
        ("pipe.jpg", "not_a_regular_file"),
        ("sub", "not_a_regular_file"),
        ("note.txt", "other_file_type"),
        ("sub/.hidden.jpg", "hidden_file"),
        ("/dev/zero", "not_a_regular_file"),
        ("x" * 4000 + ".jpg", "unreadable_file"),
        ("line 16", "bad_line"),
        ("http://example.org/a.jpg", "unreadable_file"),
    ]
    inside = dict(ends(files / "list.txt", root=files / "sub"))
    assert inside[str(files / "sub/b.jpg")] == "sub/b.jpg"
    assert inside["/dev/zero"] == "outside_root"


def test_occurrences_and_names_that_are_no_utf8(files: Path) -> None:
    raw = b"caf\xe9.jpg"
    try:
        with open(os.fsencode(files) + b"/" + raw, "wb") as file:
            file.write(b"latin")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (files / "list.lst").write_bytes(b"\xef\xbb\xbfa.jpg\n" + raw + b"\na.jpg")
    archive = open_archive(files / "list.lst")
    assert [(m.name, m.occurrence, archive.read(m, MOST)) for m in archive.members()] == [
        ("a.jpg", 0, b"a.jpg"),
        ("caf%E9.jpg", 0, b"latin"),
        ("a.jpg", 1, b"a.jpg"),
    ]


def test_json_lines_carry_meta_and_bad_lines_are_members(files: Path) -> None:
    lines = [
        b'{"image": "a.jpg", "id": 7, "text": "\xc3\xa9"}',
        b'"sub/b.jpg"',
        b"not json",
        b'{"id": 8}',
        b"[" * 100_000,
        b'{"path": "a b.png"}',
        b'{"image": null, "file_name": "a.jpg"}',
        b'{"image": "\\ud800.jpg"}',
    ]
    (files / "list.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    archive = open_archive(files / "list.jsonl")
    members = list(archive.members())
    assert [(m.name, m.occurrence, m.code) for m in members] == [
        ("a.jpg", 0, None),
        ("sub/b.jpg", 0, None),
        ("line 3", 0, "bad_line"),
        ("line 4", 0, "bad_line"),
        ("line 5", 0, "bad_line"),
        ("a b.png", 0, None),
        ("a.jpg", 1, None),
        ("line 8", 0, "bad_line"),
    ]
    assert json.loads(archive.meta(members[0]) or "") == {"id": 7, "text": "é"}
    assert archive.meta(members[1]) is None and archive.meta(members[5]) is None
    named = open_archive(files / "list.jsonl", reading=Reading(image_column="file_name"))
    assert [m.name for m in named.members() if not m.code] == ["sub/b.jpg", "a.jpg"]


def test_long_lines_do_not_fill_memory_and_windows_do_not_cut_lines(
    files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lists, "_WINDOW", 7)
    monkeypatch.setattr(lists, "LONGEST_LINE", 20)
    (files / "list.txt").write_bytes(b"a.jpg\n" + b"x" * 1000 + b"\nsub/b.jpg\n\n\na b.png")
    assert ends(files / "list.txt") == [
        ("a.jpg", "a.jpg"),
        ("line 2", "bad_line"),
        ("sub/b.jpg", "sub/b.jpg"),
        ("a b.png", "a b.png"),
    ]


def test_utf16_is_refused_with_the_way_out(files: Path) -> None:
    (files / "list.txt").write_bytes("a.jpg".encode("utf-16"))
    with pytest.raises(ArchiveError, match="UTF-16; write it in UTF-8"):
        open_archive(files / "list.txt")
