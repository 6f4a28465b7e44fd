"""Measuring in a process of its own, with real (untrained) captioners."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import Config
from pipeline.errors import ModelError, WeightsError
from pipeline.evaluate import evaluate_captioner
from pipeline.predict import load_directory
from pipeline.promote.compare import Evaluator
from pipeline.promote.evaluation_set import present_set
from pipeline.promote.measure import measure
from pipeline.records import ShardSet
from pipeline.shards import ShardReader

CPU = Config.model_validate({"device": "cpu", "promote": {"resamples": 100}})


def test_the_process_captions_as_the_score_stage_does(
    work: Path, shard_set: ShardSet, save_captioner: Callable[..., Path]
) -> None:
    reader = ShardReader(shard_set, "val")
    saved = save_captioner(work / "saved", [one for refs in reader.captions() for one in refs])
    evaluation_set = present_set(CPU, shard_set)
    found = measure(CPU, "captioner/1", saved, evaluation_set, work / "measured")
    predictor = load_directory(saved, device="cpu", ref="r", name="n")
    expected = evaluate_captioner(predictor, reader, progress=False)
    assert list(found.captions) == expected.hypotheses
    assert found.seconds > 0 and len(found.scores) == 40
    assert found.unfinished == sum(not caption.ended for caption in expected.captions)
    system = Evaluator(CPU, evaluation_set).system(found)
    assert system.percent() == pytest.approx(expected.percent())
    # Taken up, not measured again.
    assert measure(CPU, "captioner/1", Path("/gone"), evaluation_set, work / "measured") == found


def test_an_error_of_the_process_is_this_processs_error(
    work: Path, shard_set: ShardSet, save_captioner: Callable[..., Path]
) -> None:
    saved = save_captioner(work / "saved", ["a b c"])
    (saved / "model.safetensors").write_bytes(b"rot")
    evaluation_set = present_set(CPU, shard_set)
    with pytest.raises(WeightsError, match=r"captioner/7: .*damaged") as caught:
        measure(CPU, "captioner/7", saved, evaluation_set, work / "measured")
    assert isinstance(caught.value, ModelError)
