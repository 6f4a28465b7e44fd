"""The captioner that bulk runs use: fetched, loaded, and given a picture."""

from __future__ import annotations

import io
import tempfile
from collections.abc import Iterator
from pathlib import Path

from pipeline.config import load_config
from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong
from pipeline.errors import ModelNotFoundError
from pipeline.tracking import Tracker
from pipeline.tracking.refs import parse_ref

SUBJECT = "captioner"


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
            says = wrong if _is_registered(tracker, ref) else warning
            yield says(SUBJECT, str(error), "")


def _is_registered(tracker: Tracker, ref: str) -> bool:
    name, alias, version = parse_ref(ref)
    number = version if alias is None else tracker.aliases(name).get(alias)
    return tracker.find(name, number) is not None


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
