"""Scores on the validation split, with what every epoch's shares kept: references and features."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch

from pipeline.config import TrainConfig
from pipeline.evaluate import Evaluation, Features, evaluate_captioner
from pipeline.metrics import References
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import Predictor
from pipeline.shards import ShardReader


class Validation:
    """The validation split, ready to score any state of the model."""

    def __init__(
        self, reader: ShardReader, settings: TrainConfig, device: torch.device, origin: Path
    ) -> None:
        self.reader, self.settings, self.device, self.origin = reader, settings, device, origin
        # Of the first so many pictures, or of all: tokenised once, scored against every epoch.
        self.references = References(reader.captions()[: settings.validation_images])

    def evaluate(self, saved: SavedCaptioner, features: Features | None) -> Evaluation:
        """Captions and scores; leaves the model in evaluation mode and uses no random numbers.

        Without a consensus, which costs many times the beams and changes no ranking of epochs much.
        """
        plain = replace(saved, generation=saved.generation.model_copy(update={"consensus": None}))
        predictor = Predictor(
            plain, device=self.device, ref=str(self.origin), name="", version="", fingerprint=""
        )
        return evaluate_captioner(
            predictor,
            self.reader,
            beam=self.settings.validation_beam,
            batch_size=max(self.settings.batch_size, 32),
            progress=False,
            references=self.references,
            features=features,
            limit=self.settings.validation_images,
        )
