"""Files of registered versions: stored, attached, fetched, and where they lie on this machine."""

from __future__ import annotations

import shutil
import urllib.parse
import urllib.request
from pathlib import Path

from pipeline import storage
from pipeline.tracking.pyfunc import pyfunc_files
from pipeline.tracking.runs import Runs
from pipeline.tracking.store import ARTIFACTS
from pipeline.tracking.version import CAPTIONER, ModelVersion, gone


class Files(Runs):
    """The files of a store's registered versions."""

    def store_files(self, run_id: str, directory: Path, folder: str) -> None:
        """Copy a captioner, and what makes a pyfunc of it, to a run's artifacts."""
        client = self.client  # without MLflow this is where it is told
        with pyfunc_files(directory) as around:
            client.log_artifacts(run_id, str(around), folder)
        client.log_artifacts(run_id, str(directory), f"{folder}/{CAPTIONER}")

    def attach(self, version: ModelVersion, file: Path, folder: str) -> None:
        """Copy a file into `folder` of a version's files."""
        self.client.log_artifact(version.run_id, str(file), f"{version.folder}/{folder}")

    def _fetch(self, version: ModelVersion) -> Path:
        local = self._files(version.source)
        if local is not None:
            if not local.is_dir():
                raise gone(version.ref, local)
            return local
        target = self.work / "models" / version.name / str(version.version)
        if not target.is_dir():
            with storage.commit_directory(target) as new:
                # MLflow puts the files into `new`, or into a folder of their name in there.
                folder = Path(
                    self.client.download_artifacts(version.run_id, version.folder, str(new))
                )
                inner = folder.relative_to(new).parts
                if inner:
                    for path in folder.iterdir():
                        path.rename(new / path.name)
                    shutil.rmtree(new / inner[0])
        return target

    def local_files(self, version: ModelVersion) -> Path | None:
        """Where a version's files lie in this work directory, without fetching them."""
        path = self._files(version.source)
        return path if path is not None and path.is_dir() else None

    def _files(self, source: str) -> Path | None:
        """Where a version's files lie on this machine; none if the store is elsewhere.

        MLflow keeps absolute addresses. In a work directory that was moved or copied the
        files are those that came along with it.
        """
        path = local_path(source)
        if path is not None and self.local and ARTIFACTS in path.parts:
            below = path.parts[::-1].index(ARTIFACTS) + 1
            here = self.work.joinpath(*path.parts[-below:])
            return here if here.is_dir() else path
        return path


def directory_fingerprint(directory: Path) -> str:
    """Of the names and bytes of all files below `directory`."""
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    return storage.fingerprint(
        {path.relative_to(directory).as_posix(): storage.sha256_file(path) for path in files}
    )


def local_path(source: str) -> Path | None:
    """The path that a `file:` URI or a plain path names; none for any other URI."""
    parsed = urllib.parse.urlsplit(source)
    if parsed.scheme == "file":
        return Path(urllib.request.url2pathname(parsed.path))
    return None if parsed.scheme else Path(source)
