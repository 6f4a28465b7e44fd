"""Fixtures for every test: one torch thread, no way to a user's registry, and small things to work on."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("PREFECT_API_URL", None)

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_torch_thread() -> None:
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def fresh_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """MLflow takes a second to create its tables; the tests copy them."""
    from pipeline.tracking import Tracker

    tracker = Tracker(tmp_path_factory.mktemp("fresh"))
    assert tracker.client is not None
    return tracker.database


@pytest.fixture
def work(tmp_path: Path, fresh_database: Path) -> Path:
    """A work directory with an empty registry, and a name that has to be quoted."""
    directory = tmp_path / "work with a space #1 é"
    directory.mkdir()
    shutil.copy(fresh_database, directory / "mlflow.db")
    return directory


@pytest.fixture(scope="session")
def save_captioner() -> Callable[..., Path]:
    """A function that saves a captioner with random weights for 32-pixel pictures."""
    from pipeline.config_model import GenerationConfig
    from pipeline.images import Transform
    from pipeline.models.build import build
    from pipeline.models.saved import SavedCaptioner
    from pipeline.text import Tokenizer

    def save(directory: Path, captions: list[str], max_len: int = 7) -> Path:
        torch.manual_seed(3)
        tokenizer = Tokenizer.train(captions)
        architecture = {
            "encoder": {"name": "resnet18", "train": 1},
            "decoder": {
                "kind": "lstm",
                "width": 16,
                "embedding": 16,
                "attention": 8,
                "dropout": 0.0,
            },
            "vocabulary": len(tokenizer),
            "size": 32,
        }
        model = build(architecture)
        settings = GenerationConfig(max_len=max_len)
        directory.mkdir()
        SavedCaptioner(model, tokenizer, Transform(size=32), settings, architecture).save(directory)
        return directory

    return save
