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
    assert not any(augmentation.mirrors(e, "a", ["a dog", caption]) for e in range(50))


def test_others_are_mirrored_half_of_the_time():
    augmentation = Augmentation(ALL, 0)
    # Words that only hold one of the listed words are no sides.
    count = sum(augmentation.mirrors(e, "a", ["a bright cleft", "dog"]) for e in range(400))
    assert 150 < count < 250
    assert not any(Augmentation(AugmentConfig(), 0).mirrors(e, "a", ["dog"]) for e in range(50))


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


def test_pixels_cannot_change_under_cached_features():
    with pytest.raises(ConfigError, match="cache_features = false"):
        load_config(None, ["train.augment.crop=0.1"])
    load_config(None, ["train.augment.crop=0.1", "train.cache_features=false"])
    load_config(None, ["train.augment.flip=true"])
