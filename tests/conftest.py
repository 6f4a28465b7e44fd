"""Fixtures for every test: one torch thread, no way to a user's registry, and small things to work on."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.pop("MLFLOW_TRACKING_URI", None)
os.environ.pop("PREFECT_API_URL", None)

import pytest
import torch

from pipeline.remote import RemotePath


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


class StoreServer:
    """A process that speaks S3 on loopback; it may be killed and started again, empty."""

    script = Path(__file__).parent / "remote" / "store_server.py"

    def __init__(self) -> None:
        self.port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(self.script), str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert self.process.stdout is not None
        self.port = int(self.process.stdout.readline())

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate()


@pytest.fixture(scope="session")
def _store_server() -> Iterator[StoreServer]:
    server = StoreServer()
    yield server
    server.kill()


@pytest.fixture
def s3_server(_store_server: StoreServer, monkeypatch: pytest.MonkeyPatch) -> StoreServer:
    """A server that speaks S3, with the environment that leads to it."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "FSSPEC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", _store_server.url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test-secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    return _store_server


@pytest.fixture
def bucket(s3_server: StoreServer) -> RemotePath:
    """A new and empty bucket."""
    from pipeline.remote import s3

    name = f"test-{uuid.uuid4().hex[:12]}"
    s3._call("create_bucket", name, "")
    return RemotePath(name)
