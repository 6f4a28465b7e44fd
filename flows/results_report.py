"""What `score-captions`, `compare` and `document-frequencies` print.

Captions, ids and file names are data of strangers: nothing of them reaches a terminal raw.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from flows.report import METRICS, escaped, lines, number, shown

if TYPE_CHECKING:  # these bring numpy and pyarrow, which a command line's start does not need
    from pipeline.metrics import DocumentFrequencies, Scores
    from pipeline.metrics.bootstrap import Interval
    from pipeline.results.comparison import ChangedImage, Comparison
    from pipeline.results.predictions import Predictions
    from pipeline.results.references import ReferenceCaptions

WIDTH = 88
"""Characters of a caption, beside its label, on a line of 100 or so."""


def about_captions(
    references: ReferenceCaptions,
    predictions: Predictions,
    scores: Scores,
    intervals: Mapping[str, Interval] | None = None,
    meteor: tuple[str, float] | None = None,
) -> str:
    """The summary of `score-captions`; `meteor` is where METEOR comes from and its score."""
    rows = [["x100", "score", "" if intervals is None else "95 % interval"]]
    for metric, title in METRICS.items():
        found = None if intervals is None else intervals[metric]
        bounds = "" if found is None else f"{_hundredths(found.low)} .. {_hundredths(found.high)}"
        rows.append([title, _hundredths(scores.corpus[metric]), bounds])
    source = []
    if meteor is not None:
        rows.append(["METEOR", _hundredths(meteor[1]), ""])
        source = [f"METEOR comes from {meteor[0]}"]
    head = [("references", _references(references)), ("predictions", _predictions(predictions))]
    return "\n".join([lines(head), "", table(rows), *source, "", f"signature  {scores.signature}"])


def about_comparison(
    references: ReferenceCaptions, a: Predictions, b: Predictions, comparison: Comparison
) -> str:
    """The summary of `compare`."""
    rows = [["x100", "A", "B", "B - A", "95 % interval", "p"]]
    for metric, title in METRICS.items():
        found = comparison.metrics[metric]
        rows.append(
            [
                title,
                _hundredths(found.a),
                _hundredths(found.b),
                _signed(found.difference),
                f"{_signed(found.low)} .. {_signed(found.high)}",
                f"{found.p_value:.4f}" if found.p_value >= 0.00005 else "<0.0001",
            ]
        )
    head = [
        ("references", _references(references)),
        ("A", _predictions(a)),
        ("B", _predictions(b)),
    ]
    return "\n".join(
        [
            lines(head),
            "",
            table(rows),
            f"paired bootstrap over images, {comparison.resamples:,} resamples, "
            f"seed {comparison.seed}; p is two-sided",
            *_caution(len(references.ids)),
            "",
            *_images("gained", "no image's CIDEr is higher with B", comparison.gained),
            "",
            *_images("lost", "no image's CIDEr is lower with B", comparison.lost),
            "",
            f"signature  {comparison.signature}",
        ]
    )


def _caution(images: int) -> list[str]:
    from pipeline.metrics.bootstrap import FEW_IMAGES

    if images >= FEW_IMAGES:
        return []
    return [f"fewer than {FEW_IMAGES} images: intervals and p are rough, and no proof"]


def about_frequencies(path: str, frequencies: DocumentFrequencies) -> str:
    """The summary of `document-frequencies`."""
    return lines(
        [
            ("table", printable(shown(path))),
            (
                "counted",
                f"{len(frequencies.table):,} n-grams of {number(frequencies.images, 'image')}",
            ),
            ("fingerprint", frequencies.fingerprint),
        ]
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """Columns two spaces apart: the first to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def printable(text: str, longest: int | None = None) -> str:
    """`text` on one line: white space as single spaces, control characters spelt out, cut."""
    text = escaped(" ".join(text.split()))
    return text if longest is None or len(text) <= longest else f"{text[: longest - 1]}…"


def _images(verb: str, none: str, images: Sequence[ChangedImage]) -> list[str]:
    if not images:
        return [none]
    text = [f"{verb} most CIDEr with B:"]
    for image in images:
        name = f"  {printable(image.file_name, WIDTH)}" if image.file_name else ""
        text.append(
            f"  {_signed(image.cider_b - image.cider_a)}  "
            f"({_hundredths(image.cider_a)} to {_hundredths(image.cider_b)})  "
            f"image {printable(str(image.image_id), WIDTH)}{name}"
        )
        text.append(f"    A  {printable(image.caption_a, WIDTH) or '(empty)'}")
        text.append(f"    B  {printable(image.caption_b, WIDTH) or '(empty)'}")
    return text


def _references(references: ReferenceCaptions) -> str:
    return (
        f"{printable(str(references.path))}: {number(len(references.ids), 'image')}, "
        f"{number(references.number_of_captions, 'caption')}"
    )


def _predictions(predictions: Predictions) -> str:
    given = len(predictions.captions) - predictions.missing
    missing = (
        f", {number(predictions.missing, 'image')} missing and scored as empty captions"
        if predictions.missing
        else ""
    )
    return f"{printable(str(predictions.path))}: {number(given, 'caption')}{missing}"


def _hundredths(score: float) -> str:
    return f"{100 * score:.2f}"


def _signed(score: float) -> str:
    return f"{100 * score:+.2f}"
