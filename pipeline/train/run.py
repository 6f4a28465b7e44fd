"""One training run: builds what it needs, then steps, validates and commits until it is done."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline import storage
from pipeline.config import Config
from pipeline.errors import ModelError
from pipeline.evaluate import evaluate_captioner, load_pixels
from pipeline.images import normalise
from pipeline.metrics import References
from pipeline.models.build import build
from pipeline.models.encoders import check_name
from pipeline.models.gpt import GPTDecoder
from pipeline.models.importers.gpt2 import initialise
from pipeline.models.recipe import transform_for
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import Predictor, choose_device, search_limits
from pipeline.progress import clock, say
from pipeline.records import Checkpoint, ShardSet
from pipeline.shards import ShardReader
from pipeline.tracking import Tracker
from pipeline.train import (
    decoder_weights,
    fingerprint,
    require_batch_statistics,
    require_validation,
    weights_file,
)
from pipeline.train.captions import Batch, EncodedCaptions, EpochPlan
from pipeline.train.checkpoints import Checkpoints
from pipeline.train.features import FeatureCache, encoder_fingerprint
from pipeline.train.loss import caption_loss
from pipeline.train.optimiser import build_optimiser, set_learning_rate
from pipeline.train.overlap import require_separate_splits
from pipeline.train.vocabulary import build_tokenizer

PRINT_SECONDS = 10.0
DECODE_THREADS = 4


class TrainingRun:
    """The state of one run; `finish` takes it to its end, from wherever it stands."""

    def __init__(self, config: Config, work: Path, shard_set: ShardSet, directory: Path) -> None:
        require_validation(config, shard_set)
        require_batch_statistics(config, shard_set)
        check_name(config.train.encoder.name)
        self.device = choose_device(config.device)
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        self.config, self.settings, self.work, self.directory = (
            config,
            config.train,
            work,
            directory,
        )
        self.shard_set = shard_set
        self.fingerprint = fingerprint(config, shard_set)
        self.reader = ShardReader(shard_set, "train")
        self.validation = ShardReader(shard_set, self.settings.validation_split)
        require_separate_splits(config, self.reader, self.validation)
        self.saved = self._build()
        self.plan = self._plan()
        # Of the first so many pictures, or of all: tokenised once, scored against every epoch.
        self.validation_references = References(
            self.validation.captions()[: self.settings.validation_images]
        )
        self.optimiser = build_optimiser(self.saved.model, self.settings)
        self.total_steps = self.plan.steps * self.settings.epochs

    def _build(self) -> SavedCaptioner:
        """The model before the first step; a function of settings, data and seed."""
        settings = self.settings
        captions = self.reader.captions()
        tokenizer = build_tokenizer(self.config, (text for group in captions for text in group))
        search_limits(tokenizer, settings.generation)  # a setting that cannot work stops here
        transform = transform_for(settings.encoder, settings.transform)
        architecture: dict[str, Any] = {
            "encoder": settings.encoder.model_dump(
                mode="json", exclude={"weights"}, exclude_none=True
            ),
            "decoder": {
                **settings.decoder.model_dump(mode="json", exclude={"weights"}),
                "pad": tokenizer.pad,
            },
            "vocabulary": len(tokenizer),
            "size": transform.size,
        }
        torch.manual_seed(settings.seed)
        model = build(architecture, weights_file(self.config) or settings.encoder.weights)
        if (start := decoder_weights(self.config)) is not None:
            assert isinstance(model.decoder, GPTDecoder)
            initialise(model.decoder, start)
        provenance = {
            "training_fingerprint": self.fingerprint,
            "shard_set": self.shard_set.fingerprint,
            "settings": settings.model_dump(mode="json"),
        }
        frequencies = References(captions).document_frequencies.to_bytes()
        return SavedCaptioner(
            model.to(self.device),
            tokenizer,
            transform,
            settings.generation,
            architecture,
            provenance,
            frequencies,
        )

    def _plan(self) -> EpochPlan:
        settings = self.settings
        captions = EncodedCaptions(
            self.reader.captions(), self.saved.tokenizer, settings.max_caption_tokens
        )
        return EpochPlan(
            captions,
            len(self.reader),
            settings.batch_size,
            settings.captions_per_image,
            settings.seed,
        )

    def finish(self) -> Checkpoint:
        """Train to the end and return the record of the best epoch."""
        self.checkpoints = Checkpoints(
            self.directory / "checkpoints", self.settings.keep_checkpoints
        )
        self.position = self.checkpoints.resume(self.saved, self.optimiser)
        if self.position.step:
            say("train", f"resuming at step {self.position.step} of {self.total_steps}")
        self.train_features, self.validation_features = self._cached_features()
        name = f"train-{self.fingerprint}"
        with Tracker(self.work).run(
            "train", name, self.fingerprint, self._parameters()
        ) as self.tracked:
            self.saved.provenance["mlflow_run_id"] = self.tracked.run_id
            while not self.position.finished:
                self._epoch()
            return self._commit_best()

    def _parameters(self) -> dict[str, Any]:
        return {"data": self.shard_set.fingerprint, **self.settings.model_dump(mode="json")}

    def _cached_features(self) -> tuple[FeatureCache | None, FeatureCache | None]:
        if self.settings.encoder.train != "none" or not self.settings.cache_features:
            return None, None
        model, transform = self.saved.model.eval(), self.saved.transform
        directory = (
            self.work / "features" / encoder_fingerprint(model, transform, self.saved.architecture)
        )
        train, validation = (
            FeatureCache(model, transform, reader, directory, self.settings.batch_size)
            for reader in (self.reader, self.validation)
        )
        return train, validation

    # One epoch ---------------------------------------------------------------------------------

    def _epoch(self) -> None:
        """The rest of the epoch in progress, its validation and its checkpoint."""
        position, model = self.position, self.saved.model
        model.train()
        saved_at = printed_at = started = time.monotonic()
        first = position.batch
        for batch, images in self._batches(position.epoch, first):
            self._step(batch, images)
            now = time.monotonic()
            if now - printed_at >= PRINT_SECONDS:
                printed_at = now
                say("train", self._line(position.batch - first, now - started))
            if (
                now - saved_at >= self.settings.checkpoint_seconds
                and position.batch < self.plan.steps
            ):
                saved_at = now
                self.checkpoints.save(self.saved, self.optimiser, position)
        self._end_epoch(time.monotonic() - started)

    def _batches(self, epoch: int, first: int) -> Iterator[tuple[Batch, Tensor]]:
        """Batches with their pictures, read and decoded ahead of the model."""
        with ThreadPoolExecutor(DECODE_THREADS) as pool:
            waiting: deque[tuple[Batch, Future[Tensor]]] = deque()
            for batch in self.plan.batches(epoch, first):
                waiting.append((batch, pool.submit(self._load, batch.pictures)))
                if len(waiting) > DECODE_THREADS:
                    ready, images = waiting.popleft()
                    yield ready, images.result()
            while waiting:
                ready, images = waiting.popleft()
                yield ready, images.result()

    def _load(self, pictures: list[int]) -> Tensor:
        if self.train_features is not None:
            return self.train_features.rows(pictures)
        return load_pixels(self.saved.transform, self.reader, pictures)

    def _step(self, batch: Batch, images: Tensor) -> None:
        settings, position, model = self.settings, self.position, self.saved.model
        rate = set_learning_rate(
            self.optimiser, position.step, self.total_steps, settings.warmup_steps
        )
        images = images.to(self.device)
        if self.train_features is None:
            images = model.features(normalise(images, self.saved.transform))
        loss = caption_loss(
            model,
            model.memory(images),
            batch.captions_BCT.to(self.device),
            batch.real_BCT.to(self.device),
            label_smoothing=settings.label_smoothing,
            attention_penalty=settings.attention_penalty,
        )
        if not math.isfinite(loss.cross_entropy):
            raise ModelError(
                f"the loss became {loss.cross_entropy} at step {position.step}; lower train.learning_rate "
                f"(now {settings.learning_rate}) or train.clip_norm (now {settings.clip_norm})"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.total.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), settings.clip_norm)
        self.optimiser.step()
        position.step += 1
        position.batch += 1
        position.loss_sum += loss.cross_entropy * loss.words
        position.loss_words += loss.words
        if position.step % 20 == 0:
            self.tracked.log_metrics(
                {"loss": loss.cross_entropy, "learning_rate": rate}, step=position.step
            )

    def _line(self, batches: int, seconds: float) -> str:
        position = self.position
        rate = batches / max(seconds, 1e-9)
        left = (self.total_steps - position.step) / max(rate, 1e-9)
        loss = position.loss_sum / max(position.loss_words, 1)
        best = "" if position.best_cider is None else f"  best CIDEr {position.best_cider:.1f}"
        return (
            f"epoch {position.epoch + 1}/{self.settings.epochs}  step {position.step:,}/{self.total_steps:,}"
            f"  loss {loss:.3f}  {rate * self.settings.batch_size:.0f} img/s  eta {clock(left)}{best}"
        )

    def _end_epoch(self, seconds: float) -> None:
        """Validate, note what was best, and commit the position before the next epoch."""
        position, settings = self.position, self.settings
        loss = position.loss_sum / max(position.loss_words, 1)
        scores = self._validate()
        cider = scores["cider"]
        position.epoch, position.batch = position.epoch + 1, 0
        position.loss_sum, position.loss_words = 0.0, 0
        if position.best_cider is None or cider > position.best_cider:
            position.best_cider, position.best_step = cider, position.step
            position.best_epoch, position.epochs_without_gain = position.epoch, 0
        else:
            position.epochs_without_gain += 1
        patience = settings.early_stop
        stopped = patience is not None and position.epochs_without_gain >= patience
        position.finished = stopped or position.epoch >= settings.epochs
        self.saved.provenance.update(epoch=position.epoch, step=position.step, validation=scores)
        self.checkpoints.save(self.saved, self.optimiser, position)
        values = {"epoch_loss": loss, **{f"val_{k}": v for k, v in scores.items()}}
        self.tracked.log_metrics(values, step=position.step)
        say(
            "train",
            f"epoch {position.epoch}/{settings.epochs}  loss {loss:.3f}  CIDEr {cider:.1f}  "
            f"BLEU-4 {scores['bleu_4']:.1f}  best CIDEr {position.best_cider:.1f}  {clock(seconds)}"
            + ("  (early stop)" if stopped else ""),
        )

    def _validate(self) -> dict[str, float]:
        """Validation scores x100; uses no random numbers, so it does not move the training."""
        place = str(self.directory)
        predictor = Predictor(
            self.saved, device=self.device, ref=place, name="", version="", fingerprint=""
        )
        evaluation = evaluate_captioner(
            predictor,
            self.validation,
            beam=self.settings.validation_beam,
            batch_size=max(self.settings.batch_size, 32),
            progress=False,
            references=self.validation_references,
            features=self.validation_features,
            limit=self.settings.validation_images,
        )
        self.saved.model.train()
        return evaluation.percent()

    def _commit_best(self) -> Checkpoint:
        position = self.position
        assert position.best_step is not None
        try:
            best = SavedCaptioner.load(self.checkpoints.path(position.best_step))
        except ModelError as error:
            raise ModelError(
                f"the best checkpoint is lost: {error}. Delete {self.directory} and train again"
            ) from None
        with storage.commit_directory(self.directory / "model") as directory:
            best.save(directory)
        self.tracked.log_metrics({"best_val_cider": position.best_cider or 0.0}, step=position.step)
        return Checkpoint(
            path=str(self.directory / "model"),
            fingerprint=self.fingerprint,
            shard_set=self.shard_set.fingerprint,
            epoch=position.best_epoch or position.epoch,
            step=position.best_step,
            validation_cider=position.best_cider,
            run_id=self.tracked.run_id,
        )
