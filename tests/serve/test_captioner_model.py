"""A registered captioner as other MLflow programs load it."""

from __future__ import annotations

import base64
import io
import shutil
import subprocess
import sys
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.predict import load_captioner
from pipeline.tracking import ModelVersion, Tracker
from pipeline.tracking.wheel import wheel


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory,
    fresh_database: Path,
    save_captioner: Callable[..., Path],
) -> tuple[Path, ModelVersion]:
    work = tmp_path_factory.mktemp("serve")
    shutil.copy(fresh_database, work / "mlflow.db")
    saved = save_captioner(work / "saved", ["a red square", "a green sky", "blue"])
    return work, Tracker(work).register("captioner", saved, None)


@pytest.fixture(scope="module")
def model(registered: tuple[Path, ModelVersion]) -> Any:
    import mlflow

    with warnings.catch_warnings(action="ignore"):
        return mlflow.pyfunc.load_model(str(registered[1].root))


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        pixels = np.full((40, 30, 3), 80 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return sorted(folder.iterdir())


def test_paths_bytes_and_data_addresses_caption_alike_and_as_our_own_predictor(
    registered: tuple[Path, ModelVersion], model: Any, photos: list[Path]
) -> None:
    import pandas as pd

    own = load_captioner("captioner/1", registered[0], device="cpu").caption(photos)
    encoded = [base64.b64encode(path.read_bytes()).decode() for path in photos]
    for images in (
        [str(path) for path in photos],
        [path.read_bytes() for path in photos],
        [f"data:image/png;base64,{text}" for text in encoded],
    ):
        found = model.predict(pd.DataFrame({"image": images}))
        assert found["caption"].tolist() == [caption.text for caption in own]
        assert found["score"].tolist() == pytest.approx([caption.score for caption in own])
        assert found["error"].tolist() == ["", "", ""]


def test_lists_and_single_pictures(model: Any, photos: list[Path]) -> None:
    several = model.unwrap_python_model().predict(None, [str(path) for path in photos])
    one = model.unwrap_python_model().predict(None, photos[0].read_bytes())
    assert len(several) == 3 and one["caption"][0] == several["caption"][0]
    for images in (
        [path.read_bytes() for path in photos],
        [str(path) for path in photos],
        {"image": [str(path) for path in photos]},
    ):
        assert model.predict(images)["caption"].tolist() == several["caption"].tolist()
    assert model.predict(photos[0].read_bytes())["caption"].tolist() == [several["caption"][0]]


def test_a_picture_that_cannot_be_decoded_is_a_row_with_an_error(
    model: Any, photos: list[Path]
) -> None:
    import pandas as pd

    images = [str(photos[0]), "nowhere.png", b"no picture", "data:image/png;base64,!", b""]
    found = model.predict(pd.DataFrame({"image": images}))
    assert found["error"].tolist()[0] == "" and found["caption"][0]
    assert all(found["error"].tolist()[1:])
    assert found["caption"].tolist()[1:] == [""] * 4
    assert found["score"].isna().tolist() == [False, True, True, True, True]


def test_input_that_is_no_picture_is_an_error_that_names_the_column(model: Any) -> None:
    import pandas as pd

    plain = model.unwrap_python_model()
    with pytest.raises(ValueError, match="no column 'image'; it has a, b"):
        plain.predict(None, pd.DataFrame({"a": [1], "b": [2]}))
    with pytest.raises(ValueError, match="no key 'image' in the input; it has photo"):
        plain.predict(None, {"photo": ["a.png"]})
    with pytest.raises(ValueError, match="bytes or a path, not NoneType"):
        plain.predict(None, pd.DataFrame({"image": [None]}))
    with pytest.raises(ValueError, match="bytes or a path, not int"):
        plain.predict(None, [3])


def test_the_version_has_signature_example_requirements_and_no_pickle(
    registered: tuple[Path, ModelVersion], model: Any
) -> None:
    root = registered[1].root
    assert len(model.metadata.signature.inputs.inputs) == 1
    assert model.metadata.signature.outputs.input_names() == ["caption", "score", "error"]
    assert len(model.predict(model.input_example)) == 1
    lines = (root / "requirements.txt").read_text().splitlines()
    assert lines[0] == f"code/{wheel()[0]}"
    assert any(line.startswith("torch==") for line in lines)
    assert not [path for path in root.rglob("*") if path.suffix in (".pkl", ".pickle", ".pth")]
    assert str(Path(__file__).parents[2]) not in (root / "MLmodel").read_text()
    assert registered[1].directory == root / "artifacts" / "captioner"


def test_the_wheel_is_installable_and_the_same_every_time(tmp_path: Path) -> None:
    name, content = wheel()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert "pipeline/serve/captioner_model.py" in names and "pipeline/py.typed" in names
    assert not [one for one in names if "__pycache__" in one]
    (tmp_path / name).write_bytes(content)
    place = ["--target", str(tmp_path / "site"), "--no-deps", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *place, str(tmp_path / name)]
    subprocess.run(command, check=True, capture_output=True)
    assert (tmp_path / "site" / "pipeline" / "predict" / "load.py").is_file()
    wheel.cache_clear()
    assert wheel() == (name, content)
