"""Augmentation: keyed by (seed, epoch, key), and safe for what the captions say."""

from __future__ import annotations

import pytest
import torch

from pipeline.config import load_config
from pipeline.config_recipe import AugmentConfig
from pipeline.errors import ConfigError
from pipeline.train.augment import Augmentation

PIXELS = torch.randint(0, 256, (3, 24, 32), dtype=torch.uint8, generator=torch.manual_seed(0))
ALL = AugmentConfig(crop=0.3, colour=0.3, flip=True)


@pytest.mark.parametrize(
    "caption", ["a man on the LEFT", "the right-hand side", "turn left.", "rightmost and right"]
)
def test_pictures_whose_captions_name_a_side_are_never_mirrored(caption):
    augmentation = Augmentation(ALL, 0)
    assert augmentation.sided([["a dog", caption], ["a dog"]]) == [True, False]
    assert not any(augmentation.mirrors(epoch, "a", True) for epoch in range(50))


def test_others_are_mirrored_half_of_the_time():
    augmentation = Augmentation(ALL, 0)
    # Words that only hold one of the listed words are no sides.
    assert augmentation.sided([["a bright cleft", "dog"]]) == [False]
    assert 150 < sum(augmentation.mirrors(epoch, "a", False) for epoch in range(400)) < 250
    assert not any(Augmentation(AugmentConfig(), 0).mirrors(e, "a", False) for e in range(50))


def test_the_words_are_the_users():
    augmentation = Augmentation(AugmentConfig(flip=True, flip_words=["links", "c++"]), 0)
    assert augmentation.names_a_side(["der Hund steht LINKS"])
    assert not augmentation.names_a_side(["left"])
    nothing = Augmentation(AugmentConfig(flip=True, flip_words=[]), 0)
    assert not nothing.names_a_side(["left"])


def test_without_settings_a_picture_stays():
    assert torch.equal(Augmentation(AugmentConfig(), 0)(PIXELS, 0, "a", False), PIXELS)
    mirrored = Augmentation(AugmentConfig(flip=True), 0)(PIXELS, 0, "a", True)
    assert torch.equal(mirrored, PIXELS.flip(-1))


def test_what_happens_depends_on_seed_epoch_and_key_alone():
    one = Augmentation(ALL, 0)(PIXELS, 3, "a", False)
    assert one.shape == PIXELS.shape
    assert one.dtype == torch.uint8
    assert torch.equal(one, Augmentation(ALL, 0)(PIXELS, 3, "a", False))
    others = [
        Augmentation(ALL, 1)(PIXELS, 3, "a", False),
        Augmentation(ALL, 0)(PIXELS, 4, "a", False),
        Augmentation(ALL, 0)(PIXELS, 3, "b", False),
    ]
    assert not any(torch.equal(one, other) for other in others)


def test_a_crop_keeps_most_of_the_picture():
    """A ramp from left to right: what is cut away at the sides is missing from its range."""
    ramp = torch.arange(200).repeat(3, 100, 1).to(torch.uint8)
    augmentation = Augmentation(AugmentConfig(crop=0.2), 0)
    ranges = []
    for epoch in range(40):
        changed = augmentation(ramp, epoch, "a", False)
        ranges.append(int(changed.max()) - int(changed.min()))
    assert min(ranges) > 199 * 0.8 / 1.25
    assert len(set(ranges)) > 5


def test_colour_moves_within_its_bounds():
    grey = torch.full((3, 8, 8), 100, dtype=torch.uint8)
    augmentation = Augmentation(AugmentConfig(colour=0.2), 0)
    found = [int(augmentation(grey, epoch, "a", False)[0, 0, 0]) for epoch in range(50)]
    assert 80 <= min(found) < 90
    assert 110 < max(found) <= 120


def test_versions_are_the_picture_its_mirror_image_and_changed_ones():
    augmentation = Augmentation(AugmentConfig(crop=0.3, colour=0.3, flip=True, versions=3), 0)
    assert len(augmentation.versions) == len(set(augmentation.versions)) == 5
    made = [augmentation.version(number, PIXELS, "a", False) for number in range(5)]
    assert torch.equal(made[0], PIXELS)
    assert torch.equal(made[1], PIXELS.flip(-1))
    for number in (2, 3, 4):
        assert not any(torch.equal(made[number], other) for other in made[:number])


def test_an_epoch_shows_any_version_and_never_a_mirrored_one_of_a_side():
    augmentation = Augmentation(AugmentConfig(crop=0.3, flip=True, versions=3), 0)
    shown = [augmentation.choose(epoch, "a", False) for epoch in range(800)]
    counts = [shown.count(number) for number in range(5)]
    assert sum(counts[:2]) == pytest.approx(200, abs=50)
    assert min(counts[:2]) > 60
    assert all(150 < count < 250 for count in counts[2:])
    assert {augmentation.choose(epoch, "a", True) for epoch in range(100)} == {0, 2, 3, 4}
    # A ramp that grows to the right still does.
    ramp = torch.arange(200).repeat(3, 100, 1).to(torch.uint8)
    for key in map(str, range(8)):
        for number in (2, 3, 4):
            row = augmentation.version(number, ramp, key, True)[0, 50].int()
            assert row[0] < row[-1]


def test_more_versions_keep_the_names_of_those_there_are():
    few, more, other = (
        Augmentation(AugmentConfig(crop=crop, versions=count), 0).versions
        for crop, count in ((0.2, 2), (0.2, 5), (0.3, 5))
    )
    assert more[: len(few)] == few
    assert set(more) & set(other) == {""}


def test_pixels_change_under_cached_features_in_versions_alone():
    with pytest.raises(ConfigError, match=r"augment\.versions.*cache_features = false"):
        load_config(None, ["train.augment.crop=0.1"])
    load_config(None, ["train.augment.crop=0.1", "train.cache_features=false"])
    load_config(None, ["train.augment.crop=0.1", "train.augment.versions=2"])
    load_config(None, ["train.augment.flip=true"])
    with pytest.raises(ConfigError, match="crop and colour are both 0"):
        load_config(None, ["train.augment.versions=2"])
    with pytest.raises(ConfigError, match="no features are cached"):
        load_config(
            None,
            ["train.augment={crop: 0.1, versions: 2}", "train.cache_features=false"],
        )
