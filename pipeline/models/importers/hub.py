"""A checkpoint's files by the name that it has on the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

from pipeline.errors import ModelError

NAME = re.compile(
    r"(?P<name>[A-Za-z0-9][\w.\-]*(/[A-Za-z0-9][\w.\-]*)?)(@(?P<revision>[\w.\-/]+))?"
)
SMALL = ["*.json", "*.txt"]
SAFE, PICKLED = "model*.safetensors", "pytorch_model*.bin"
INSTALL = "pip install huggingface_hub"


def download(name: str) -> Path:
    """OWNER/NAME or OWNER/NAME@REVISION as a directory in huggingface_hub's cache.

    Raises:
        ModelError: not such a name, the package is missing, or the hub cannot be reached or has
            no such model.
    """
    found = NAME.fullmatch(name)
    if found is None:
        raise ModelError(
            f"{name!r} is neither a directory nor a name on the Hugging Face hub (OWNER/NAME)"
        )
    try:
        from huggingface_hub import snapshot_download
        from huggingface_hub.utils.tqdm import disable_progress_bars
    except ImportError:
        raise ModelError(
            f"{name} is no directory, and to fetch it from the Hugging Face hub huggingface_hub is "
            f"needed, which is missing: {INSTALL}"
        ) from None
    disable_progress_bars()

    def fetch(patterns: list[str]) -> Path:
        revision = found["revision"]
        return Path(snapshot_download(found["name"], revision=revision, allow_patterns=patterns))

    try:
        directory = fetch([*SMALL, SAFE])
        if not any(directory.glob(SAFE)):
            directory = fetch([*SMALL, PICKLED])
    except Exception as error:  # noqa: BLE001  the package raises its own, httpx's and OS errors
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{name} is no directory here, and the Hugging Face hub did not give it: {reason}"
        ) from None
    return directory
