"""The settings: whether they load, and whether what they need is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from pipeline.config import load_config
from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong

SUBJECT = "settings"


def check(inputs: Inputs) -> Iterator[Finding]:
    """Load them as every command does."""
    settings = load_config(inputs.config, inputs.overrides)
    yield ok(SUBJECT, f"{inputs.config or 'the defaults'}: complete and allowed")
    urls = [*inputs.archives, *inputs.tables, settings.shard.store or ""]
    needed = [("s3", "s3fs", any(url.startswith("s3://") for url in urls), "s3:// addresses")]
    timm = settings.train.encoder.name.startswith("timm:")
    needed.append(("timm", "timm", timm, "the encoder"))
    needed.append(("meteor", "pycocoevalcap", settings.score.meteor, "score.meteor"))
    for extra, module, wanted, what in needed:
        if wanted and find_spec(module) is None:
            text = f"{what} needs {module}, which is not installed"
            yield wrong(SUBJECT, text, f"pip install 'captionmill[{extra}]'")
    if settings.score.meteor and shutil.which("java") is None:
        yield wrong(SUBJECT, "score.meteor needs Java", "install a Java runtime, 8 or later")
    for source in settings.shard.sources:
        path = settings.input_path(source.annotations)
        if not any(sign in source.annotations for sign in "*?[") and not path.exists():
            yield warning(
                SUBJECT, f"{path} is not there", "mend data_root or the source, or mount it"
            )
