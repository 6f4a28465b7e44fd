"""Captioning a split: what the line of progress counts."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pipeline.evaluate import caption_split


def test_a_picture_that_is_seen_twice_is_counted_once(capsys: pytest.CaptureFixture[str]) -> None:
    seen = [SimpleNamespace(text="a dog")] * 2
    # A captioner that looks at mirrored pictures too has two rows of features a picture.
    mirrored: Any = SimpleNamespace(caption_features=lambda features, beam: seen)
    reader: Any = None
    found = caption_split(
        mirrored, reader, 4, None, 2, features=lambda start, stop: torch.zeros(2 * (stop - start))
    )
    assert len(found) == 4
    assert "4/4 img" in capsys.readouterr().err
