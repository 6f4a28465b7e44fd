"""The settings: whether they load, and whether what they need is installed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from pipeline.config import Config, load_config
from pipeline.config_model import is_weights_file
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
    yield from _missing_inputs(settings)


def _missing_inputs(settings: Config) -> Iterator[Finding]:
    """Files that the settings name; a glob pattern and object storage are left to the stages."""
    named = [source.annotations for source in settings.shard.sources]
    weights = settings.train.encoder.weights
    if weights is not None and is_weights_file(weights):
        named.append(weights)
    for name in (settings.train.start, getattr(settings.train.decoder, "weights", None)):
        if name is not None:
            named.append(name)
    for name in named:
        path = settings.input_path(name)
        if not any(sign in name for sign in "*?[") and not path.exists():
            yield warning(
                SUBJECT, f"{path} is not there", "mend data_root or the name, or mount it"
            )
