"""`explain` in this process: paths are checked first, then the captioner is loaded and asked."""

from __future__ import annotations

import io
import json
from pathlib import Path

from flows import direct, report
from pipeline import storage
from pipeline.config import Config
from pipeline.errors import ConfigError, DataError, ImageError

STDOUT = Path("-")


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
        settings.caption.model, work, settings.device, settings.caption.dtype
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
