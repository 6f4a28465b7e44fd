"""The command `explain`: paths are checked first, then the captioner is loaded and asked."""

from __future__ import annotations

import io
import json
from pathlib import Path

import click

from flows import direct, report
from flows.options import settings_options
from pipeline import storage
from pipeline.config import Config, load_config
from pipeline.errors import ConfigError, DataError, ImageError

STDOUT = Path("-")


@click.command()
@click.argument("image", metavar="IMAGE", type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="REF",
    help="NAME@alias, NAME/version or a directory.  [default: captioner@champion]",
)
@click.option("--out", metavar="FILE.png", type=click.Path(path_type=Path), help="The drawing.")
@click.option(
    "--json",
    "numbers",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Tokens, log-probabilities and maps as numbers; - prints them instead of the summary.",
)
@click.option("--beam", metavar="N", type=click.IntRange(1, 64), help="Default: the model's own.")
@settings_options
def explain(
    image: Path,
    model: str | None,
    out: Path | None,
    numbers: Path | None,
    beam: int | None,
    config: str | None,
    overrides: tuple[str, ...],
    work: Path,
) -> None:
    """Draw where the model looked for each word.

    Captions the picture, and draws it once a word with the word's attention over it.

    \b
    Examples:
      captionmill explain captionmill-work/demo/archive/000000.jpg --out why.png
      captionmill explain photo.jpg --model captioner/1 --beam 5 --json -
    """
    chosen = [f"caption.model={json.dumps(model)}"] if model is not None else []
    settings = load_config(config, [*overrides, *chosen])
    click.echo(explain_picture(settings, work, image, out=out, numbers=numbers, beam=beam))


def explain_picture(
    settings: Config,
    work: Path,
    image: Path,
    *,
    out: Path | None,
    numbers: Path | None,
    beam: int | None = None,
) -> str:
    """Caption `image`; draw where the model looked into `out`, write the numbers to `numbers`.

    The text for the terminal: a summary, or the numbers themselves where `numbers` is `-`.

    Raises:
        ConfigError: nothing is asked for, a path that cannot be read or written, or a name that
            is not .png.
        DataError: the file is no picture.
        ModelError: no such model, or a damaged one.
    """
    if out is None and numbers is None:
        raise ConfigError("explain writes nothing without --out FILE.png or --json FILE (or -)")
    if out is not None and out.suffix.lower() != ".png":
        raise ConfigError(f"--out {out}: the picture is a PNG; name it {out.with_suffix('.png')}")
    for option, path in (("--out", out), ("--json", numbers)):
        if path is not None and path != STDOUT:
            _check_writable(option, path)
    try:
        data = image.read_bytes()
    except OSError as error:
        raise ConfigError(f"picture {image}: {error.strerror}") from None
    direct.prepare_torch(settings)
    from pipeline.explain import draw, explain
    from pipeline.predict import load_captioner

    captioner = load_captioner(
        settings.caption.model,
        work,
        settings.device,
        settings.caption.dtype,
        settings.caption.consensus,
    )
    try:
        explanation = explain(captioner, data, settings.caption.beam if beam is None else beam)
    except ImageError as error:
        raise DataError(f"{image} is no picture that can be decoded: {error}") from None
    if out is not None:
        png = io.BytesIO()
        draw(explanation).save(png, "PNG")
        storage.commit(out, png.getvalue())
    content = {"image": str(image), "model": captioner.ref, **explanation.to_json()}
    document = json.dumps(content, ensure_ascii=False)
    if numbers == STDOUT:
        return document
    if numbers is not None:
        storage.commit(numbers, document + "\n")
    written = [("picture", out), ("numbers", numbers)]
    return report.lines(
        [
            ("caption", explanation.caption),
            ("score", f"{explanation.score:.3f} (mean token log-probability)"),
            ("model", report.shown(captioner.ref)),
            *((name, report.shown(str(path))) for name, path in written if path is not None),
        ]
    )


def _check_writable(option: str, path: Path) -> None:
    if not path.parent.is_dir():
        raise ConfigError(f"{option} {path}: there is no directory {path.parent}; create it first")
    if path.is_dir():
        raise ConfigError(f"{option} {path} is a directory; give a file's name")
