"""A second phase's model with a consensus keeps the first phase's decoder, which draws its captions."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from coloured_squares import make_data, settings
from safetensors.torch import load_file

from pipeline.decode import Sampling, beam_search
from pipeline.errors import ModelError
from pipeline.models.reference import WithReference, reference_memory, reference_of
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import load_captioner
from pipeline.shard import shard
from pipeline.train import train
from pipeline.train.position import EpochScore
from pipeline.train.reference import without_reference
from pipeline.train.run import TrainingRun
from pipeline.train.self_critical_step import prepare
from pipeline.train.stopping import StopRequest

PHASES = [
    "train.epochs=4",
    "train.batch_size=5",
    "train.self_critical={epochs: 8, samples: 5, learning_rate: 0.005, warmup_steps: 5, guard: "
    "{min_ended: 0, max_repeats: 1, min_length: 0, max_length: 9, min_vocabulary: 0}}",
]
CONSENSUS = "train.generation={beam: 3, max_len: 8, consensus: {samples: 6}}"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Data, and the models of both phases and of the first alone."""
    data, work = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("work")
    make_data(data, {"train": 30, "val": 9})
    config = settings(data, *PHASES, CONSENSUS)
    shards = shard(config, work)
    both = train(config, work, shards)
    first = train(settings(data, *PHASES, CONSENSUS, "train.self_critical=null"), work, shards)
    assert both.validation_cider > first.validation_cider, "the second phase changed nothing"
    return data, both.path, first.path


def test_the_first_phases_decoder_is_kept(trained):
    _, both, first = trained
    kept, before = (load_file(f"{path}/model.safetensors") for path in (both, first))
    for name, value in before.items():
        part, _, rest = name.partition(".")
        assert torch.equal(kept[name if part == "encoder" else f"decoder.reference.{rest}"], value)
    assert any(
        not torch.equal(value, kept[name.replace("reference", "decoder", 1)])
        for name, value in kept.items()
        if name.startswith("decoder.reference.")
    )


@torch.inference_mode()
def test_captions_are_found_by_both_decoders_and_drawn_from_the_reference(trained):
    data, both, first = trained
    captioner, former = load_captioner(both, device="cpu"), load_captioner(first, device="cpu")
    pixels = torch.stack([captioner.pixels(data / f"{n}.png") for n in range(5)])
    memory, before = captioner.encode(pixels), former.encode(pixels)
    assert torch.equal(reference_memory(memory).tokens_BSD, before.tokens_BSD)
    decoders = captioner.consensus._decoders(captioner.model, memory)
    drawn = captioner.consensus._draw(*decoders[-1], captioner.limits)
    assert drawn == former.consensus._draw(former.model, before, former.limits)
    alone = without_reference(SavedCaptioner.load(Path(both))).model
    own = alone.memory(captioner.features(pixels))
    found, kept = (
        beam_search(model, each, captioner.limits, beam=3, candidates=3)
        for model, each in ((alone, own), (former.model, before))
    )
    assert beam_search(captioner.model, memory, captioner.limits, beam=3, candidates=3) == found
    chosen = captioner.consensus.search(captioner.model, memory, captioner.limits, beam=3)
    for captions, *beams in zip(chosen, found, kept, strict=True):
        assert {c.tokens for c in captions} == {c.tokens for each in beams for c in each}


def test_random_captions_for_their_own_sake_are_the_decoders(trained):
    data, both, _ = trained
    captioner, alone = load_captioner(both, device="cpu"), SavedCaptioner.load(Path(both))
    pictures = [data / f"{n}.png" for n in range(4)]
    drawn = captioner.caption(pictures, candidates=3, sampling=Sampling(seed=5))
    captioner.model, captioner.consensus = without_reference(alone).model, None
    assert captioner.caption(pictures, candidates=3, sampling=Sampling(seed=5)) == drawn


@pytest.mark.parametrize(
    "changed",
    [
        ["train.generation={max_len: 8}"],
        ["train.generation={max_len: 8, consensus: {samples: 0, photos: 2}}"],
        [CONSENSUS, "train.encoder.train=1"],
    ],
    ids=["no consensus", "nothing drawn", "an encoder that is trained too"],
)
def test_there_is_none_where_it_serves_nothing(trained, tmp_path, changed):
    config = settings(trained[0], *PHASES, *changed)
    record = train(config, tmp_path, shard(config, tmp_path))
    assert record.epoch > 4
    assert reference_of(SavedCaptioner.load(Path(record.path)).model) is None


def test_another_training_goes_on_from_the_captioner_alone(trained, tmp_path):
    data, both, _ = trained
    start = [CONSENSUS, "train.epochs=1", f"train.start={both}"]
    config = settings(data, *start)
    record = train(config, tmp_path, shard(config, tmp_path))
    saved = SavedCaptioner.load(Path(record.path))
    assert not isinstance(saved.model.decoder, WithReference)
    assert "reference" not in saved.architecture["decoder"]


def test_a_mean_of_the_second_phases_epochs_has_one_too(trained, tmp_path):
    """Whichever epoch of which phase was the best alone."""
    config = settings(trained[0], *PHASES, CONSENSUS, "train.average={count: 3, of: last}")
    shards = shard(config, tmp_path)
    run = TrainingRun(config, tmp_path, shards, tmp_path / "run")
    run.position.scores = [EpochScore(epoch=n, step=n, cider=50 - n) for n in range(1, 8)]
    run.position.phase, run.position.phase_epoch = "self_critical", 4
    for score in run.position.scores:
        with torch.no_grad():
            run.state.saved.model.decoder.embed.weight.fill_(score.epoch)
        run.state.saved.save(run.checkpoints.path(score.step))
    run.validation.evaluate = lambda *_: SimpleNamespace(percent=lambda: {"cider": 99.0})
    run.train_features = run.validation_features = None
    nothing = lambda *_: None  # noqa: E731
    run.log = SimpleNamespace(
        outbox=SimpleNamespace(add=nothing), commit=nothing, committed=nothing
    )
    model = SavedCaptioner.load(Path(run._end(None, StopRequest()).path)).model
    assert isinstance(model.decoder, WithReference)
    assert model.decoder.decoder.embed.weight.mean() == 6  # of the epochs 5, 6 and 7
    assert model.decoder.reference.embed.weight.mean() == 1  # the first phase's best


def test_a_reference_that_is_lost_stops_a_resumed_run_at_once(trained, tmp_path):
    config = settings(trained[0], *PHASES, CONSENSUS)
    run = TrainingRun(config, tmp_path, shard(config, tmp_path), tmp_path / "run")
    position = run.position
    position.scores = [EpochScore(epoch=n, step=n, cider=n) for n in (1, 2, 3, 4, 5)]
    position.phase, position.phase_epoch = "self_critical", 4
    position.phase_step, position.step = 4, 5
    captions = run.reader.captions()
    begin = (run.state, captions, run.settings, run.directory, position, run.checkpoints)
    with pytest.raises(ModelError, match=r"checkpoint of epoch 4 is lost.*Delete .*run and train"):
        prepare(*begin)
    run.state.saved.save(run.checkpoints.path(4))
    prepare(*begin)
    weights = run.checkpoints.path(4) / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-5] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"checkpoint of epoch 4 is lost.*is damaged"):
        prepare(*begin)
