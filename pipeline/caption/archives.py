"""Paths a user gives, as archives with the `source` names that their rows carry."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from types import MappingProxyType
from typing import TYPE_CHECKING

from pipeline.caption.files import ArchiveFile, Files, LocalFile, LocalFiles
from pipeline.caption.folder import Folder
from pipeline.caption.lists import FileList, is_list
from pipeline.caption.members import EXTENSIONS, FAILED, Archive, Member, text_name
from pipeline.caption.objects import AnyFiles, Prefix, RemoteFiles, open_remote
from pipeline.caption.parquets import Parquet, is_parquet
from pipeline.caption.tars import Tar, is_tar
from pipeline.caption.zips import Zip, is_zip
from pipeline.errors import ArchiveError, ImageError
from pipeline.remote import Location, RemotePath, is_url, location

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
    """Absolute, links resolved; or a URL."""
    archive: Archive


def open_archive(
    path: Location, exclude: Location | None = None, reading: Reading = Reading()
) -> Archive:
    """The archive at `path`, its kind told by its content; `exclude` is left out of a folder.

    Raises:
        ArchiveError: nothing there, not a kind that is read, or damaged from the start.
        StorageError: object storage cannot be reached, or refuses.
    """
    if isinstance(path, RemotePath):
        found = open_remote(path, exclude if isinstance(exclude, RemotePath) else None)
        if isinstance(found, Prefix):
            return found
        return open_file(found, _files(path.parent, reading), reading)
    exclude = exclude if isinstance(exclude, Path) else None
    try:
        if path.is_dir():
            return Folder(path, exclude)
        if not path.exists():
            raise ArchiveError(f"no archive at {path}; give {KINDS}")
        return open_file(LocalFile(path), _files(path.resolve().parent, reading), reading)
    except OSError as error:
        raise ArchiveError(f"{path} cannot be opened: {error.strerror}") from None


def _files(base: Location, reading: Reading) -> Files:
    """What the paths of a list at `base` mean: `caption.root` says where they start, and end."""
    if reading.root is not None and is_url(reading.root):
        root = location(reading.root)
        assert isinstance(root, RemotePath)
        return RemoteFiles(root, confined=True)
    if isinstance(base, RemotePath) and reading.root is None:
        return RemoteFiles(base)
    if reading.root is None:
        assert isinstance(base, Path)
        return AnyFiles(LocalFiles(base))
    root = Path(reading.root).expanduser()
    return LocalFiles(root, root)


def open_file(file: ArchiveFile, files: Files, reading: Reading = Reading()) -> Archive:
    """The archive in a file, its kind told by its content, else by its name.

    `files` are those that a list's paths mean.

    Raises:
        ArchiveError: not a kind that is read, or damaged from the start.
        OSError: the storage cannot give its bytes.
    """
    try:
        return _of_kind(file, files, reading)
    except BaseException:
        file.close()
        raise


def _of_kind(file: ArchiveFile, files: Files, reading: Reading) -> Archive:
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


class Absent(Archive):
    """An archive that was here once; it lists nothing."""

    kind = "absent"

    def members(self) -> Iterator[Member]:
        """None."""
        return iter(())

    def read(self, member: Member, most: int) -> bytes:
        """Nothing to read."""
        raise ImageError(self.gone, FAILED[self.gone])


def open_archives(
    paths: Sequence[Location],
    exclude: Location | None = None,
    reading: Reading = Reading(),
    known: Mapping[str, str] = MappingProxyType({}),
    *,
    emptied: bool = False,
) -> dict[Location, Archive]:
    """The archives by path as given, in that order; the same archive twice counts once.

    `known` are the archives that the table has rows of; with `emptied` they may be empty or gone.

    Raises:
        ArchiveError: see `open_archive`; or an archive with nothing in it but files that
            are no pictures by their names.
    """
    before = set(known.values())
    given: dict[str, Location] = {}
    for path in paths:
        given.setdefault(_real(path), path)
    archives: dict[Location, Archive] = {}
    with contextlib.ExitStack() as undo:
        for path in given.values():
            had = text_name(os.fsencode(_real(path))) in before
            archive: Archive
            if emptied and had and not _exists(path):
                archive = Absent()
            else:
                archive = open_archive(path, exclude, reading)
            undo.callback(archive.close)
            if not (emptied and had):
                _require_pictures(path, archive, had)
            archives[path] = archive
        undo.pop_all()
    return archives


def _require_pictures(path: Location, archive: Archive, had: bool) -> None:
    """Refuse an archive without pictures; `had`: the table has rows of some."""
    if not all(member.reason in _NO_PICTURES for member in archive.members()):
        return
    if had:
        raise ArchiveError(
            f"{path} holds no pictures any more, and the table has rows of it: is its disk mounted?"
            " If they are deleted for good, --prune-all removes their rows"
        )
    raise ArchiveError(
        f"{path} holds no pictures: no file with a picture's extension"
        f" ({', '.join(sorted(EXTENSIONS))}) or with none at all{_hint(path)}"
    )


_NO_PICTURES = ("other_file_type", "hidden_file")


def _hint(path: Location) -> str:
    """What to give instead of a folder of archives."""
    inside: list[Location] = []
    if isinstance(path, RemotePath):
        inside += [entry.path for entry in path.entries()]
    elif path.is_dir():
        inside += [p for p in sorted(path.iterdir()) if p.is_file()]
    ends = [p.suffix for p in inside if p.suffix.lower() in _ARCHIVES]
    return f"; to caption the archives in it, give them: {path}/*{ends[0]}" if ends else ""


_ARCHIVES = {".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".zip", ".parquet"}


def name_sources(archives: Mapping[Location, Archive], known: Mapping[str, str]) -> list[Source]:
    """The archives under their names in the table.

    A name is the path's last part; where two archives of this run share it, or the table
    knows it for another archive that still exists, the path as given. `known` is the
    table's names and the paths they stood for: an archive found there keeps its name.
    """
    names_of = {path: name for name, path in known.items()}
    shared = Counter(_base_name(path) for path in archives)
    sources = []
    for path, archive in archives.items():
        real, base = text_name(os.fsencode(_real(path))), _base_name(path)
        # An archive that was moved is known by its name, once its old place is empty.
        taken = shared[base] > 1 or (base in known and _is_there(known[base]))
        name = names_of.get(real) or (text_name(os.fsencode(str(path))) if taken else base)
        sources.append(Source(name, real, archive))
    return sources


def _real(path: Location) -> str:
    return str(path) if isinstance(path, RemotePath) else os.path.realpath(path)


def _is_there(path: str) -> bool:
    return _exists(location(path))


def _exists(found: Location) -> bool:
    return found.exists() or (isinstance(found, RemotePath) and found.is_dir())


def _base_name(path: Location) -> str:
    if isinstance(path, RemotePath):
        return path.name
    # `.` and `..` have no name of their own; a link keeps the name it was given.
    name = path.name if path.name not in ("", "..") else path.resolve().name
    return text_name(os.fsencode(name or "/"))
