"""The caption that agrees best with random ones: which is taken, for whom, and at what settings."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from PIL import Image

from flows.direct import captioner_loader
from flows.explain import STDOUT, explain_picture
from pipeline.caption.recipe import describe
from pipeline.config import load_config
from pipeline.config_model import ConsensusConfig, GenerationConfig
from pipeline.config_recipe import AugmentConfig
from pipeline.decode import Hypothesis
from pipeline.errors import ModelError
from pipeline.images import normalise
from pipeline.metrics import References
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import Photos, load_captioner
from pipeline.predict.consensus import Consensus
from pipeline.predict.photos import embed
from pipeline.predict.views import all_views
from pipeline.text import Tokenizer

CAPTIONS = ["a red square on a white page", "a hot dog", "two dogs run on the page"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory, save_captioner):
    """Loads a captioner with document frequencies, by its consensus settings."""
    plain = SavedCaptioner.load(save_captioner(tmp_path_factory.mktemp("m") / "plain", CAPTIONS))
    # Random weights are too sure of themselves to disagree.
    plain.model.decoder.load_state_dict(
        {name: 0.5 * value for name, value in plain.model.decoder.state_dict().items()}
    )
    content = References([[c] for c in CAPTIONS]).document_frequencies.to_bytes()

    def save(
        consensus: ConsensusConfig | None,
        frequencies: bytes | None = content,
        photos: bytes | None = None,
    ):
        directory = tmp_path_factory.mktemp("c") / "model"
        directory.mkdir()
        dataclasses.replace(
            plain,
            generation=GenerationConfig(beam=4, max_len=7, consensus=consensus),
            document_frequencies=frequencies,
            photos=photos,
        ).save(directory)
        return load_captioner(directory, device="cpu")

    return save


def pictures(count: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 32, 32), dtype=torch.uint8, generator=generator)


def hypotheses(tokenizer: Tokenizer, **scores: float) -> list[Hypothesis]:
    found = []
    for text, score in scores.items():
        tokens = tuple(tokenizer.encode([text.replace("_", " ")])[0][1:])
        found.append(Hypothesis(tokens, (score,) * len(tokens)))
    return found


def test_the_caption_that_agrees_with_the_drawn_ones_comes_first():
    tokenizer = Tokenizer.train(CAPTIONS)
    frequencies = References([[c] for c in CAPTIONS]).document_frequencies
    scored = hypotheses(tokenizer, a_hot_dog=-0.1, a_red_square=-0.5)
    found = [(one, tokenizer.decode(one.tokens)) for one in scored]
    drawn = ["a red square on a page", "red square"]

    def first(likelihood: float) -> str:
        consensus = Consensus(ConsensusConfig(likelihood=likelihood), tokenizer, frequencies)
        return tokenizer.decode(consensus._sorted(found, drawn)[0].tokens)

    assert first(0.0) == "a red square"
    assert first(100.0) == "a hot dog"


def test_of_captions_that_agree_equally_the_likelier_comes_first():
    tokenizer = Tokenizer.train(CAPTIONS)
    frequencies = References([[c] for c in CAPTIONS]).document_frequencies
    consensus = Consensus(ConsensusConfig(likelihood=0), tokenizer, frequencies)
    scored = hypotheses(tokenizer, a_hot_dog=-0.5, a_red_square=-0.1, two_dogs=-0.9)
    found = [(one, tokenizer.decode(one.tokens)) for one in scored]
    order = [one.score for one in consensus._sorted(found, ["nothing like it"])]
    assert order == sorted(order, reverse=True)


def test_captions_are_those_that_beams_found_in_another_order(saved):
    pixels = pictures(6)
    plain = saved(None).caption_pixels(pixels, candidates=4)
    agreed = saved(ConsensusConfig(likelihood=0)).caption_pixels(pixels, candidates=4)
    for one, other in zip(plain, agreed, strict=True):
        assert set(one.candidates) == set(other.candidates)
    assert [one.text for one in plain] != [one.text for one in agreed]


@pytest.mark.parametrize("views", [1, 2, 8])
def test_a_caption_does_not_depend_on_neighbours_or_on_the_run(saved, views):
    captioner = saved(ConsensusConfig(views=views))
    pixels = pictures(5)
    together = captioner.caption_pixels(pixels)
    alone = [captioner.caption_pixels(one[None])[0] for one in pixels]
    assert [one.text for one in together] == [one.text for one in alone]
    assert [one.text for one in captioner.caption(list(pixels))] == [one.text for one in alone]


def test_a_mirrored_picture_takes_part(saved):
    captioner, pixels = saved(ConsensusConfig(views=2, likelihood=0)), pictures(4)
    assert len(captioner.encode(pixels).tokens_BSD) == 8
    assert len(captioner.caption_pixels(pixels)) == 4
    # A picture and its mirror image are looked at both, so both get the same captions.
    straight = captioner.caption_pixels(pixels, candidates=4)
    mirrored = captioner.caption_pixels(pixels.flip(-1), candidates=4)
    for one, other in zip(straight, mirrored, strict=True):
        assert {text for text, _ in one.candidates} & {text for text, _ in other.candidates}


def test_each_view_is_heard(saved):
    plain, pixels = saved(None), pictures(3)
    captioner = saved(ConsensusConfig(views=8))
    memory = captioner.encode(pixels)
    assert (captioner.views, len(memory.tokens_BSD)) == (8, 24)
    seen = all_views(normalise(pixels, plain.transform), 8)
    expected = plain.model.memory(plain.model.features(seen)).tokens_BSD
    torch.testing.assert_close(memory.tokens_BSD, expected)
    captions = captioner.caption_pixels(pixels, candidates=32)
    heard = [{text for text, _ in one.candidates} for one in captions]
    for view in range(8):
        own = memory.select(torch.arange(3) + 3 * view)
        found = plain.caption_memory(own, beam=4, candidates=4)
        for texts, one in zip(heard, found, strict=True):
            assert {text for text, _ in one.candidates} & texts


def test_a_mirrored_view_says_nothing_about_sides(saved):
    """What it says with one of the words counts for nothing, neither found nor drawn."""
    pixels, words = pictures(4), sorted({word for caption in CAPTIONS for word in caption.split()})
    unmirrored = saved(ConsensusConfig()).caption_pixels(pixels, candidates=4)
    silent = saved(ConsensusConfig(views=2, flip_words=[w.upper() for w in words]))
    assert [c.candidates for c in silent.caption_pixels(pixels, candidates=4)] == [
        c.candidates for c in unmirrored
    ]
    both = saved(ConsensusConfig(views=2, flip_words=[])).caption_pixels(pixels, candidates=4)
    assert [c.candidates for c in both] != [c.candidates for c in unmirrored]
    assert ConsensusConfig().flip_words == AugmentConfig().flip_words


def test_explain_can_do_without_too(saved, tmp_path):
    directory = saved(ConsensusConfig(views=2, likelihood=0)).ref
    plain = load_captioner(directory, device="cpu", consensus=False)
    texts: dict[str, set[str]] = {"true": set(), "false": set()}
    expected = set()
    for place, pixels in enumerate(pictures(4)):
        picture = tmp_path / f"{place}.png"
        Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(picture)
        expected.add(plain.caption([picture])[0].text)
        for wanted, found in texts.items():
            overrides = [f"caption.model={directory}", f"caption.consensus={wanted}", "device=cpu"]
            settings = load_config(None, overrides)
            document = explain_picture(settings, tmp_path, picture, out=None, numbers=STDOUT)
            found.add(json.loads(document)["caption"])
    assert texts["false"] == expected != texts["true"]


def test_no_pictures_have_no_captions(saved):
    for consensus in (None, ConsensusConfig(views=8)):
        assert saved(consensus).caption_pixels(pictures(0)) == []


@pytest.mark.parametrize("views", [1, 2])
def test_what_people_said_of_photos_that_look_alike_decides(saved, views):
    """Of two photos of which different things are said, each gets what is said of it."""
    plain, pixels = saved(None), pictures(2)
    found = [caption.candidates for caption in plain.caption_pixels(pixels, candidates=4)]
    wanted = [candidates[-1][0] for candidates in found]
    settings = ConsensusConfig(samples=0, photos=2, photos_ridge=0.01, likelihood=0, views=views)
    listening = saved(settings, photos=Photos.fit(torch.eye(2), [["a"], ["a"]], 1.0).to_bytes())
    mean = listening.encode(pixels).mean_BC
    own = embed(mean.unflatten(0, (views, -1)))

    def captions(said: list[str]):
        photos = Photos.fit(own, [[text] for text in said], settings.photos_ridge)
        captioner = saved(settings, photos=photos.to_bytes())
        return captioner, [c.text for c in captioner.caption_pixels(pixels)]

    captioner, said = captions(wanted)
    assert said == wanted
    other, said = captions(wanted[::-1])
    assert said != wanted
    assert other.fingerprint != captioner.fingerprint


def test_photos_that_are_missing_or_damaged_are_an_error(saved):
    with pytest.raises(ModelError, match="consensus with 5 training photos, and was trained with"):
        saved(ConsensusConfig(photos=5))
    photos = Photos.fit(torch.eye(16), [["a hot dog"]] * 16, 1.0).to_bytes()
    captioner = saved(ConsensusConfig(photos=5), photos=photos)
    file = Path(captioner.ref) / "photos.parquet"
    file.write_bytes(photos[:-1] + b"?")
    with pytest.raises(ModelError, match=r"photos\.parquet is damaged"):
        load_captioner(captioner.ref)
    file.unlink()
    with pytest.raises(ModelError, match=r"photos\.parquet is missing"):
        load_captioner(captioner.ref)


def test_document_frequencies_decide_captions_and_so_the_fingerprint(saved):
    other = References([["a hot dog"], ["a cat"]]).document_frequencies.to_bytes()
    settings = ConsensusConfig()
    assert saved(settings).fingerprint == saved(settings).fingerprint
    assert saved(settings).fingerprint != saved(settings, frequencies=other).fingerprint
    assert saved(None).fingerprint == saved(None, frequencies=other).fingerprint
    with pytest.raises(ModelError, match=r"document_frequencies\.parquet is damaged"):
        saved(settings, frequencies=b"no table")


def test_one_beam_leaves_nothing_to_choose_from(saved):
    pixels = pictures(3)
    plain = saved(None).caption_pixels(pixels, beam=1)
    assert saved(ConsensusConfig(views=2)).caption_pixels(pixels, beam=1) == plain


def test_a_model_without_document_frequencies_says_so(saved):
    with pytest.raises(ModelError, match="weighs words by document frequencies, and has none"):
        saved(ConsensusConfig(), frequencies=None)


def test_a_consensus_needs_something_to_agree_with():
    with pytest.raises(ValueError, match="leave nothing to agree with"):
        ConsensusConfig(samples=0)


def test_a_model_without_consensus_is_described_as_before_there_was_one():
    assert "consensus" not in GenerationConfig().model_dump(mode="json")
    settings = GenerationConfig(consensus=ConsensusConfig())
    assert GenerationConfig.model_validate(settings.model_dump(mode="json")) == settings


def test_bulk_captioning_can_do_without(saved, tmp_path):
    directory = saved(ConsensusConfig(views=2)).ref
    plain = load_captioner(directory, device="cpu", consensus=False)
    found = {}
    for wanted in ("true", "false"):
        overrides = [f"caption.model={directory}", f"caption.consensus={wanted}", "device=cpu"]
        settings = load_config(None, overrides)
        captioner = captioner_loader(settings, tmp_path).load()
        found[wanted] = describe(settings.caption, captioner), captioner
    with_it, without = found["true"], found["false"]
    assert with_it[0].recipe != without[0].recipe
    assert "consensus" not in without[0].settings["generation"]
    assert (with_it[1].views, without[1].views) == (2, 1)
    pixels = pictures(4)
    captions = [captioner.caption_pixels(pixels) for captioner in (without[1], plain)]
    assert captions[0] == captions[1]
    assert captions[0] != with_it[1].caption_pixels(pixels)
