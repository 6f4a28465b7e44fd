"""One training run: steps, validates and commits until it is done, from wherever it stands."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from pipeline.config import Config, TrainConfig
from pipeline.errors import StoppedError
from pipeline.evaluate import Evaluation
from pipeline.progress import clock, say
from pipeline.records import Checkpoint, ShardSet
from pipeline.shards import ShardReader
from pipeline.tracking import Run, Tracker
from pipeline.train.augment import Augmentation
from pipeline.train.build import begin, build_captioner
from pipeline.train.captions import EncodedCaptions
from pipeline.train.checkpoints import Checkpoints
from pipeline.train.checks import require_compiler, require_precision, require_settings
from pipeline.train.deterministic import deterministic
from pipeline.train.distributed import Ranks
from pipeline.train.ending import add_photos, choose_model, keep_model
from pipeline.train.features import FeatureCache, encoder_fingerprint
from pipeline.train.identity import fingerprint
from pipeline.train.loader import Batch, Loader
from pipeline.train.log import NoLog, RunLog
from pipeline.train.nonfinite import refuse
from pipeline.train.optimiser import learning_rates
from pipeline.train.overlap import require_separate_splits
from pipeline.train.position import EpochScore, Position
from pipeline.train.reference import add_reference, wants_reference
from pipeline.train.schedule import Schedule
from pipeline.train.self_critical import SelfCritical
from pipeline.train.self_critical_step import SelfCriticalStepper, phase_settings, prepare
from pipeline.train.step import AUTOCAST, Outcome, Stepper
from pipeline.train.stopping import StopRequest
from pipeline.train.validation import Validation


class TrainingRun:
    """The state of one run; `finish` takes it to its end."""

    def __init__(
        self,
        config: Config,
        work: Path,
        shard_set: ShardSet,
        directory: Path,
        ranks: Ranks | None = None,
    ) -> None:
        self.ranks = ranks or Ranks()
        require_settings(config, shard_set, self.ranks.world)
        self.device = self.ranks.device(config.device)
        require_precision(config.train, self.device)
        require_compiler(config.train, self.device)
        if (threads := config.threads or self.ranks.threads) is not None:
            torch.set_num_threads(threads)
        self.settings, self.work, self.directory = config.train, work, directory
        self.shard_set, self.fingerprint = shard_set, fingerprint(config, shard_set)
        self.reader = ShardReader(shard_set, "train")
        validation = ShardReader(shard_set, self.settings.validation_split)
        require_separate_splits(config, self.reader, validation)
        captions = self.reader.captions()
        saved = build_captioner(config, shard_set, captions)
        saved.model.to(self.device)
        self.encoded = EncodedCaptions(captions, saved.tokenizer, self.settings.max_caption_tokens)
        self.validation = Validation(validation, self.settings, self.device, directory)
        self.state = begin(saved, self.settings, self.device)
        self.position = Position()
        self.phase: SelfCritical | None = None
        self.checkpoints = Checkpoints(
            directory / "checkpoints",
            self.settings.keep_checkpoints,
            self.settings.average,
            self.ranks,
        )

    def finish(self) -> Checkpoint | None:
        """Train to the end; the record of the model that is kept, at rank 0.

        Raises:
            StoppedError: SIGTERM came; a checkpoint was written.
            ModelError: the loss is no number any more; names the file with the batch's ids.
        """
        if self.ranks.first:
            Tracker(self.work).require_usable("train")
        self.position = self.checkpoints.resume(self.state)
        self.train_features, self.validation_features = self._cached_features()
        self.loader = self._loader(self.settings)
        schedule = Schedule(self.settings, self.loader.steps)
        how: dict[str, Any] = {"cached": self._cached, "ranks": self.ranks}
        self.step = Stepper(self.state, self.settings, schedule, self.device, **how)
        log = RunLog if self.ranks.first else NoLog
        self.log = log(self.directory, self.settings, self.loader, self.device)
        if self.position.step:
            epoch = f"in epoch {self.position.epoch + 1}"
            place = "behind the last epoch" if self.position.finished else epoch
            say("train", f"resuming at step {self.position.step}, {place}")
        facts: dict[str, Any] = {"data": self.shard_set.fingerprint}
        facts["samples"] = self.shard_set.samples
        settings = self.settings.model_dump(mode="json")
        with deterministic(self.device), self._tracked(settings) as tracked, StopRequest() as stop:
            self.state.saved.provenance["mlflow_run_id"] = tracked.run_id
            facts |= {"ranks": self.ranks.world, "settings": settings}
            self.log.begin(tracked, self.position, facts)
            while not self.position.finished:
                if self.position.phase == "self_critical" and self.phase is None:
                    self._begin_second_phase()
                self._epoch(stop)
            return self._end_together(tracked.run_id, stop)

    def _tracked(self, settings: dict[str, Any]) -> contextlib.AbstractContextManager[Run]:
        if not self.ranks.first:
            return contextlib.nullcontext(Run())
        parameters = {"data": self.shard_set.fingerprint, **settings}
        name = f"train-{self.fingerprint}"
        return Tracker(self.work).run("train", name, self.fingerprint, parameters)

    @property
    def _cached(self) -> bool:
        return self.train_features is not None

    def _loader(self, settings: TrainConfig) -> Loader:
        transform = self.state.saved.transform
        return Loader(
            self.reader,
            self.encoded,
            transform,
            settings,
            features=self.train_features,
            rank=self.ranks.rank,
            world=self.ranks.world,
        )

    def _begin_second_phase(self) -> None:
        """From the best epoch's weights, or where a killed run stood in this phase."""
        position, state = self.position, self.state
        settings = phase_settings(self.settings)
        captions = self.reader.captions()
        self.phase = prepare(state, captions, settings, self.directory, position, self.checkpoints)
        self.loader = self._loader(settings)
        self.step = SelfCriticalStepper(
            state,
            settings,
            Schedule(settings, self.loader.steps),
            self.device,
            cached=self._cached,
            phase=self.phase,
            first_step=position.phase_step,
            ranks=self.ranks,
        )
        last = position.phase_epoch + settings.epochs
        self.settings = settings.model_copy(update={"epochs": last})
        self.log.begin_phase(self.settings, self.loader, position)
        say("train", f"self-critical training: epochs {position.phase_epoch + 1} to {last}")

    def _cached_features(self) -> tuple[FeatureCache | None, FeatureCache | None]:
        if self.settings.encoder.train != "none" or not self.settings.cache_features:
            return None, None
        saved, size = self.state.saved, self.settings.batch_size
        model, transform = saved.model.eval(), saved.transform
        name = encoder_fingerprint(model, transform, saved.architecture)
        place = self.work / "features" / name
        augmentation = Augmentation(self.settings.augment, self.settings.seed)
        with self.ranks.in_turn():  # rank 0 fills what is missing, the others find it there
            return (
                FeatureCache(model, transform, self.reader, place, size, augmentation=augmentation),
                FeatureCache(model, transform, self.validation.reader, place, size),
            )

    def _epoch(self, stop: StopRequest) -> None:
        """The rest of the epoch in progress, its validation and its checkpoint."""
        position = self.position
        saved_at = started = time.monotonic()
        self.step.begin_epoch(position.epoch)
        self.log.begin_epoch()
        # Closed at once when a step fails, so that no thread reads on.
        with contextlib.closing(self.loader.batches(position.epoch, position.batch)) as batches:
            for batch in batches:
                outcome = self._step(batch, stop)
                due = time.monotonic() - saved_at >= self.settings.checkpoint_seconds
                save, leave = self._advance(batch, outcome, due, stop.asked)
                if self._collapsed():
                    return
                if save and position.batch < self.loader.steps:
                    self._commit()
                    saved_at = time.monotonic()
                    self._check(leave)
        self._end_epoch(time.monotonic() - started)
        if not position.finished:
            self._check(self.ranks.total([stop.asked])[0] > 0)

    def _step(self, batch: Batch, stop: StopRequest) -> Outcome:
        try:
            return self.step(batch, self.position.step)
        except Exception:
            # A signal to the whole process group ends the compilers that torch waits for, too.
            if not (stop.asked and self.settings.compile):
                raise
            raise StoppedError(
                "stopped by SIGTERM while a step was compiled; run the same command again to go on "
                "from the last checkpoint"
            ) from None

    def _collapsed(self) -> bool:
        """Whether the guard ended training; the best epoch so far is what is kept."""
        collapse = self.step.collapse if isinstance(self.step, SelfCriticalStepper) else None
        if collapse is None:
            return False
        position, best = self.position, self.position.best
        assert best is not None
        position.collapse, position.finished = collapse, True
        self.state.saved.provenance.update(
            epoch=position.epoch, step=position.step, validation={}, collapse=collapse
        )
        self._commit()
        say(
            "train",
            f"captions collapse, so training stops at step {position.step}: {collapse}. The best "
            f"epoch ({best.epoch}, CIDEr {best.cider:.1f}) is kept; lower "
            f"train.self_critical.learning_rate (now {self.settings.learning_rate:g})",
        )
        return True

    def _check(self, leave: bool) -> None:
        if leave:
            raise StoppedError(
                f"stopped by SIGTERM at step {self.position.step}, of which there is a checkpoint; "
                "run the same command again to go on"
            )

    def _advance(
        self, batch: Batch, own: Outcome, due: bool = False, asked: bool = False
    ) -> tuple[bool, bool]:
        """Count a step, and settle among the ranks what comes next: save, leave.

        Clocks and signals are a rank's own: rank 0's clock counts, and any rank's signal.
        """
        values = [own.entropy_sum, own.words, due and self.ranks.first, asked]
        entropy, words, saving, leaving = self.ranks.total(values)
        outcome, position = replace(own, entropy_sum=entropy, words=int(words)), self.position
        if not outcome.finite(self.state.scaler is not None):
            found = (batch, own, outcome, position, self.settings, self.directory)
            raise refuse(self.ranks, self.loader, *found)
        position.step += 1
        position.batch += 1
        position.loss_sum += outcome.entropy_sum
        position.loss_words += outcome.words
        self.log.step(batch, outcome, position, learning_rates(self.state.optimiser))
        return saving + leaving > 0, leaving > 0

    def _commit(self) -> None:
        self.log.commit()
        self.position.guard = None if self.phase is None else self.phase.guard.state()
        self.checkpoints.save(self.state, self.position)
        self.log.committed()

    def _end_epoch(self, seconds: float) -> None:
        """Validate, note the score, and commit the position before the next epoch."""
        position, settings = self.position, self.settings
        loss = position.loss_sum / max(position.loss_words, 1)
        evaluation = self._evaluate() if self.ranks.first else None
        scores = self.ranks.told({} if evaluation is None else evaluation.percent())
        position.epoch, position.batch = position.epoch + 1, 0
        position.loss_sum, position.loss_words = 0.0, 0
        score = EpochScore(epoch=position.epoch, step=position.step, cider=scores["cider"])
        position.scores = [*position.scores, score]
        patience = settings.early_stop
        stopped = patience is not None and position.epochs_without_gain >= patience
        position.finished = stopped or position.epoch >= settings.epochs
        if position.finished and self.phase is None and settings.self_critical is not None:
            position.finished = False
            position.begin_second_phase()
        self.state.saved.provenance.update(
            epoch=position.epoch, step=position.step, validation=scores
        )
        self.log.epoch(position, loss, scores)
        if evaluation is not None:
            self.log.samples(evaluation, position.epoch)
        self._commit()
        assert position.best is not None
        say(
            "train",
            f"epoch {position.epoch}/{settings.epochs}  loss {loss:.3f}  CIDEr {score.cider:.1f}  "
            f"BLEU-4 {scores['bleu_4']:.1f}  best CIDEr {position.best.cider:.1f}  {clock(seconds)}"
            + ("  (early stop)" if stopped else ""),
        )

    def _evaluate(self) -> Evaluation:
        with self.state.validated():
            return self.validation.evaluate(self.state.saved, self.validation_features)

    def _end_together(self, run_id: str | None, stop: StopRequest) -> Checkpoint | None:
        """`_end` of rank 0, while the others wait: they leave with it."""
        record, leave = None, False
        if self.ranks.first:
            try:
                record = self._end(run_id, stop)
            except StoppedError:
                leave = True
        self._check(self.ranks.told(leave))
        return record

    def _end(self, run_id: str | None, stop: StopRequest) -> Checkpoint:
        """Commit the model that is kept, and make its record."""
        chosen = choose_model(
            self.checkpoints, self.position, self.validation, self.validation_features
        )
        if self.position.in_second_phase(chosen.last_epoch) and wants_reference(self.settings):
            assert self.position.reference is not None
            before = self.checkpoints.load(self.position.reference).model
            chosen = replace(chosen, saved=add_reference(chosen.saved, before))
        add_photos(
            chosen.saved,
            self.reader,
            self.train_features,
            self.device,
            AUTOCAST.get(self.settings.precision),
            lambda: self._check(stop.asked),
        )
        record = keep_model(
            chosen, self.directory, self.fingerprint, self.shard_set.fingerprint, run_id
        )
        # One step on: the last epoch's points were delivered with its checkpoint.
        self.log.outbox.add({"best_val_cider": chosen.cider}, self.position.step + 1)
        self.log.commit()
        self.log.committed()
        return record
