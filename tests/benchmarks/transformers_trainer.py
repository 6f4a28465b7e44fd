"""transformers' Trainer on a captioner's weights and our loader's batches, one row a caption."""

from __future__ import annotations

import importlib.util
import tempfile
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.data import Sampler, SequentialSampler
from transformers_twin import Twin

from pipeline.config import TrainConfig
from pipeline.train.loader import Batch


def missing() -> str | None:
    """What the Trainer needs and this environment lacks."""
    needed = ("transformers", "accelerate")
    lacking = [name for name in needed if importlib.util.find_spec(name) is None]
    return " and ".join(lacking) or None


class Row(NamedTuple):
    """A caption of a picture."""

    picture: int
    ids: Tensor
    """Begin and end among them."""


class Rows:
    """The captions of batches in their order, the pictures' pixels once and on the device.

    A user's data set would decode a picture for each caption; here that costs nothing.
    """

    def __init__(
        self, batches: Sequence[Batch], normalise: Callable[[Tensor], Tensor], device: torch.device
    ) -> None:
        self.pixels = torch.cat([normalise(batch.images.to(device)) for batch in batches])
        self.rows: list[Row] = []
        picture = 0
        for batch in batches:
            for captions, real in zip(batch.captions_BCT, batch.real_BCT, strict=True):
                pairs = zip(captions, real, strict=True)
                self.rows += [Row(picture, ids[known]) for ids, known in pairs]
                picture += 1

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Row:
        return self.rows[place]

    def collate(self, rows: list[Row]) -> dict[str, Tensor]:
        """As VisionEncoderDecoderModel takes them: it puts the begin token before the labels."""
        labels = [row.ids[1:] for row in rows]
        pictures = torch.tensor([row.picture for row in rows], device=self.pixels.device)
        return {
            "pixel_values": self.pixels[pictures],
            "labels": nn.utils.rnn.pad_sequence(labels, batch_first=True, padding_value=-100),
        }


class Training:
    """Rounds of the Trainer on one model, which goes on learning."""

    def __init__(
        self, twin: Twin, settings: TrainConfig, device: torch.device, warmup: int
    ) -> None:
        self.model, self.settings, self.device, self.warmup = twin.model, settings, device, warmup
        for module in self.model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.0

    def run(self, rows: Rows, steps: int) -> tuple[float, list[float]]:
        """Seconds of the steps after the warm-up, and the loss of every step."""
        from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

        losses: list[Tensor] = []
        reached: dict[int, float] = {}
        device, wanted = self.device, {self.warmup, self.warmup + steps}

        class Clock(TrainerCallback):  # type: ignore[misc]
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                if state.global_step in wanted:
                    if device.type == "cuda":
                        torch.cuda.synchronize()
                    reached[state.global_step] = time.perf_counter()

        class Remembering(Trainer):  # type: ignore[misc]
            def training_step(self, *args: Any, **kwargs: Any) -> Tensor:
                loss: Tensor = super().training_step(*args, **kwargs)
                losses.append(loss.detach())
                return loss

            def _get_train_sampler(self, *args: Any, **kwargs: Any) -> Sampler[int]:
                return SequentialSampler(rows)

        with tempfile.TemporaryDirectory() as directory:
            trainer = Remembering(
                model=self.model,
                args=TrainingArguments(
                    output_dir=directory, max_steps=self.warmup + steps, **self._arguments()
                ),
                train_dataset=rows,
                data_collator=rows.collate,
                callbacks=[Clock()],
            )
            trainer.remove_callback(PrinterCallback)
            trainer.train()
        first, last = (reached[step] for step in sorted(wanted))
        return last - first, [float(loss) for loss in losses]

    def _arguments(self) -> dict[str, Any]:
        settings = self.settings
        return {
            "per_device_train_batch_size": settings.batch_size * settings.captions_per_image,
            "learning_rate": settings.learning_rate,
            "lr_scheduler_type": "constant",
            "weight_decay": settings.weight_decay,
            "max_grad_norm": settings.clip_norm,
            "bf16": settings.precision == "bf16",
            "torch_compile": settings.compile,
            "use_cpu": self.device.type == "cpu",
            "dataloader_pin_memory": False,  # the pixels are on the device already
            "remove_unused_columns": False,
            "logging_strategy": "no",
            "save_strategy": "no",
            "report_to": "none",
            "disable_tqdm": True,
        }
