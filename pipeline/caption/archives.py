"""Paths a user gives, as archives with the `source` names that their rows carry."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from pipeline.caption.files import ArchiveFile, Files, LocalFile, LocalFiles
from pipeline.caption.folder import Folder
from pipeline.caption.lists import FileList, is_list
from pipeline.caption.members import EXTENSIONS, Archive, text_name
from pipeline.caption.parquets import Parquet, is_parquet
from pipeline.caption.tars import Tar, is_tar
from pipeline.caption.zips import Zip, is_zip
from pipeline.errors import ArchiveError

if TYPE_CHECKING:
    from pipeline.config import CaptionConfig

KINDS = (
    "a folder, a tar (plain, .gz, .bz2, .xz, .zst, WebDataset), a zip, a Parquet file, or a list"
    " of files (.txt, .jsonl)"
)


@dataclass(frozen=True)
class Reading:
    """How archives are read, as far as a user decides it (`caption.*` settings)."""

    root: str | None = None
    """Lists and columns of paths: where relative paths start; nothing outside is read."""
    image_column: str | None = None
    name_column: str | None = None

    @classmethod
    def of(cls, config: CaptionConfig) -> Reading:
        """The settings that say it."""
        return cls(config.root, config.image_column, config.name_column)


@dataclass(frozen=True)
class Source:
    """An archive under the name that its rows carry."""

    name: str
    path: str
    """Absolute, links resolved."""
    archive: Archive


def open_archive(path: Path, exclude: Path | None = None, reading: Reading = Reading()) -> Archive:
    """The archive at `path`, its kind told by its content; `exclude` is left out of a folder.

    Raises:
        ArchiveError: nothing there, not a kind that is read, or damaged from the start.
    """
    try:
        if path.is_dir():
            return Folder(path, exclude)
        if not path.exists():
            raise ArchiveError(f"no archive at {path}; give {KINDS}")
        root = None if reading.root is None else Path(reading.root).expanduser()
        return open_file(LocalFile(path), LocalFiles(path.resolve().parent, root), reading)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be opened: {error.strerror}") from None


def open_file(file: ArchiveFile, files: Files, reading: Reading = Reading()) -> Archive:
    """The archive in a file, its kind told by its content, else by its name.

    `files` are those that a list's paths mean.

    Raises:
        ArchiveError: not a kind that is read, or damaged from the start.
        OSError: the storage cannot give its bytes.
    """
    extension = PurePath(file.name).suffix.lower().lstrip(".")
    if is_parquet(file) or extension == "parquet":
        return Parquet(file, files, reading.image_column, reading.name_column)
    if is_tar(file):
        return Tar(file)
    if extension == "zip" or is_zip(file):
        return Zip(file)
    if extension in EXTENSIONS:
        raise ArchiveError(f"{file.name} is a single picture; give the folder it lies in ({KINDS})")
    if is_list(file):
        return FileList(file, files, reading.image_column)
    raise ArchiveError(f"{file.name} is none of the archives that are read: {KINDS}")


def open_archives(
    paths: Sequence[Path], exclude: Path | None = None, reading: Reading = Reading()
) -> dict[Path, Archive]:
    """The archives by path as given, in that order; the same archive twice counts once.

    Raises:
        ArchiveError: see `open_archive`; or an archive with nothing in it but files that
            are no pictures by their names.
    """
    given: dict[str, Path] = {}
    for path in paths:
        given.setdefault(os.path.realpath(path), path)
    archives = {}
    for path in given.values():
        archives[path] = open_archive(path, exclude, reading)
        if all(member.reason in _NO_PICTURES for member in archives[path].members()):
            raise ArchiveError(
                f"{path} holds no pictures: no file with a picture's extension"
                f" ({', '.join(sorted(EXTENSIONS))}) or with none at all"
                f"{_hint(path)}"
            )
    return archives


_NO_PICTURES = ("other_file_type", "hidden_file")


def _hint(path: Path) -> str:
    """What to give instead of a folder of archives."""
    inside = [p for p in sorted(path.iterdir()) if p.is_file()] if path.is_dir() else []
    ends = [p.suffix for p in inside if p.suffix.lower() in _ARCHIVES]
    return f"; to caption the archives in it, give them: {path}/*{ends[0]}" if ends else ""


_ARCHIVES = {".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".zip", ".parquet"}


def name_sources(archives: Mapping[Path, Archive], known: Mapping[str, str]) -> list[Source]:
    """The archives under their names in the table.

    A name is the path's last part; where two archives of this run share it, or the table
    knows it for another archive that still exists, the path as given. `known` is the
    table's names and the paths they stood for: an archive found there keeps its name.
    """
    names_of = {path: name for name, path in known.items()}
    shared = Counter(_base_name(path) for path in archives)
    sources = []
    for path, archive in archives.items():
        real, base = text_name(os.path.realpath(os.fsencode(path))), _base_name(path)
        # An archive that was moved is known by its name, once its old place is empty.
        taken = shared[base] > 1 or (base in known and Path(known[base]).exists())
        name = names_of.get(real) or (text_name(os.fsencode(path)) if taken else base)
        sources.append(Source(name, real, archive))
    return sources


def _base_name(path: Path) -> str:
    # `.` and `..` have no name of their own; a link keeps the name it was given.
    name = path.name if path.name not in ("", "..") else path.resolve().name
    return text_name(os.fsencode(name or "/"))
