"""Archives as nobody should send them: what each is, how it is made, and how its members end."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import os
import struct
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_images
import pyarrow as pa
import pyarrow.parquet as pq

GOOD = hostile_images.jpeg()
REFUSED = "refused"
"""The archive as a whole, by an ArchiveError that says so."""

Member = tuple[str, bytes]
Build = Callable[[Path], Path]


def tar_bytes(*members: Member | tarfile.TarInfo, **options: Any) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", **options) as tar:
        for member in members:
            if isinstance(member, tarfile.TarInfo):
                tar.addfile(member, io.BytesIO(GOOD) if member.size == len(GOOD) else None)
            else:
                info = tarfile.TarInfo(member[0])
                info.size = len(member[1])
                tar.addfile(info, io.BytesIO(member[1]))
    return file.getvalue()


def header(name: str, kind: bytes, size: int = 0, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.size, info.linkname = kind, size, link
    return info


USTAR = b"ustar\0" + b"00"


def raw_header(name: bytes, size: bytes, kind: bytes = b"0", magic: bytes = USTAR) -> bytes:
    """A tar header with fields as given, its check sum right."""
    block = name.ljust(100, b"\0") + b"0000644\0" * 3 + size.ljust(12, b"\0") + b"0" * 11 + b"\0"
    block += b" " * 8 + kind + bytes(100) + magic
    block = block.ljust(512, b"\0")
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


END = bytes(1024)
ONE = tar_bytes(("a.jpg", GOOD))
SIZE = b"%o" % len(GOOD)
BODY = raw_header(b"b.jpg", SIZE) + padded(GOOD)


def zip_bytes(*members: Member | tuple[zipfile.ZipInfo, bytes], method: int = 8) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


def zip_info(name: str, mode: int = 0) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.create_system, info.external_attr = 3, mode << 16
    return info


def central(data: bytes, field: int, value: bytes) -> bytes:
    """A zip whose first entry in the directory has another value at `field`."""
    at = data.index(b"PK\1\2") + field
    return data[:at] + value + data[at + len(value) :]


def encrypted_zip() -> bytes:
    data = zip_bytes(("a.jpg", GOOD), ("b.jpg", GOOD))
    return central(data, 8, b"\1\0")


def overlapping_zip() -> bytes:
    """Two entries of one directory that mean the same bytes."""
    data = zip_bytes(("a.jpg", GOOD), ("b.jpg", GOOD))
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    at = second + 42
    return data[:at] + bytes(4) + data[at + 4 :]


def deep_bomb(levels: int) -> bytes:
    data = bytes(1 << 20)
    for _ in range(levels):
        data = zip_bytes(("bomb.zip", data))
    return data


def zip64_claims() -> bytes:
    data = zip_bytes(("a.jpg", GOOD))
    extra = struct.pack("<HHQQ", 1, 16, 1 << 62, 1 << 62)
    at = data.index(b"PK\1\2")
    entry = bytearray(data[at : at + 46 + 5])
    struct.pack_into("<II", entry, 20, 0xFFFFFFFF, 0xFFFFFFFF)
    struct.pack_into("<H", entry, 30, len(extra))
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1, 1, len(entry) + len(extra), at, 0)
    return data[:at] + bytes(entry) + extra + end


def parquet_bytes(columns: dict[str, Any], **options: Any) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(columns), file, **options)
    return file.getvalue()


def parquet_of_claims() -> bytes:
    """A footer that claims 2^60 rows."""
    data = parquet_bytes({"image": [GOOD] * 7})
    size = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - size : -8]
    # Zigzag 7 as a field of 64 bits, wherever the number of rows stands.
    grown = footer.replace(b"\x16\x0e", b"\x16" + b"\xfe\xff\xff\xff\xff\xff\xff\xff\x1f")
    assert grown != footer
    return data[: -8 - size] + grown + struct.pack("<I", len(grown)) + b"PAR1"


def spoilt_entry(data: bytes) -> bytes:
    second = data.index(b"PK\1\2", data.index(b"PK\1\2") + 1)
    return data[:second] + b"XX" + data[second + 2 :]


def named_twice() -> bytes:
    file = io.BytesIO()
    images = pa.array([GOOD])
    pq.write_table(pa.Table.from_arrays([images, images], names=["image", "image"]), file)
    return file.getvalue()


def repeated(cell: bytes, times: int) -> pa.Array:
    return pa.DictionaryArray.from_arrays(pa.array([0] * times, pa.int32()), pa.array([cell]))


def written(name: str, content: Callable[[], bytes]) -> Build:
    def build(folder: Path) -> Path:
        (folder / name).write_bytes(content())
        return folder / name

    return build


def parquet_deep() -> bytes:
    """A footer whose schema is one structure in another, 5,000 times."""
    level = b"\x35\x02\x18\x01a\x15\x02\x00"
    schema = b"\x29\xfc" + bytes([0x80 | 5000 & 0x7F, 5000 >> 7]) + level * 5000
    footer = b"\x15\x04" + schema.replace(b"\x29", b"\x19", 1) + b"\x16\x02\x19\x0c\x00"
    return b"PAR1" + footer + struct.pack("<I", len(footer)) + b"PAR1"


def folder_of(make: Callable[[Path], None]) -> Build:
    def build(folder: Path) -> Path:
        root = folder / "in"
        root.mkdir()
        (root / "a.jpg").write_bytes(GOOD)
        make(root)
        return root

    return build


def links(root: Path) -> None:
    (root.parent / "secret.jpg").write_bytes(GOOD)
    (root / "deep").mkdir()
    (root / "out.jpg").symlink_to("../secret.jpg")
    (root / "absolute.jpg").symlink_to(root.parent / "secret.jpg")
    (root / "deep" / "up").symlink_to("..")
    (root / "one.jpg").symlink_to("two.jpg")
    (root / "two.jpg").symlink_to("one.jpg")
    (root / "zero.jpg").symlink_to("/dev/zero")
    os.mkfifo(root / "pipe.jpg")
    os.link(root.parent / "secret.jpg", root / "hard.jpg")


def names(root: Path) -> None:
    for name in (b"\xff\xfe.jpg", b"new\nline.jpg", b"x" * 251 + b".jpg", b"-rf.jpg", b"a%2Fb.jpg"):
        (root / os.fsdecode(name)).write_bytes(GOOD)


ODD_NAMES = [
    *("../up.jpg", "/etc/absolute.jpg", "a/../../b.jpg", "./here.jpg", "C:\\dir\\win.jpg"),
    *("con.jpg", "a\nb.jpg", "\u202egpj.jpg", "x" * 4000 + ".jpg", "d/" * 1500 + "deep.jpg"),
    *(
        "\x1b[31m.jpg",
        " .jpg",
        "'; DROP TABLE a;--.jpg",
        "%00.jpg",
        "日本.jpg",
        "same.jpg",
        "same.jpg",
    ),
]
ODD: list[Member] = [(name, GOOD) for name in ODD_NAMES]
P = hostile_images.PICTURE
LOST = "damaged_archive"

TARS: dict[str, tuple[Build, list[str]]] = {
    "odd names": (written("a.tar", lambda: tar_bytes(*ODD)), [P] * 17),
    "odd names, gnu": (
        written("b.tar", lambda: tar_bytes(*ODD, format=tarfile.GNU_FORMAT)),
        [P] * 17,
    ),
    "links and devices": (
        written(
            "c.tar",
            lambda: tar_bytes(
                ("a.jpg", GOOD),
                header("soft.jpg", tarfile.SYMTYPE, link="/etc/passwd"),
                header("hard.jpg", tarfile.LNKTYPE, link="../../etc/passwd"),
                header("null.jpg", tarfile.CHRTYPE),
                header("disk.jpg", tarfile.BLKTYPE),
                header("pipe.jpg", tarfile.FIFOTYPE),
                header("folder.jpg", tarfile.DIRTYPE),
            ),
        ),
        [P] + ["not_a_regular_file"] * 5,
    ),
    "nothing but links": (
        written("d.tar", lambda: tar_bytes(header("a.jpg", tarfile.SYMTYPE, link="/etc/passwd"))),
        ["not_a_regular_file"],
    ),
    "an end in the middle": (written("e.tar", lambda: ONE + BODY + END), [P, P]),
    "no end": (written("f.tar", lambda: BODY), [P, LOST]),
    "junk behind": (written("g.tar", lambda: ONE + b"junk" * 300), [P, LOST]),
    "a bad check sum": (
        written("h.tar", lambda: ONE[:1536] + b"\1" + BODY[1:] + BODY + END),
        [P, LOST, P],
    ),
    "a first header that is bad": (
        written("i.tar", lambda: b"\1" + ONE[1:1536] + BODY + END),
        [LOST, P],
    ),
    "a size of 8 EiB": (
        written(
            "j.tar", lambda: BODY + raw_header(b"c.jpg", b"\x80" + b"\x7f" + b"\xff" * 10) + END
        ),
        [P, LOST],
    ),
    "a negative size": (
        written("k.tar", lambda: BODY + raw_header(b"c.jpg", b"\xff" * 12) + BODY + END),
        [P, LOST, P],
    ),
    "a size beyond the end": (
        written("l.tar", lambda: BODY + raw_header(b"c.jpg", b"77777777777") + padded(GOOD) + END),
        [P, "too_many_bytes", LOST],
    ),
    "a name of 4 GB": (
        written("m.tar", lambda: BODY + raw_header(b"x", b"40000000000", b"L") + b"y" * 512 + END),
        [P, LOST],
    ),
    "pax of wild lengths": (
        written(
            "n.tar", lambda: raw_header(b"x", b"12", b"x") + padded(b"99999 path=a") + BODY + END
        ),
        [LOST, P],
    ),
    "pax that renames and resizes": (
        written(
            "o.tar",
            lambda: (
                raw_header(b"x", b"%o" % 19, b"x") + padded(b"19 path=../pax.jpg\n") + BODY + END
            ),
        ),
        [P],
    ),
    "gnu sparse": (
        written("p.tar", lambda: BODY + raw_header(b"s.jpg", b"0", b"S") + BODY + END),
        [P, P, "unreadable_member"],
    ),
    "an unknown type": (
        written(
            "q.tar",
            lambda: raw_header(b"z.jpg", b"%o" % len(GOOD), b"Z") + padded(GOOD) + BODY + END,
        ),
        ["not_a_regular_file", P],
    ),
    "one key for all": (
        written("r.tar", lambda: tar_bytes(*[(f"k.{n}.jpg", b"") for n in range(2500)])),
        ["zero_bytes"] * 2500,
    ),
    "a picture that is a tar": (
        written("s.tar", lambda: tar_bytes(("a.jpg", ONE))),
        ["not_an_image"],
    ),
    "gzip cut short": (
        written(
            "t.tar.gz",
            lambda: gzip.compress(tar_bytes(("a.jpg", GOOD), ("b.jpg", os.urandom(9999))))[:-4000],
        ),
        [P, "unreadable_member", LOST],
    ),
    "gzip of two": (written("u.tar.gz", lambda: gzip.compress(ONE) + gzip.compress(ONE)), [P, P]),
    "gzip with junk behind": (
        written("v.tar.gz", lambda: gzip.compress(ONE) + b"junk" * 9),
        [P, LOST],
    ),
    "gzip padded with zeros": (written("w.tgz", lambda: gzip.compress(ONE) + bytes(5000)), [P]),
    "gzip bomb": (
        written(
            "x.tar.gz",
            lambda: gzip.compress(raw_header(b"b.jpg", b"77777777") + bytes(100 << 20), 1),
        ),
        ["not_an_image"],
    ),
    "gzip bomb of a name": (
        written(
            "y.tar.gz",
            lambda: gzip.compress(
                BODY + raw_header(b"x", b"77777777777", b"L") + bytes(64 << 20), 1
            ),
        ),
        [P, LOST],
    ),
    "bzip2": (written("z.tar.bz2", lambda: bz2.compress(ONE)), [P]),
    "xz": (written("aa.tar.xz", lambda: lzma.compress(ONE)), [P]),
    "zstandard": (written("ab.tar.zst", lambda: pa.compress(ONE, "zstd", asbytes=True)), [P]),
    "zstandard cut short": (
        written("ac.tar.zst", lambda: pa.compress(ONE, "zstd", asbytes=True)[:-9]),
        [REFUSED],
    ),
    "xz cut short": (written("ad.tar.xz", lambda: lzma.compress(ONE)[:-30]), [P, LOST]),
    "gzip of no tar": (written("ae.tar.gz", lambda: gzip.compress(b"hello" * 999)), [REFUSED]),
    "zeros": (written("af.tar", lambda: bytes(10_240)), [REFUSED]),
    "nothing": (written("ag.tar", lambda: b""), [REFUSED]),
    "old V7": (
        written("ah.tar", lambda: raw_header(b"b.jpg", SIZE, b"\0", b"") + padded(GOOD) + END),
        [P],
    ),
    "old V7, nothing after it": (
        written("ai.tar", lambda: raw_header(b"b.jpg", SIZE, b"\0", b"") + padded(GOOD)),
        [P, LOST],
    ),
}

ZIPS: dict[str, tuple[Build, list[str]]] = {
    "odd names": (written("a.zip", lambda: zip_bytes(*ODD)), [P] * 17),
    "encrypted": (written("b.zip", encrypted_zip), ["encrypted_member", P]),
    "all encrypted": (
        written("c.zip", lambda: central(zip_bytes(("a.jpg", GOOD)), 8, b"\1\0")),
        ["encrypted_member"],
    ),
    "a wrong check sum": (
        written("d.zip", lambda: central(zip_bytes(("a.jpg", GOOD)), 16, b"1234")),
        ["unreadable_member"],
    ),
    "an unknown method": (
        written("e.zip", lambda: central(zip_bytes(("a.jpg", GOOD)), 10, b"\x61\0")),
        ["unreadable_member"],
    ),
    "bzip2 and lzma": (
        written("f.zip", lambda: zip_bytes(("a.jpg", GOOD), method=12)),
        [P],
    ),
    "lzma": (written("g.zip", lambda: zip_bytes(("a.jpg", GOOD), method=14)), [P]),
    "stored": (written("h.zip", lambda: zip_bytes(("a.jpg", GOOD), method=0)), [P]),
    "a link": (
        written(
            "i.zip",
            lambda: zip_bytes((zip_info("a.jpg", 0o120777), b"/etc/passwd"), ("b.jpg", GOOD)),
        ),
        ["not_a_regular_file", P],
    ),
    "a device": (
        written("j.zip", lambda: zip_bytes((zip_info("a.jpg", 0o020666), b""))),
        ["not_a_regular_file"],
    ),
    "overlapping": (written("k.zip", overlapping_zip), ["overlapping_member"] * 2),
    "a bomb": (
        written(
            "l.zip", lambda: zip_bytes(("a.jpg", bytes(200 << 20)), ("b.jpg", bytes(40 << 20)))
        ),
        ["too_many_bytes", "not_an_image"],
    ),
    "bombs in bombs": (
        written("m.zip", lambda: zip_bytes(("a.jpg", deep_bomb(6)))),
        ["not_an_image"],
    ),
    "zip64 of claims": (written("n.zip", zip64_claims), ["too_many_bytes"]),
    "a size that lies low": (
        written(
            "o.zip",
            lambda: central(zip_bytes(("a.jpg", bytes(10 << 20))), 24, struct.pack("<I", 10)),
        ),
        ["unreadable_member"],
    ),
    "a size that lies high": (
        written(
            "p.zip", lambda: central(zip_bytes(("a.jpg", GOOD)), 24, struct.pack("<I", 60 << 20))
        ),
        ["unreadable_member"],
    ),
    "an offset nowhere": (
        written("q.zip", lambda: central(zip_bytes(("a.jpg", GOOD)), 42, b"\xff\xff\xff\x7f")),
        ["unreadable_member"],
    ),
    "something before": (
        written("r.zip", lambda: b"#!/bin/sh\n" * 50 + zip_bytes(("a.jpg", GOOD))),
        [P],
    ),
    "a comment": (written("s.zip", lambda: zip_bytes(("a.jpg", GOOD))[:-2] + b"\4\0PK\5\6"), [P]),
    "cut short": (written("t.zip", lambda: zip_bytes(("a.jpg", GOOD))[:-30]), [REFUSED]),
    "no directory": (written("u.zip", lambda: b"PK\3\4" + GOOD), [REFUSED]),
    "an entry that is damaged": (
        written("w.zip", lambda: spoilt_entry(zip_bytes(*[(f"{n}.jpg", GOOD) for n in range(3)]))),
        [P, LOST],
    ),
    "one volume of several": (
        written("x.zip", lambda: zip_bytes(("a.jpg", GOOD)).replace(b"PK\5\6\0\0", b"PK\5\6\2\0")),
        [REFUSED],
    ),
    "nothing in it": (written("y.zip", zip_bytes), [REFUSED]),
    "mac rubbish": (
        written(
            "z.zip",
            lambda: zip_bytes(("__MACOSX/._a.jpg", b"x"), (".DS_Store", b"x"), ("a.jpg", GOOD)),
        ),
        ["hidden_file"] * 2 + [P],
    ),
}


PARQUETS: dict[str, tuple[Build, list[str]]] = {
    "nulls": (
        written("a.parquet", lambda: parquet_bytes({"image": [GOOD, None, b""]})),
        [P, "null_cell", "zero_bytes"],
    ),
    "junk in cells": (
        written("b.parquet", lambda: parquet_bytes({"image": [b"junk", GOOD[:50], GOOD]})),
        ["not_an_image", "truncated", P],
    ),
    "numbers": (written("c.parquet", lambda: parquet_bytes({"image": [1, 2]})), [REFUSED]),
    "lists of pictures": (
        written("d.parquet", lambda: parquet_bytes({"image": [[GOOD], []]})),
        [REFUSED],
    ),
    "no rows": (
        written("e.parquet", lambda: parquet_bytes({"image": pa.array([], pa.binary())})),
        [REFUSED],
    ),
    "a column named twice": (
        written("f.parquet", named_twice),
        [REFUSED],
    ),
    "a cell of 80 MB": (
        written(
            "g.parquet",
            lambda: parquet_bytes({"image": [GOOD, bytes(80 << 20), GOOD]}, compression="zstd"),
        ),
        [P, "too_many_bytes", P],
    ),
    "one cell a thousand times": (
        written(
            "h.parquet", lambda: parquet_bytes({"image": repeated(GOOD + bytes(1 << 20), 1000)})
        ),
        [P] * 1000,
    ),
    "a page of 300 MB": (
        written(
            "i.parquet",
            lambda: parquet_bytes(
                {"image": [bytes(300 << 20)]}, compression="zstd", use_dictionary=False
            ),
        ),
        ["unreadable_member"],
    ),
    "2^60 rows": (written("j.parquet", parquet_of_claims), [LOST]),
    "cut short": (written("k.parquet", lambda: parquet_bytes({"image": [GOOD]})[:-9]), [REFUSED]),
    "nothing": (written("l.parquet", lambda: b""), [REFUSED]),
    "no footer": (written("m.parquet", lambda: b"PAR1" + bytes(99)), [REFUSED]),
    "a schema 5,000 deep": (written("o.parquet", parquet_deep), [REFUSED]),
    "paths that lead away": (
        written(
            "n.parquet",
            lambda: parquet_bytes({"path": ["/etc/passwd", "/dev/zero", "nul\0.jpg", None]}),
        ),
        ["not_an_image", "not_a_regular_file", "unreadable_file", "null_cell"],
    ),
}


OTHERS: dict[str, tuple[Build, list[str]]] = {
    "links in a folder": (
        folder_of(links),
        [P, P, *["link_outside_archive"] * 3, *["not_a_regular_file"] * 4],
    ),
    "odd names in a folder": (folder_of(names), [P] * 6),
    "a list of odd lines": (
        written(
            "a.txt",
            lambda: (
                b"/etc/passwd\n"
                + b"../" * 40
                + b"etc/passwd\n\0\n\xff\xfe\n~root\n"
                + b"x" * 3_000_000
            ),
        ),
        ["not_an_image"] * 2 + ["bad_line"] * 2 + ["unreadable_file"] * 2,
    ),
    "json lines of junk": (
        written(
            "a.jsonl",
            lambda: (
                b'{"image": 7}\nnull\n{"image": "gone.jpg"\n'
                + b"[" * 99_999
                + b'\n{"path": "/etc/passwd"}'
            ),
        ),
        ["bad_line"] * 4 + ["not_an_image"],
    ),
    "a binary list": (
        written("b.txt", lambda: zlib.compress(bytes(9999)) * 99 + b"\0"),
        ["bad_line"],
    ),
    "something else": (written("a.rar", lambda: b"Rar!\x1a\7\0" + bytes(99)), [REFUSED]),
}

CASES = {
    f"{kind}: {name}": case
    for kind, cases in {"tar": TARS, "zip": ZIPS, "parquet": PARQUETS, "other": OTHERS}.items()
    for name, case in cases.items()
}


def good_archives() -> dict[str, bytes]:
    """One of each kind, for mutations."""
    members = [(f"{n}.jpg", GOOD) for n in range(3)] + [("2.json", b'{"a": 1}')]
    columns = {"image": [{"bytes": GOOD, "path": f"{n}.jpg"} for n in range(6)], "n": [1] * 6}
    return {
        "a.tar": tar_bytes(*members, format=tarfile.PAX_FORMAT),
        "b.tar": tar_bytes(*members, ("x" * 300 + ".jpg", GOOD), format=tarfile.GNU_FORMAT),
        "c.tar.gz": gzip.compress(tar_bytes(*members), 1),
        "d.tar.zst": pa.compress(tar_bytes(*members), "zstd", asbytes=True),
        "e.zip": zip_bytes(*members),
        "f.zip": zip_bytes(*members, method=14),
        "g.parquet": parquet_bytes(columns, row_group_size=2),
        "h.parquet": parquet_bytes(columns, compression="zstd", use_dictionary=False),
        "i.jsonl": b'{"image": "a.jpg", "id": 1}\n' * 9,
    }
