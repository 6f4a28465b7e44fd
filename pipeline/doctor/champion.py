"""The captioner that bulk runs use: fetched, loaded, and given a picture."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.config import load_config
from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong
from pipeline.errors import ModelError, ModelNotFoundError
from pipeline.tracking import Tracker
from pipeline.tracking.refs import parse_ref
from pipeline.tracking.version import ModelVersion

SUBJECT = "captioner"
DAMAGED = "put its files back from a backup, or captionmill rollback --reason damaged"


def check(inputs: Inputs) -> Iterator[Finding]:
    """On the CPU, which every machine has; a server's files go to a folder that is removed."""
    settings = load_config(inputs.config, inputs.overrides)
    ref, tracker = settings.caption.model, Tracker(Path(inputs.work))
    if not Path(ref).is_dir() and tracker.unused():
        yield ok(SUBJECT, "none yet: nothing was trained or registered in this work directory")
        return
    with tempfile.TemporaryDirectory() as elsewhere:
        work = Path(inputs.work) if tracker.local else Path(elsewhere)
        try:
            yield _captions(ref, work)
        except ModelNotFoundError as error:
            says = wrong if _registered(tracker, ref) else warning
            yield says(SUBJECT, str(error), "")
        except ModelError as error:
            yield wrong(SUBJECT, str(error), DAMAGED)
    if not tracker.local and not Path(ref).is_dir():
        yield from _fetched(tracker, _registered(tracker, ref))


def _registered(tracker: Tracker, ref: str) -> ModelVersion | None:
    name, alias, version = parse_ref(ref)
    return tracker.find(name, version if alias is None else tracker.aliases(name).get(alias))


def _fetched(tracker: Tracker, version: ModelVersion | None) -> Iterator[Finding]:
    """The copy that runs on this machine use, fetched once: it may be damaged since."""
    if version is None or not (copy := tracker.cached_files(version)[0]).is_dir():
        return
    from pipeline.models.saved import SavedCaptioner

    try:
        SavedCaptioner.load(version.directory)
    except ModelError as error:
        yield wrong(SUBJECT, str(error), f"delete {copy}: the next run fetches it again")


def _captions(ref: str, work: Path) -> Finding:
    from PIL import Image

    from pipeline.predict import load_captioner

    picture = io.BytesIO()
    Image.new("RGB", (64, 48), (90, 140, 200)).save(picture, "PNG")
    captioner = load_captioner(ref, work, device="cpu")
    (caption,) = captioner.caption([picture.getvalue()])
    if not caption.text.strip():
        mend = "captionmill explain on a picture of yours; captionmill rollback if it is no better"
        return wrong(SUBJECT, f"{captioner.ref} loads, and says nothing", mend)
    return ok(SUBJECT, f"{captioner.ref} loads, and captions")
