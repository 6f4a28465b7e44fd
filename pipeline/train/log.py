"""What a run says and records: the progress line, metrics, samples of captions, its surroundings."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import subprocess
import time
from pathlib import Path
from typing import Any

import torch

from pipeline import storage
from pipeline.config import TrainConfig
from pipeline.evaluate import Evaluation
from pipeline.progress import clock, say
from pipeline.tracking import Outbox, Run
from pipeline.train.curves import draw_curves
from pipeline.train.delivery import CURVES, SAMPLES, deliver, sample, samples
from pipeline.train.loader import Batch, Loader
from pipeline.train.position import Position
from pipeline.train.step import Outcome

PRINT_SECONDS = 10.0
LOG_STEPS = 20


class RunLog:
    """The account of one run; metrics reach the tracker with the checkpoints that hold their steps."""

    def __init__(
        self, directory: Path, settings: TrainConfig, loader: Loader, device: torch.device
    ) -> None:
        self.directory, self.settings = directory, settings
        self.loader, self.device = loader, device
        self.outbox = Outbox(directory)
        self.run = Run()
        self.total = loader.steps * settings.epochs
        self.started = self.printed = self.logged = time.monotonic()
        self.waited, self.pictures, self.words, self.steps = loader.waited, 0, 0, 0
        self.away = False
        self.unsent: list[str] = []

    def begin(self, run: Run, position: Position, facts: dict[str, Any]) -> None:
        """The tracked run goes on at `position`; `facts` are kept as its artifact."""
        self.run = run
        self.outbox.forget_after(position.step)
        text = json.dumps({**facts, **surroundings(self.device)}, ensure_ascii=False, indent=1)
        run.log_text(text + "\n", "run.json")
        storage.remove_temporaries(self.directory / SAMPLES)
        # What a run that was killed had not sent yet; sent twice, it is the same.
        written = samples(self.directory).items()
        self.unsent = [name for epoch, name in written if epoch <= position.epoch]

    def begin_phase(self, settings: TrainConfig, loader: Loader, position: Position) -> None:
        """Another phase, with settings and batches of its own."""
        self.settings, self.loader = settings, loader
        self.total = position.phase_step + loader.steps * (settings.epochs - position.phase_epoch)

    def begin_epoch(self) -> None:
        """Rates and the clock start anew."""
        self.started = self.printed = self.logged = time.monotonic()
        self.waited, self.pictures, self.words, self.steps = self.loader.waited, 0, 0, 0

    def step(
        self, batch: Batch, outcome: Outcome, position: Position, rates: dict[str, float]
    ) -> None:
        """A step was taken; `position` is behind it."""
        self.steps += 1
        self.pictures += batch.global_pictures
        self.words += outcome.tokens
        now = time.monotonic()
        # An epoch's last step too: a short one may hold no other.
        if position.step % LOG_STEPS == 0 or batch.number + 1 == self.loader.steps:
            seconds = max(now - self.logged, 1e-9)
            values = {
                "loss": outcome.loss,
                "gradient_norm": outcome.gradient_norm,
                "images_per_second": self.pictures / seconds,
                "tokens_per_second": self.words / seconds,
                "waiting_for_data": (self.loader.waited - self.waited) / seconds,
                **rates,
                **outcome.figures,
                **gpu(self.device),
            }
            self.outbox.add(values, position.step)
            self.logged, self.waited, self.pictures, self.words = now, self.loader.waited, 0, 0
        if now - self.printed >= PRINT_SECONDS:
            self.printed = now
            say("train", self.line(position, now - self.started), repeated=True)

    def line(self, position: Position, seconds: float) -> str:
        """Progress: step, loss, rate, eta."""
        rate = self.steps / max(seconds, 1e-9)
        left = (self.total - position.step) / max(rate, 1e-9)
        loss = position.loss_sum / max(position.loss_words, 1)
        best = "" if position.best is None else f"  best CIDEr {position.best.cider:.1f}"
        return (
            f"epoch {position.epoch + 1}/{self.settings.epochs}  step {position.step:,}/{self.total:,}"
            f"  loss {loss:.3f}  {rate * self.settings.batch_size:.0f} img/s  eta {clock(left)}{best}"
        )

    def epoch(self, position: Position, loss: float, scores: dict[str, float]) -> None:
        """An epoch's end; call it before its checkpoint."""
        self.outbox.add(
            {"epoch_loss": loss, **{f"val_{name}": value for name, value in scores.items()}},
            position.step,
        )

    def commit(self) -> None:
        """Write the points down; call it before the checkpoint of their steps."""
        self.outbox.commit()

    def committed(self) -> None:
        """A checkpoint is on disk: deliver up to it, or say once that nobody answers."""
        away = not deliver(self.run, self.outbox, self.directory, self.unsent)
        if away and not self.away:
            say("train", "MLflow does not answer; metrics are kept and delivered later")
        self.away = away
        self.unsent = self.unsent if away else []

    def samples(self, evaluation: Evaluation, epoch: int) -> None:
        """Write the epoch's captions of the same few validation pictures, and the curves so far.

        Call it before the epoch's checkpoint, after which no epoch is validated again; the tracker
        gets them when that is on disk.
        """
        count = self.settings.sample_captions
        shown = zip(evaluation.image_ids[:count], evaluation.captions[:count], strict=True)
        captions = [{"id": i, "caption": c.text, "score": c.score} for i, c in shown]
        text = json.dumps({"epoch": epoch, "captions": captions}, ensure_ascii=False, indent=1)
        storage.commit(self.directory / sample(epoch), text + "\n")
        storage.commit(self.directory / CURVES, draw_curves(self.outbox.points))
        self.unsent.append(sample(epoch))


class NoLog(RunLog):
    """The account of a rank that keeps none: the same methods, no effect."""

    def __init__(
        self, directory: Path, settings: TrainConfig, loader: Loader, device: torch.device
    ) -> None:
        pass

    def begin(self, run: Run, position: Position, facts: dict[str, Any]) -> None:  # noqa: D102
        pass

    def begin_phase(self, settings: TrainConfig, loader: Loader, position: Position) -> None:  # noqa: D102
        pass

    def begin_epoch(self) -> None:  # noqa: D102
        pass

    def step(  # noqa: D102
        self, batch: Batch, outcome: Outcome, position: Position, rates: dict[str, float]
    ) -> None:
        pass

    def epoch(self, position: Position, loss: float, scores: dict[str, float]) -> None:  # noqa: D102
        pass

    def commit(self) -> None:  # noqa: D102
        pass

    def committed(self) -> None:  # noqa: D102
        pass

    def samples(self, evaluation: Evaluation, epoch: int) -> None:  # noqa: D102
        pass


def gpu(device: torch.device) -> dict[str, float]:
    """Memory at its peak and use of a CUDA device; empty elsewhere."""
    if device.type != "cuda":
        return {}
    values = {"gpu_memory_gib": torch.cuda.max_memory_allocated(device) / 2**30}
    # NVIDIA's management library may not be installed.
    with contextlib.suppress(ModuleNotFoundError, RuntimeError):
        values["gpu_utilisation"] = float(torch.cuda.utilization(device))
    return values


def surroundings(device: torch.device) -> dict[str, Any]:
    """What a run's numbers may depend on beside its settings."""
    packages = ("torch", "torchvision", "numpy", "pillow", "tokenizers", "captionmill")
    return {
        "git_commit": git_commit(),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "packages": {name: _version(name) for name in packages},
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """The commit that this code was checked out from, `+` after it if files differ; None elsewhere."""
    here = Path(__file__).parent
    try:
        shown = subprocess.run(
            ["git", "describe", "--always", "--abbrev=40", "--dirty=+", "--exclude=*"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
            timeout=10,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return shown.stdout.strip()
