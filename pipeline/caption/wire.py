"""What a run and its captioning processes say to each other: frames of JSON, no pickle.

A frame is two lengths, a JSON object and a body. The run says `start`, `caption` and `copies`;
a process says `ready`, `alive`, `find`, `step`, `progress`, `done` and `error`.
"""

from __future__ import annotations

import base64
import io
import json
import os
import struct
import traceback
from collections.abc import Sequence
from dataclasses import fields
from typing import IO, Any, NamedTuple

from pipeline import errors
from pipeline.caption.loader import Loader
from pipeline.caption.members import Member, Sidecar
from pipeline.caption.plan import Unit
from pipeline.caption.schema import COLUMNS, Row
from pipeline.caption.tasks import Killer, Task
from pipeline.config import CaptionConfig
from pipeline.errors import CaptionmillError
from pipeline.masking import masked

_LENGTHS = struct.Struct("<IQ")
_FIELDS = tuple(field.name for field in fields(Member))


class Frame(NamedTuple):
    """One message."""

    kind: str
    head: dict[str, Any]
    body: bytes = b""


def send(stream: IO[bytes], kind: str, head: dict[str, Any], body: bytes = b"") -> None:
    """Write a frame.

    Raises:
        OSError: the other side is gone.
    """
    text = json.dumps([kind, head]).encode()
    stream.write(_LENGTHS.pack(len(text), len(body)) + text)
    stream.write(body)
    stream.flush()


def receive(stream: IO[bytes]) -> Frame | None:
    """Read a frame; None if the other side is gone, in the middle of one or before it."""
    lengths = stream.read(_LENGTHS.size)
    if len(lengths) < _LENGTHS.size:
        return None
    of_text, of_body = _LENGTHS.unpack(lengths)
    text, body = stream.read(of_text), stream.read(of_body)
    if len(text) < of_text or len(body) < of_body:
        return None
    kind, head = json.loads(text)
    return Frame(kind, head, body)


def to_bytes(kind: str, head: dict[str, Any], body: bytes = b"") -> bytes:
    """A frame, for who passes on whole ones."""
    stream = io.BytesIO()
    send(stream, kind, head, body)
    return stream.getvalue()


def from_bytes(content: bytes) -> Frame:
    """The inverse of `to_bytes`."""
    frame = receive(io.BytesIO(content))
    assert frame is not None, "half a frame"
    return frame


def error_to_json(error: BaseException) -> dict[str, Any]:
    """What a process met: in its words, if it is one of ours, else with where it was met."""
    known = isinstance(error, CaptionmillError)
    text = str(error) if known else masked("".join(traceback.format_exception(error)))
    return {"type": type(error).__name__ if known else None, "text": text}


def error_from_json(head: dict[str, Any]) -> Exception:
    """The inverse of `error_to_json`; a RuntimeError where it is none of ours."""
    known = getattr(errors, head["type"] or "", None)
    if isinstance(known, type) and issubclass(known, CaptionmillError):
        return known(head["text"])
    return RuntimeError(f"a captioning process failed:\n{head['text']}")


def start_to_json(config: CaptionConfig, loader: Loader, number: int) -> dict[str, Any]:
    """What a worker is told first: the settings, what loads its captioner, and its number."""
    return {
        "config": config.model_dump(mode="json"),
        "loader": loader.model_dump(mode="json"),
        "number": number,
    }


def task_to_json(task: Task) -> dict[str, Any]:
    """A task in plain values."""
    return {
        "id": task.unit.id,
        "source": task.unit.source,
        "members": [[_plain(getattr(m, name)) for name in _FIELDS] for m in task.unit.members],
        "killers": [[*key, *killer] for key, killer in task.killers.items()],
        "careful": task.careful,
        "alone": sorted(task.alone),
    }


def task_from_json(value: dict[str, Any]) -> Task:
    """The inverse of `task_to_json`."""
    members = [
        Member(**{name: _restored(name, cell) for name, cell in zip(_FIELDS, cells, strict=True)})
        for cells in value["members"]
    ]
    killers = {(name, number): Killer(*rest) for name, number, *rest in value["killers"]}
    unit = Unit(value["id"], value["source"], members)
    return Task(unit, killers, value["careful"], frozenset(value["alone"]))


def first_input(task: dict[str, Any]) -> str | None:
    """The path, below a folder, of the first picture of a task in plain values."""
    for cells in task["members"]:
        member = dict(zip(_FIELDS, cells, strict=True))
        if member["reason"] is None and member["code"] is None:
            raw = _restored("raw", member["raw"])
            return os.fsdecode(raw) if raw is not None else member["name"]
    return None


def _plain(value: Any) -> Any:
    return {"base64": base64.b64encode(value).decode()} if isinstance(value, bytes) else value


def _restored(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return tuple(Sidecar(*cells) for cells in value) if name == "sidecars" else value


def rows_to_bytes(rows: Sequence[Row]) -> bytes:
    """Rows as JSON: their cells in the order of the columns.

    Arrow would take twice as long for so few rows, and import pandas, where there is one.
    """
    return json.dumps([[getattr(row, name) for name in COLUMNS] for row in rows]).encode()


def rows_from_bytes(content: bytes) -> list[Row]:
    """The inverse of `rows_to_bytes`."""
    return [Row(*cells) for cells in json.loads(content)]
