"""What holds a captioning process on a node of a Ray cluster, and passes on what is said.

The process is the local engine's, so that a decoder that crashes costs the process and not the actor,
which can then tell how it ended: of an actor that died, Ray does not tell. Imported by Ray's workers;
knows nothing of Ray itself.
"""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator

from pipeline.caption import wire
from pipeline.caption.loader import Loader
from pipeline.caption.process import Process
from pipeline.caption.ray_paths import is_here
from pipeline.caption.room import cores
from pipeline.caption.versions import versions
from pipeline.config import CaptionConfig
from pipeline.errors import ArchiveError


class CaptionWorker:
    """One captioning process; `frames` is called once, and `send` beside it, in order."""

    def __init__(self, start: bytes, cpus: int) -> None:
        """Start the process; `start` is its first frame, `cpus` how many cores Ray gave it."""
        # Ray sets it where nobody did, and a model without threads of its own would follow it.
        os.environ.pop("OMP_NUM_THREADS", None)
        head = wire.from_bytes(start).head
        share = {"workers": max(1, cores() // cpus)}
        config = CaptionConfig.model_validate(head["config"]).model_copy(update=share)
        self._process = Process(config, Loader.model_validate(head["loader"]), head["number"])
        self._refusal: ArchiveError | None = None

    def frames(self) -> Iterator[bytes]:
        """`at`, then what the process says; `gone` and how, or `error`, is the last frame."""
        yield wire.to_bytes("at", {"node": socket.gethostname(), "versions": versions()})
        try:
            while (frame := self._process.receive()) is not None:
                yield wire.to_bytes(*frame)
        except Exception as error:  # noqa: BLE001  the run raises it
            yield wire.to_bytes("error", wire.error_to_json(error))
            return
        how, crashed = self._process.autopsy()
        if self._refusal is not None:
            yield wire.to_bytes("error", wire.error_to_json(self._refusal))
        else:
            yield wire.to_bytes("gone", {"how": how, "crashed": crashed})

    def send(self, content: bytes) -> None:
        """Pass a frame on to the process; a unit only if this node sees its archive."""
        frame = wire.from_bytes(content)
        landmark = frame.head.get("landmark")
        # A disk that is not mounted must not become rows of pictures that are gone.
        if landmark is not None and not is_here(landmark):
            path, size = landmark
            self._refusal = ArchiveError(f"there is no {path} of {size:,} bytes here")
            os.kill(self._process.pid, signal.SIGKILL)
            return
        self._process.send(frame.kind, frame.head)
