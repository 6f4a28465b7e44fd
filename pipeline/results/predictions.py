"""Predictions: a results file in COCO's format, one caption an image, in the references' order."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import PredictionsError
from pipeline.json_text import kind
from pipeline.results.json_file import ImageId, JsonFile, same_id
from pipeline.results.references import ReferenceCaptions, named


@dataclass(frozen=True)
class Predictions:
    """One system's captions of the images of some references, in their order."""

    path: Path
    sha256: str
    """Of the file's bytes."""
    captions: list[str]
    missing: int
    """Images without a prediction, whose caption is empty."""


def read_predictions(
    path: Path, references: ReferenceCaptions, allow_missing: bool = False
) -> Predictions:
    """Read `[{"image_id": ..., "caption": ...}, ...]`, as the COCO server takes it.

    Ids are compared as text: `"42"` is the image 42. Other keys of an entry do not matter.

    Args:
        path: the results file.
        references: whose images are to be scored; each needs exactly one caption.
        allow_missing: give images without a prediction an empty caption.

    Raises:
        PredictionsError: the file is missing or malformed, or its image ids are not those of the
            references: one error that counts missing, doubled and unknown ids and names the
            first few of each.
    """
    file = JsonFile.read(path, PredictionsError)
    if not isinstance(file.value, list):
        hint = ""
        if isinstance(file.value, dict) and "annotations" in file.value:
            hint = "; is it the references?"
        raise file.refuse(
            'predictions must be a list of {"image_id": ..., "caption": ...}, '
            f"not {kind(file.value)}{hint}"
        )
    ids: dict[str, ImageId] = {}
    captions: dict[str, str] = {}
    doubled: dict[str, ImageId] = {}
    for position, entry in enumerate(file.value):
        place = f"entry {position}"
        image_id = file.image_id(place, entry, "image_id")
        caption = file.caption(place, entry)
        if same_id(image_id) in captions:
            doubled[same_id(image_id)] = image_id
        ids[same_id(image_id)] = image_id
        captions[same_id(image_id)] = caption
    wanted = {same_id(image_id): image_id for image_id in references.ids}
    missing = [image_id for key, image_id in wanted.items() if key not in captions]
    unknown = [image_id for key, image_id in ids.items() if key not in wanted]
    complaints, ways_out = [], []
    if missing and not allow_missing:
        complaints.append(f"{len(missing):,} of {len(wanted):,} missing ({named(missing)})")
        ways_out.append("--allow-missing scores missing images as empty captions")
    if doubled:
        complaints.append(f"{len(doubled):,} doubled ({named(list(doubled.values()))})")
        ways_out.append("keep one caption an image")
    if unknown:
        complaints.append(f"{len(unknown):,} unknown ({named(unknown)})")
        ways_out.append("remove unknown ids or give references that have them")
    if complaints:
        raise file.refuse(
            f"its image ids are not those of {references.path}: {', '.join(complaints)}; "
            f"{'; '.join(ways_out)}"
        )
    return Predictions(path, file.sha256, [captions.get(key, "") for key in wanted], len(missing))
