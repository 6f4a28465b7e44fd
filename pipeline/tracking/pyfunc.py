"""A captioner's directory as an MLflow pyfunc: models from code, with the wheel that made it.

MLmodel, captioner_model.py          what MLflow reads and runs
requirements.txt, python_env.yaml    an environment that loads it
code/captionmill-*.whl               this program
input_example.json                   a picture of one colour
artifacts/captioner/                 the captioner's directory
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.tracking.version import CAPTIONER
from pipeline.tracking.wheel import wheel

CODE = Path(__file__).parents[1] / "serve" / "captioner_model.py"
PINNED = ("torch", "torchvision", "numpy", "pillow", "tokenizers", "safetensors", "pyarrow")
"""What moves a caption, at the version that the model was registered with."""

# A red PNG of 32 x 32 pixels.
EXAMPLE = (
    "iVBORw0KGgoAAAANSUhEUgAAACAAAAAgCAIAAAD8GO2jAAAAJ0lEQVR42u3NsQkAAAjAsP7/tF7hIASyp6lTCQQC"
    "gUAgEAgEgi/BAjLD/C5w/SM9AAAAAElFTkSuQmCC"
)


@contextlib.contextmanager
def pyfunc_files(directory: Path) -> Iterator[Path]:
    """A temporary directory with all files of the pyfunc but the captioner's own."""
    import mlflow
    import pandas as pd

    with tempfile.TemporaryDirectory(prefix="captionmill-") as scratch:
        place = Path(scratch)
        name, content = wheel()
        (place / name).write_bytes(content)
        stand_in = place / Path(CAPTIONER).name
        stand_in.mkdir()
        (stand_in / "here").touch()
        with _silent():
            mlflow.pyfunc.save_model(
                path=str(place / "model"),
                python_model=str(CODE),
                artifacts={"captioner": str(stand_in)},
                signature=_signature(),
                input_example=pd.DataFrame({"image": [f"data:image/png;base64,{EXAMPLE}"]}),
                pip_requirements=requirements(directory, name),
                code_paths=[str(place / name)],
            )
        shutil.rmtree(place / "model" / CAPTIONER)
        _without_paths(place / "model")
        yield place / "model"


def _without_paths(model: Path) -> None:
    """MLmodel names files of this machine, which is nobody's business; MLflow reads the names alone."""
    from mlflow.models import Model

    description = Model.load(str(model))
    flavour = description.flavors["python_function"]
    flavour["model_code_path"] = CODE.name
    flavour["artifacts"]["captioner"]["uri"] = CAPTIONER
    description.model_size_bytes = None  # of a model without its weights
    description.save(str(model / "MLmodel"))


def requirements(directory: Path, wheel_name: str) -> list[str]:
    """Lines of requirements.txt: the wheel, and pinned what moves a caption."""
    from pipeline import storage

    pinned = [*PINNED, "mlflow"]
    try:
        architecture = storage.read_json(directory / "captioner.json")["architecture"]
        if str(architecture["encoder"]["name"]).startswith("timm/"):
            pinned.append("timm")
    except (FileNotFoundError, KeyError, TypeError):
        pass  # no captioner of ours; whoever loads it says so
    lines = [f"code/{wheel_name}"]
    for name in pinned:
        with contextlib.suppress(PackageNotFoundError):
            lines.append(f"{name}=={version(name).partition('+')[0]}")
    return lines


def _signature() -> Any:
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema
    from mlflow.types.schema import AnyType

    # Without a column's name, so that a list of pictures will do as well as a DataFrame.
    return ModelSignature(
        inputs=Schema([ColSpec(AnyType())]),
        outputs=Schema(
            [
                ColSpec(DataType.string, "caption"),
                ColSpec(DataType.double, "score"),
                ColSpec(DataType.string, "error"),
            ]
        ),
    )


@contextlib.contextmanager
def _silent() -> Iterator[None]:
    """MLflow's advice on requirements and hints is not for our users."""
    logger = logging.getLogger("mlflow")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    finally:
        logger.setLevel(before)
