"""The views of a picture that a consensus hears: the whole, closer parts of it, and their mirror images.

Each view's mistakes are partly its own, so captions of several agree on less that is wrong: the
crops at test time of Krizhevsky et al. 2012, 'ImageNet Classification with Deep CNNs' (4.1).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

MARGIN = 8
"""A part leaves out this share of the picture's sides: one eighth."""
VIEWS = (
    ("whole", False),
    ("whole", True),
    ("middle", False),
    ("middle", True),
    ("top left", False),
    ("top right", True),
    ("bottom left", True),
    ("bottom right", False),
)
"""Parts of a picture, and whether they are mirrored; a model takes the first so many."""


def all_views(images: Tensor, count: int) -> Tensor:
    """Normalised pictures [B, 3, H, W] as [count * B, 3, H, W]: all of them in the first view, then in the next."""
    if count == 1:
        return images
    return torch.cat([_view(images, part, mirrored) for part, mirrored in VIEWS[:count]])


def _view(images: Tensor, part: str, mirrored: bool) -> Tensor:
    size = (images.shape[-2], images.shape[-1])
    if part != "whole":
        images = _cut(images, part)
        images = F.interpolate(images, size, mode="bilinear", antialias=True)
    return images.flip(-1) if mirrored else images


def _cut(images: Tensor, part: str) -> Tensor:
    height, width = images.shape[-2:]
    left_out = (height // MARGIN, width // MARGIN)
    top, left = (
        0 if near in part else size if far in part else size // 2
        for size, (near, far) in zip(left_out, (("top", "bottom"), ("left", "right")), strict=True)
    )
    rows = slice(top, top + height - left_out[0])
    return images[..., rows, left : left + width - left_out[1]]
