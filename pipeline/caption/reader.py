"""One member into a picture: bytes, digest, pixels, or why there are none."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from pipeline import images
from pipeline.caption.members import FAILED, SKIPPED, Archive, Member
from pipeline.caption.stages import Stages
from pipeline.caption.tasks import KILLERS, Killer
from pipeline.errors import ImageError

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(slots=True)
class Picture:
    """A member after reading and decoding: pixels, or why there are none."""

    member: Member
    size: int | None = None
    """Bytes."""
    sha256: str | None = None
    width: int | None = None
    height: int | None = None
    meta: str | None = None
    pixels: NDArray[np.uint8] | None = field(default=None, repr=False)
    """[3, size, size]."""
    code: str | None = None
    error: str | None = None


class Reader:
    """Members into pictures; may be called from several threads."""

    def __init__(
        self, transform: images.Transform, limits: images.Limits, stages: Stages | None = None
    ) -> None:
        self.transform, self.limits = transform, limits
        self.stages = stages if stages is not None else Stages()

    def load(
        self,
        archive: Archive,
        member: Member,
        killer: Killer | None = None,
        before_decode: Callable[[Picture], object] = lambda picture: None,
    ) -> Picture:
        """Read and decode one member. Whatever is wrong with it is in the result."""
        picture = Picture(member, size=member.size)
        if member.reason is not None:
            picture.error = SKIPPED[member.reason]
            return picture
        # Front to back, since a gzipped tar cannot go back: a sample's JSON may come first.
        early = bool(member.sidecars) and member.sidecars[0].offset < member.offset
        try:
            picture.meta = archive.meta(member) if early else None
            if killer is not None:
                picture.size, picture.sha256 = killer.size, killer.sha256
                raise ImageError(killer.code, KILLERS[killer.code])
            if member.code is not None:
                raise ImageError(member.code, FAILED[member.code])
            with self.stages.busy("read"):
                data = archive.read(member, self.limits.max_bytes)
                picture.size = len(data)
                picture.sha256 = hashlib.sha256(data).hexdigest()
            before_decode(picture)
            with self.stages.busy("decode"):
                probe = images.probe(data, self.limits)
                picture.width, picture.height = probe.width, probe.height
                picture.pixels = images.load(data, self.transform, self.limits)
        except ImageError as error:
            picture.code, picture.error = error.code, error.detail
        except Exception as error:
            error.add_note(f"while reading {member.name!r}")
            raise
        if not early:
            picture.meta = archive.meta(member)
        return picture
