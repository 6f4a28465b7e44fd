"""What archives list: order, keys, reasons, names as data."""

from __future__ import annotations

import gzip
import io
import os
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.caption.archives import name_sources, open_archive, open_archives
from pipeline.caption.members import Member, text_name
from pipeline.errors import ArchiveError, ImageError

Pack = Callable[[Path, list[tuple[str, bytes]]], Path]
MOST = 1 << 20


def listing(path: Path, exclude: Path | None = None) -> dict[str, Member]:
    members = list(open_archive(path, exclude).members())
    named = {member.name: member for member in members}
    assert len(named) == len(members)
    return named


def reasons(path: Path) -> dict[str, str | None]:
    return {name: member.reason for name, member in listing(path).items()}


def test_folder_is_listed_in_order_of_raw_names_whatever_the_disk_says(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "a.jpg", "b/1.jpg", "b.jpg", "é.jpg", "B.jpg", "b/a/x.jpg", "Z/y.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    found = list(open_archive(tmp_path).members())
    assert [member.name for member in found] == [
        *("B.jpg", "Z/y.png", "a.jpg", "b/1.jpg", "b/2.jpg", "b/a/x.jpg", "b.jpg", "é.jpg")
    ]
    assert {member.size for member in found} == {5}
    assert all(member.modified > 0 for member in found)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        *((f"a.{extension}", None) for extension in ("jpg", "JPEG", "webp", "heic", "TIF", "avif")),
        ("IMG_0001", None),
        ("dots.in.name.png", None),
        ("ends.with.dot.", None),
        ("a.txt", "other_file_type"),
        ("a.jpg.part", "other_file_type"),
        ("Thumbs.db", "other_file_type"),
        (".DS_Store", "hidden_file"),
        ("._a.jpg", "hidden_file"),
        (".thumbnails/a.jpg", "hidden_file"),
    ],
)
def test_what_is_an_input_depends_on_the_name_alone_and_not_on_the_archive(
    tmp_path: Path, make_tar: Pack, make_zip: Pack, name: str, reason: str | None
) -> None:
    path = tmp_path / "in" / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x")
    assert reasons(tmp_path / "in") == {name: reason}
    assert reasons(make_tar(tmp_path / "a.tar", [(name, b"x")])) == {name: reason}
    assert reasons(make_zip(tmp_path / "a.zip", [(name, b"x")])) == {name: reason}


def test_links_in_a_folder_lead_nowhere_outside_and_never_in_circles(tmp_path: Path) -> None:
    root, outside = tmp_path / "in", tmp_path / "outside"
    for folder in (root / "sub", outside):
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_bytes(b"secret" if folder == outside else b"mine")
    (root / "out.jpg").symlink_to(outside / "a.jpg")
    (root / "out").symlink_to(outside)
    (root / "up.jpg").symlink_to("../outside/a.jpg")
    (root / "inside.jpg").symlink_to("sub/a.jpg")
    (root / "circle").symlink_to(".")
    (root / "sub" / "again").symlink_to("../sub")
    (root / "nothing.jpg").symlink_to("no-such.jpg")
    (root / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(root / "pipe.jpg")
    assert reasons(root) == {
        "circle": "not_a_regular_file",
        "inside.jpg": None,
        "nothing.jpg": None,
        "out": "link_outside_archive",
        "out.jpg": "link_outside_archive",
        "pipe.jpg": "not_a_regular_file",
        "self.jpg": "not_a_regular_file",
        "sub/a.jpg": None,
        "sub/again": "not_a_regular_file",
        "up.jpg": "link_outside_archive",
    }
    archive = open_archive(root)
    assert archive.read(listing(root)["inside.jpg"], MOST) == b"mine"
    with pytest.raises(ImageError, match="unreadable_file"):
        archive.read(Member("nothing.jpg"), MOST)


def test_a_file_that_turned_into_a_link_or_a_pipe_since_is_not_read(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    os.mkfifo(root / "pipe.jpg")
    archive = open_archive(root)
    for name in ("link.jpg", "pipe.jpg", "gone.jpg"):
        with pytest.raises(ImageError, match="unreadable_file"):
            archive.read(Member(name), MOST)


def test_a_folder_that_turned_into_a_link_out_since_is_not_entered(tmp_path: Path) -> None:
    root, outside = tmp_path / "in", tmp_path / "outside"
    for folder in (root / "sub", outside):
        folder.mkdir(parents=True)
        (folder / "a.jpg").write_bytes(b"secret" if folder == outside else b"mine")
    archive = open_archive(root)
    (member,) = archive.members()
    assert archive.read(member, MOST) == b"mine"
    (root / "sub").rename(tmp_path / "moved")
    (root / "sub").symlink_to(outside)
    with pytest.raises(ImageError, match="unreadable_file"):
        archive.read(member, MOST)


def test_folder_names_that_are_not_utf8_are_encoded_and_still_read(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/caf\xe9.jpg"
    try:
        with open(raw, "wb") as file:
            file.write(b"latin")
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    (tmp_path / "caf%E9.jpg").write_bytes(b"literal")
    (tmp_path / "日本 🐈.jpg").write_bytes(b"utf-8")
    archive = open_archive(tmp_path)
    members = list(archive.members())
    assert [(m.name, m.occurrence, archive.read(m, MOST)) for m in members] == [
        ("caf%E9.jpg", 0, b"literal"),
        ("caf%E9.jpg", 1, b"latin"),
        ("日本 🐈.jpg", 0, b"utf-8"),
    ]
    assert text_name(b"\xff/a b.jpg") == "%FF/a b.jpg"


def test_a_folder_deeper_than_the_recursion_limit_is_listed(tmp_path: Path) -> None:
    root = tmp_path / "in"
    root.mkdir()
    here = os.open(root, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=here)
        below = os.open("d", os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    with open("a.jpg", "wb", opener=lambda path, flags: os.open(path, flags, dir_fd=here)) as file:
        file.write(b"x")
    os.close(here)
    (member,) = open_archive(root).members()
    # Python's own rmtree recurses, so that pytest could not clear this away.
    (tmp_path / "stays").touch()
    (root / member.name).unlink()
    os.removedirs((root / member.name).parent)
    assert member.name == "d/" * 1500 + "a.jpg"


def test_the_table_is_left_out_of_the_folder_it_lies_in(tmp_path: Path) -> None:
    for name in ("a.jpg", "table/part.parquet", "tables/b.jpg"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    assert list(listing(tmp_path, exclude=tmp_path / "table")) == ["a.jpg", "tables/b.jpg"]


def test_names_in_a_tar_are_data(tmp_path: Path, make_tar: Pack) -> None:
    names = [
        *("../x.jpg", "/etc/y.jpg", "./a.jpg", "日本.jpg", "a\nb.jpg", "x" * 4000 + ".jpg"),
        *("long/" * 400 + "z.jpg", "a.jpg"),
    ]
    path = make_tar(tmp_path / "a.tar", [(n, n.encode()) for n in names] + [("a.jpg", b"second")])
    archive = open_archive(path)
    found = list(archive.members())
    assert [(member.name, member.occurrence) for member in found] == [
        *((name, 0) for name in names),
        ("a.jpg", 1),
    ]
    assert [archive.read(m, MOST) for m in found] == [*(n.encode() for n in names), b"second"]
    archive.close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar"]


def test_tar_members_without_content_are_skipped_and_folders_are_not_members(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.tar"
    kinds = {
        "hard.jpg": tarfile.LNKTYPE,
        "soft.jpg": tarfile.SYMTYPE,
        "device.jpg": tarfile.CHRTYPE,
        "pipe.jpg": tarfile.FIFOTYPE,
    }
    with tarfile.open(path, "w") as tar:
        for name, kind in kinds.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            tar.addfile(info)
        folder = tarfile.TarInfo("folder.jpg")
        folder.type = tarfile.DIRTYPE
        tar.addfile(folder)
    assert reasons(path) == dict.fromkeys(kinds, "not_a_regular_file")


def test_tar_names_that_are_not_utf8_are_encoded(tmp_path: Path) -> None:
    path = tmp_path / "a.tar"
    with tarfile.open(path, "w", format=tarfile.GNU_FORMAT, encoding="latin-1") as tar:
        tar.addfile(tarfile.TarInfo("café.jpg"))
    assert list(listing(path)) == ["caf%E9.jpg"]


@pytest.mark.parametrize("packed", [False, True])
def test_webdataset_json_and_txt_belong_to_their_picture(
    tmp_path: Path, make_tar: Pack, packed: bool
) -> None:
    members = [
        ("1.jpg", b"one"),
        ("1.json", b' {"id": 1, "ratio": 1.50}\n'),
        ("2.json", b'{"id": 2}'),
        ("2.png", b"two"),
        ("2.txt", "zwei Hündchen".encode()),
        ("3.cls", b"7"),
        ("3.jpg", b"three"),
        ("4.json", b"{}"),
        ("5.jpg", b"five"),
        ("5.json", b'{"id": NaN}'),
        ("6.jpg", b"six"),
        ("6.txt", b"\xff"),
        ("7.json", b"[1]"),
        ("7.left.png", b"left"),
        ("7.right.png", b"right"),
        ("7.right.txt", b"r"),
        ("8.jpg", b"eight"),
        ("8.json", b'{"long": "' + b"x" * (1 << 20) + b'"}'),
        ("9.jpg", b"nine"),
        ("9.json", b'{"s": "\\ud800"}'),
        ("9.txt", b"t"),
    ]
    path = make_tar(tmp_path / "wds.tar", members)
    if packed:
        path = Path(f"{path}.gz")
        path.write_bytes(gzip.compress((tmp_path / "wds.tar").read_bytes()))
    archive = open_archive(path)
    found = {member.name: member for member in archive.members()}
    assert {name: archive.meta(member) for name, member in found.items()} == {
        "1.jpg": '{"id": 1, "ratio": 1.50}',
        "2.png": '{"id":2,"txt":"zwei Hündchen"}',
        "3.cls": None,
        "3.jpg": None,
        "4.json": None,
        "5.jpg": '"{\\"id\\": NaN}"',
        "6.jpg": '{"txt":"\ufffd"}',
        "7.left.png": "[1]",
        "7.right.png": '{"json":[1],"txt":"r"}',
        "8.jpg": '{"error":"too_many_bytes"}',
        "9.jpg": '{"s":"\\ud800","txt":"t"}',
    }
    assert {name for name, m in found.items() if m.reason} == {"3.cls", "4.json"}
    assert {n: archive.read(m, MOST) for n, m in found.items()} == {
        n: dict(members)[n] for n in found
    }
    archive.close()


def test_a_cut_tar_gives_what_it_has_and_a_failed_member_that_says_so(
    tmp_path: Path, make_tar: Pack
) -> None:
    path = make_tar(tmp_path / "a.tar", [(f"{n}.jpg", bytes([n]) * 5000) for n in range(4)])
    path.write_bytes(path.read_bytes()[: 3 * 5632 + 1000])
    archive = open_archive(path)
    members = list(archive.members())
    assert [(m.name, m.code) for m in members] == [
        *((f"{n}.jpg", None) for n in range(4)),
        ("", "damaged_archive"),
    ]
    assert archive.read(members[2], MOST) == b"\2" * 5000
    with pytest.raises(ImageError, match=r"unreadable_member.*488 of 5,000"):
        archive.read(members[3], MOST)


def test_a_tar_cut_between_two_members_lacks_its_end_marker_and_says_so(
    tmp_path: Path, make_tar: Pack
) -> None:
    path = make_tar(tmp_path / "a.tar", [(f"{n}.jpg", bytes([n]) * 5000) for n in range(4)])
    path.write_bytes(path.read_bytes()[: 3 * 5632])
    assert [(m.name, m.code) for m in open_archive(path).members()] == [
        *((f"{n}.jpg", None) for n in range(3)),
        ("", "damaged_archive"),
    ]


def test_a_tar_that_goes_wild_in_the_middle_says_so(tmp_path: Path, make_tar: Pack) -> None:
    path = make_tar(tmp_path / "a.tar", [(f"{n}.jpg", b"x" * 100) for n in range(4)])
    content = bytearray(path.read_bytes())
    content[2048:2148] = b"\7" * 100
    path.write_bytes(content)
    assert [(m.name, m.code) for m in open_archive(path).members()] == [
        ("0.jpg", None),
        ("1.jpg", None),
        ("", "damaged_archive"),
        ("3.jpg", None),
    ]


def test_a_second_tar_behind_the_first_is_read_too(tmp_path: Path, make_tar: Pack) -> None:
    one = make_tar(tmp_path / "1.tar", [("1.jpg", b"x")]).read_bytes()
    two = make_tar(tmp_path / "2.tar", [("2.jpg", b"x")]).read_bytes()
    (tmp_path / "both.tar").write_bytes(one + two)
    assert [(m.name, m.code) for m in open_archive(tmp_path / "both.tar").members()] == [
        ("1.jpg", None),
        ("2.jpg", None),
    ]
    (tmp_path / "junk.tar").write_bytes(one + b"junk" * 200)
    assert [m.code for m in open_archive(tmp_path / "junk.tar").members()] == [
        None,
        "damaged_archive",
    ]


def test_a_cut_gzip_ends_as_members_too(tmp_path: Path, make_tar: Pack) -> None:
    noise = os.urandom(50_000)
    path = make_tar(tmp_path / "a.tar", [("0.jpg", noise), ("1.jpg", noise[::-1])])
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(gzip.compress(path.read_bytes())[:70_000])
    archive = open_archive(packed)
    members = list(archive.members())
    assert [(m.name, m.code) for m in members] == [
        ("0.jpg", None),
        ("1.jpg", None),
        ("", "damaged_archive"),
    ]
    with pytest.raises(ImageError, match="unreadable_member"):
        archive.read(members[1], MOST)
    assert archive.read(members[0], MOST) == noise


def test_a_header_with_a_negative_size_does_not_list_in_circles(
    tmp_path: Path, make_tar: Pack
) -> None:
    path = make_tar(tmp_path / "a.tar", [("0.jpg", b"x"), ("1.jpg", b"y")])
    content = bytearray(path.read_bytes())
    header = content[1024:1536]
    header[124:136] = b"\xff" * 8 + struct.pack(">i", -1024)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    content[1024:1536] = header
    path.write_bytes(content)
    assert [m.code for m in open_archive(path).members()] == [None, "damaged_archive"]


def test_a_zip_reads_duplicates_refuses_passwords_and_survives_lies(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, pytest.warns(UserWarning):
        archive.writestr("a.jpg", b"first")
        archive.writestr("a.jpg", b"second")
        archive.mkdir("folder")
        archive.writestr("secret.jpg", b"secret")
        archive.writestr("lies.jpg", b"z" * 1000)
        archive.writestr("broken.jpg", os.urandom(1000))
        link = zipfile.ZipInfo("link.jpg")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, "/etc/passwd")
        entries = {entry.filename: entry for entry in archive.infolist()}
        entries["secret.jpg"].flag_bits |= 1
        entries["lies.jpg"].file_size = 10
        broken = entries["broken.jpg"].header_offset
    content = bytearray(path.read_bytes())
    content[broken + 100] ^= 0xFF
    path.write_bytes(content)
    archive = open_archive(path)
    members = {(m.name, m.occurrence): m for m in archive.members()}
    assert [key for key, m in members.items() if m.reason] == [("link.jpg", 0)]
    assert archive.read(members["a.jpg", 0], MOST) == b"first"
    assert archive.read(members["a.jpg", 1], MOST) == b"second"
    assert members["secret.jpg", 0].code == "encrypted_member"
    for name, code in (
        ("lies", "unreadable_member"),
        ("broken", "unreadable_member"),
    ):
        with pytest.raises(ImageError, match=code):
            archive.read(members[f"{name}.jpg", 0], MOST)
    archive.close()


def test_zip_names_without_the_utf8_flag_are_utf8_where_they_can_be(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("XXXX.jpg", b"")
        archive.writestr("YYYY.jpg", b"")
    content = path.read_bytes().replace(b"XXXX", "éé".encode()).replace(b"YYYY", b"Y\x81YY")
    path.write_bytes(content)
    assert list(listing(path)) == ["éé.jpg", "YüYY.jpg"]


def test_zip_names_in_the_unicode_extra_field_and_folders_by_attribute(tmp_path: Path) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        named = zipfile.ZipInfo("cafe.jpg")
        told = b"\1" + struct.pack("<L", zlib.crc32(b"cafe.jpg")) + "café.jpg".encode()
        named.extra = struct.pack("<HH", 0x7075, len(told)) + told
        archive.writestr(named, b"x")
        stale = zipfile.ZipInfo("renamed.jpg")
        stale.extra = named.extra
        archive.writestr(stale, b"y")
        folder = zipfile.ZipInfo("folder")
        folder.create_system, folder.external_attr = 0, 0x10
        archive.writestr(folder, b"")
    archive_ = open_archive(path)
    assert [(m.name, archive_.read(m, MOST)) for m in archive_.members()] == [
        ("café.jpg", b"x"),
        ("renamed.jpg", b"y"),
    ]
    archive_.close()


def test_a_zip_says_that_a_member_of_the_same_size_and_second_is_another(
    tmp_path: Path, make_zip: Pack
) -> None:
    one, two = (make_zip(tmp_path / f"{n}.zip", [("a.jpg", bytes([n]) * 9)]) for n in (1, 2))
    (first,), (second,) = (open_archive(path).members() for path in (one, two))
    assert first.modified % 10**9 == zlib.crc32(b"\1" * 9) % 10**9 != second.modified % 10**9


@pytest.mark.parametrize("kind", ["folder", "tar", "zip"])
def test_more_than_max_bytes_is_not_read(
    tmp_path: Path, make_tar: Pack, make_zip: Pack, kind: str
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"x" * 11)
    path = {
        "folder": lambda: folder,
        "tar": lambda: make_tar(tmp_path / "a.tar", [("a.jpg", b"x" * 11)]),
        "zip": lambda: make_zip(tmp_path / "a.zip", [("a.jpg", b"x" * 11)]),
    }[kind]()
    archive = open_archive(path)
    (member,) = archive.members()
    assert archive.read(member, 11) == b"x" * 11
    with pytest.raises(ImageError, match=r"too_many_bytes: 11 bytes; at most 10"):
        archive.read(member, 10)
    archive.close()


def test_what_is_no_archive_is_an_error_with_the_way_out(tmp_path: Path, make_tar: Pack) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    (tmp_path / "a.rar").write_bytes(b"Rar!")
    (tmp_path / "a.zip").write_bytes(b"PK\3\4 no directory")
    (tmp_path / "a.tar").write_bytes(b"not a tar")
    (tmp_path / "a.tgz").write_bytes(gzip.compress(b"not a tar"))
    (tmp_path / "empty.tar").write_bytes(b"")
    (tmp_path / "text.gz").write_bytes(gzip.compress(b"text"))
    os.mkfifo(tmp_path / "pipe.tar")
    for name, message in {
        "missing": "no archive at .*missing; give a folder",
        "a.jpg": "single picture; give the folder",
        "a.rar": "none of the archives that are read: a folder",
        "a.zip": "not a zip that can be read",
        "a.tar": "not a tar that can be read: it has no header that is whole; check",
        "a.tgz": "not a tar that can be read",
        "empty.tar": "not a tar that can be read",
        "text.gz": "none of the archives",
        "pipe.tar": "no regular file; write it to one",
        "/dev/zero": "no regular file",
    }.items():
        with pytest.raises(ArchiveError, match=message):
            open_archives([tmp_path / name])


def test_an_archive_without_pictures_is_an_error(
    tmp_path: Path, make_tar: Pack, make_zip: Pack
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("x")
    blank = make_tar(tmp_path / "a.tar", [])
    texts = make_zip(tmp_path / "a.zip", [("a.txt", b"x"), (".b.jpg", b"x")])
    for path in (tmp_path / "empty", tmp_path / "texts", blank, texts):
        with pytest.raises(ArchiveError, match="holds no pictures"):
            open_archives([path])


def test_sources_are_base_names_and_unique(
    tmp_path: Path, make_tar: Pack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a/photos", "b/photos"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.jpg").write_bytes(b"x")
    tar = make_tar(tmp_path / "c.tar", [("x.jpg", b"x")])

    def names(*paths: str | Path, known: dict[str, str] | None = None) -> list[str]:
        return [s.name for s in name_sources(open_archives([*map(Path, paths)]), known or {})]

    assert names("a/photos/", "c.tar", tar, "./a/photos") == ["photos", "c.tar"]
    assert names("a/photos", "b/photos") == ["a/photos", "b/photos"]
    monkeypatch.chdir(tmp_path / "a" / "photos")
    assert names(".") == ["photos"]
    monkeypatch.chdir(tmp_path)
    was_a, moved = {"photos": str(tmp_path / "a/photos")}, {"photos": str(tmp_path / "no/photos")}
    assert names(tmp_path / "a/photos", known=was_a) == ["photos"]
    assert names("b/photos", known=was_a) == ["b/photos"]
    assert names("b/photos", known=moved) == ["photos"]
    assert names("b/photos", known={"first": str(tmp_path / "b/photos")}) == ["first"]


@pytest.mark.parametrize("kind", ["tar", "zip"])
def test_listing_keeps_no_entries(
    tmp_path: Path, make_tar: Pack, make_zip: Pack, kind: str
) -> None:
    import tracemalloc

    members = [(f"{'long' * 20}/{n:06d}.jpg", b"") for n in range(5000)]
    path = (make_tar if kind == "tar" else make_zip)(tmp_path / f"a.{kind}", members)
    archive = open_archive(path)
    tracemalloc.start()
    try:
        assert sum(1 for _ in archive.members()) == 5000
        assert tracemalloc.get_traced_memory()[1] < 2_500_000
    finally:
        tracemalloc.stop()


def test_a_damaged_stream_is_not_taken_for_a_short_one(tmp_path: Path, make_tar: Pack) -> None:
    """Reading past a bad spot fails for that member alone; those before it are read again."""
    noise = [os.urandom(30_000) for _ in range(3)]
    path = make_tar(tmp_path / "a.tar", [(f"{n}.jpg", data) for n, data in enumerate(noise)])
    file = io.BytesIO()
    with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=0) as stream:
        stream.write(path.read_bytes())
    content = bytearray(file.getvalue())
    archive = open_archive(path)
    members = list(archive.members())
    content[-8] ^= 0xFF
    packed = tmp_path / "a.tar.gz"
    packed.write_bytes(content)
    spoilt = open_archive(packed)
    assert [m.code for m in spoilt.members()] == [None, None, None, "damaged_archive"]
    assert [spoilt.read(m, MOST) for m in members] == noise
