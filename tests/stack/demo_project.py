"""The generated data set in a stack's work directory: triggered, watched and looked at."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from prefect_api import PrefectApi
from running_stack import Stack

from pipeline.config import DemoConfig
from pipeline.demo import generate

SMALL = DemoConfig(
    train_images=64, val_images=24, test_images=40, archive_images=300, image_size=32
)
TINY = [
    "device=cpu",
    "threads=1",
    "train.encoder.name=vit",
    "train.encoder.patch=8",
    "train.encoder.depth=1",
    "train.encoder.width=16",
    "train.encoder.heads=2",
    "train.decoder.width=16",
    "train.decoder.embedding=16",
    "train.decoder.attention=8",
    "train.transform.size=32",
    "train.generation.beam=1",
    "train.generation.max_len=12",
    "train.batch_size=16",
    "train.epochs=2",
    "caption.unit_size=8",
    "caption.batch_size=8",
]
WAIT_SECONDS = 600.0
"""For what takes seconds: a machine may be busy."""
GPU_WORKER = "worker-gpu-runs-on-cpu"


class Project:
    """`captionmill-work` of a stack, as its deployments use it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self.work = stack.work / "captionmill-work"
        self.table = stack.work / "captions"
        generate(SMALL, self.work / "demo")
        self.api = PrefectApi(stack.prefect_url, stack.secrets["prefect_auth"])

    # ---- runs

    def retrain(self, *overrides: str, **parameters: Any) -> str:
        """Trigger the deployment with a model of a second's training; the run's id."""
        asked = {"overrides": [*TINY, *overrides], "on_promotion": [], **parameters}
        return self.api.trigger("retrain/retrain", **asked)

    def caption(self, *overrides: str, **parameters: Any) -> str:
        """Trigger the deployment; the run's id."""
        return self.api.trigger("caption/caption", overrides=[*TINY, *overrides], **parameters)

    def completed(self, identity: str, seconds: float = WAIT_SECONDS) -> dict[str, Any]:
        """The run, which has to end well."""
        run = self.api.ended(identity, seconds)
        assert run["state_type"] == "COMPLETED", f"{run['state']}\n{self.said()}"
        return run

    def until(self, condition: Callable[[], Any], what: str, seconds: float = WAIT_SECONDS) -> Any:
        """What `condition` gives, as soon as it gives something."""
        give_up = time.monotonic() + seconds
        while not (found := condition()):
            assert time.monotonic() < give_up, f"not within {seconds} s: {what}\n{self.said()}"
            time.sleep(0.1)
        return found

    def said(self) -> str:
        """What all services said last."""
        names = [GPU_WORKER, "worker-cpu", "watch", "prefect", "mlflow"]
        return "\n".join(self.stack.tail(n) for n in names if self.stack.log(n).exists())

    # ---- what they left

    def audit(self) -> list[dict[str, Any]]:
        """The lines of the audit log."""
        log = self.work / "promote" / "audit.jsonl"
        text = log.read_text(encoding="utf-8") if log.exists() else ""
        return [json.loads(line) for line in text.splitlines()]

    def registry(self) -> Any:
        """MLflow's client of the stack's server."""
        from mlflow.tracking import MlflowClient

        os.environ.update(
            {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2", "MLFLOW_DISABLE_TELEMETRY": "true"}
        )
        return MlflowClient(self.stack.mlflow_url)

    def champion(self) -> int:
        """The champion's version, which the audit log has to agree with."""
        aliases = self.registry().get_registered_model("captioner").aliases
        assert self.audit()[-1]["after"] == {k: int(v) for k, v in aliases.items()}
        return int(aliases["champion"])

    def trainings(self) -> dict[str, Path]:
        """The directories of trainings by name."""
        return {path.name: path for path in sorted((self.work / "train").glob("*"))}
