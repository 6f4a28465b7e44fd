"""Files of registered versions: stored, attached, fetched, and where they lie on this machine.

WORK/models/NAME/VERSION             a version's files out of a store elsewhere, fetched once
WORK/models/NAME/VERSION-evidence    its evidence, fetched when it is asked for: it changes
"""

from __future__ import annotations

import shutil
import urllib.parse
import urllib.request
from pathlib import Path

from pipeline import storage
from pipeline.tracking.pyfunc import pyfunc_files
from pipeline.tracking.runs import Runs
from pipeline.tracking.store import ARTIFACTS
from pipeline.tracking.version import CAPTIONER, EVIDENCE, ModelVersion, gone


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

    def fetch(self, version: ModelVersion) -> Path:
        """All files of a version on this machine.

        Raises:
            ModelNotFoundError: they are gone.
        """
        local = self._files(version.source)
        if local is not None:
            if not local.is_dir():
                raise gone(version.ref, local)
            return local
        target = self.cached_files(version)[0]
        if not target.is_dir():
            self._download(version, version.folder, target)
        return target

    def fetch_evidence(self, version: ModelVersion) -> Path:
        """The folder of a version's evidence on this machine, as it is now; there or not."""
        local = self._files(version.source)
        if local is not None:
            return local / EVIDENCE
        target = self.cached_files(version)[1]
        names = self.client.list_artifacts(version.run_id, version.folder)
        if any(Path(one.path).name == EVIDENCE for one in names):
            self._download(version, f"{version.folder}/{EVIDENCE}", target)
        return target

    def _download(self, version: ModelVersion, folder: str, target: Path) -> None:
        with storage.commit_directory(target) as new:
            # MLflow puts the files into `new`, or into a folder of their name in there.
            place = Path(self.client.download_artifacts(version.run_id, folder, str(new)))
            inner = place.relative_to(new).parts
            if inner:
                for path in place.iterdir():
                    path.rename(new / path.name)
                shutil.rmtree(new / inner[0])

    def cached_files(self, version: ModelVersion) -> tuple[Path, Path]:
        """Where a version's files and its evidence are put that come from a store elsewhere."""
        folder = self.work / "models" / version.name
        return folder / str(version.version), folder / f"{version.version}-{EVIDENCE}"

    def places(self, version: ModelVersion) -> list[Path]:
        """The folders on this machine that hold files of a version; nothing is fetched."""
        path = self._files(version.source)
        folders = [*self.cached_files(version), *([] if path is None else [path])]
        return [folder for folder in folders if folder.is_dir()]

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
