"""A second phase's model with a consensus keeps the first phase's decoder, which draws its captions."""

from __future__ import annotations

from pathlib import Path

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
from pipeline.train.reference import add_reference, keep_reference, without_reference

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
def test_captions_are_found_by_the_decoder_and_drawn_from_its_reference(trained):
    data, both, first = trained
    captioner, former = load_captioner(both, device="cpu"), load_captioner(first, device="cpu")
    pixels = torch.stack([captioner.pixels(data / f"{n}.png") for n in range(5)])
    memory, before = captioner.encode(pixels), former.encode(pixels)
    assert torch.equal(reference_memory(memory).tokens_BSD, before.tokens_BSD)
    drawn = captioner.consensus._draw(captioner.model, memory, captioner.limits)
    assert drawn == former.consensus._draw(former.model, before, former.limits)
    alone = without_reference(SavedCaptioner.load(Path(both))).model
    found = beam_search(alone, alone.memory(captioner.features(pixels)), captioner.limits, beam=3)
    assert beam_search(captioner.model, memory, captioner.limits, beam=3) == found
    captions = captioner.caption_pixels(pixels, candidates=3)
    assert {len(caption.candidates) for caption in captions} == {3}


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
        ["train.generation={max_len: 8, consensus: {samples: 0, neighbours: 2}}"],
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


def test_a_reference_that_is_lost_is_an_error(trained, tmp_path):
    saved = without_reference(SavedCaptioner.load(Path(trained[1])))
    with pytest.raises(ModelError, match=r"reference\.safetensors.* is lost. Delete"):
        add_reference(saved, tmp_path)
    keep_reference(saved.model.decoder, tmp_path)
    assert reference_of(add_reference(saved, tmp_path).model) is not None
