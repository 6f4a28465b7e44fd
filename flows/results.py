"""The commands that score results files of any system: no model, no settings, no work directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from flows import results_report

if TYPE_CHECKING:
    from pipeline.metrics import DocumentFrequencies

FILE = click.Path(path_type=Path)

references_option = click.option(
    "--references",
    required=True,
    metavar="FILE",
    type=FILE,
    help="COCO captions JSON: the images to score and their captions.",
)
allow_missing_option = click.option(
    "--allow-missing",
    is_flag=True,
    help="Score images without a prediction as empty captions instead of stopping.",
)
frequencies_option = click.option(
    "--document-frequencies",
    "frequencies_path",
    metavar="FILE",
    type=FILE,
    help="CIDEr's stored table.  [default: the references' own, as coco-caption]",
)
seed_option = click.option(
    "--seed",
    default=0,
    show_default=True,
    metavar="N",
    type=click.IntRange(min=0),
    help="Of the resampling.",
)


@click.command("score-captions")
@references_option
@click.option(
    "--predictions",
    "predictions_path",
    required=True,
    metavar="FILE",
    type=FILE,
    help='COCO results JSON: [{"image_id": 42, "caption": "..."}, ...].',
)
@click.option("--out", metavar="FILE", type=FILE, help="Write the scores here, as JSON.")
@click.option("--per-image", metavar="FILE", type=FILE, help="Write a row an image, as Parquet.")
@allow_missing_option
@frequencies_option
@click.option(
    "--resamples",
    default=0,
    metavar="N",
    type=click.IntRange(0, 1_000_000),
    help="Print 95 % intervals from N bootstrap resamples; 10000 is usual.",
)
@seed_option
@click.option("--meteor", "with_meteor", is_flag=True, help="METEOR too; needs Java.")
def score_captions(
    references: Path,
    predictions_path: Path,
    out: Path | None,
    per_image: Path | None,
    allow_missing: bool,
    frequencies_path: Path | None,
    resamples: int,
    seed: int,
    with_meteor: bool,
) -> None:
    """Score the captions of any system.

    BLEU, ROUGE-L and CIDEr: the numbers are coco-caption's. Image ids must be those of the references, each once.

    \b
    Examples:
      captionmill score-captions --references captions.json --predictions results.json
      captionmill score-captions --references captions.json --predictions b.json --out scores.json
      captionmill score-captions --references captions.json --predictions b.json --resamples 10000
    """
    from pipeline.metrics import score_captions as metrics_of
    from pipeline.metrics.bootstrap import confidence_intervals
    from pipeline.metrics.meteor import METEOR, meteor_scores, require_meteor
    from pipeline.results import output
    from pipeline.results.predictions import read_predictions
    from pipeline.results.references import read_references

    inputs = [references, predictions_path, *([frequencies_path] if frequencies_path else [])]
    output.check_outputs(inputs, {"--out": out, "--per-image": per_image})
    if with_meteor:
        require_meteor()
    captions = read_references(references)
    predictions = read_predictions(predictions_path, captions, allow_missing)
    frequencies = stored(frequencies_path)
    scores = metrics_of(captions.captions, predictions.captions, frequencies)
    intervals = confidence_intervals(scores, resamples, seed) if resamples else None
    meteor = meteor_scores(captions.captions, predictions.captions) if with_meteor else None
    if out is not None:
        source = (frequencies_path, frequencies) if frequencies_path and frequencies else None
        output.write_scores(out, captions, predictions, scores, source, intervals, meteor)
    if per_image is not None:
        output.write_per_image(per_image, captions, predictions, scores, meteor)
    click.echo(
        results_report.about_captions(
            captions, predictions, scores, intervals, (METEOR, meteor[0]) if meteor else None
        )
    )


@click.command()
@click.argument("path_a", metavar="A", type=FILE)
@click.argument("path_b", metavar="B", type=FILE)
@references_option
@allow_missing_option
@frequencies_option
@click.option(
    "--resamples",
    default=10_000,
    show_default=True,
    metavar="N",
    type=click.IntRange(1, 1_000_000),
    help="Bootstrap resamples.",
)
@seed_option
@click.option("--out", metavar="FILE", type=FILE, help="Write the comparison here, as JSON.")
def compare(
    path_a: Path,
    path_b: Path,
    references: Path,
    allow_missing: bool,
    frequencies_path: Path | None,
    resamples: int,
    seed: int,
    out: Path | None,
) -> None:
    """Compare the captions of two systems.

    Is B better than A, or is it chance? A and B are COCO results files. Prints each metric's difference, its 95 % interval and
    p-value, and the ten images that gained and the ten that lost most.

    \b
    Examples:
      captionmill compare old.json new.json --references captions.json
      captionmill compare old.json new.json --references captions.json --out comparison.json
    """
    from pipeline.results import output
    from pipeline.results.comparison import compare_predictions
    from pipeline.results.predictions import read_predictions
    from pipeline.results.references import read_references

    inputs = [references, path_a, path_b, *([frequencies_path] if frequencies_path else [])]
    output.check_outputs(inputs, {"--out": out})
    captions = read_references(references)
    a = read_predictions(path_a, captions, allow_missing)
    b = read_predictions(path_b, captions, allow_missing)
    frequencies = stored(frequencies_path)
    comparison = compare_predictions(captions, a, b, frequencies, resamples, seed)
    if out is not None:
        source = (frequencies_path, frequencies) if frequencies_path and frequencies else None
        output.write_comparison(out, captions, a, b, comparison, source)
    click.echo(results_report.about_comparison(captions, a, b, comparison))


@click.command("document-frequencies")
@click.argument("references", metavar="REFERENCES", type=FILE)
@click.option("--out", required=True, metavar="FILE", type=FILE, help="The table, as Parquet.")
def document_frequencies(references: Path, out: Path) -> None:
    """Count a captions file's n-grams for CIDEr.

    Scored with a stored table of the training split, CIDEr of a subset can be compared with
    CIDEr of the whole.

    \b
    Examples:
      captionmill document-frequencies captions_train.json --out frequencies.parquet
    """
    from pipeline.metrics import References
    from pipeline.results import output
    from pipeline.results.references import read_references

    output.check_outputs([references], {"--out": out})
    frequencies = References(read_references(references).captions).document_frequencies
    frequencies.save(out)
    click.echo(results_report.about_frequencies(str(out), frequencies))


def stored(path: Path | None) -> DocumentFrequencies | None:
    """The table in `path`, if one was given.

    Raises:
        DataError: it is no table, or one that counts the ends of captions, which scores do not.
    """
    from pipeline.metrics import DocumentFrequencies

    return None if path is None else DocumentFrequencies.load(path)
