"""The transform that belongs to an encoder's weights: what the user left open, filled in."""

from __future__ import annotations

from pipeline.config_model import EncoderConfig, TransformConfig, is_weights_file
from pipeline.images import Transform
from pipeline.models.timm_encoder import PREFIX, timm_recipe
from pipeline.models.weights import named_weights


def weights_recipe(name: str, weights: str | None) -> Transform:
    """What torchvision or timm says of an encoder's weights; else 224 pixels, ImageNet's, bicubic.

    Size, mean, standard deviation and interpolation; the whole picture is kept. A timm name says
    which weights its files hold; a file for a torchvision encoder may be anyone's.

    Raises:
        ConfigError: no such weights, or timm is not installed.
    """
    file = weights is not None and is_weights_file(weights)
    if name.startswith(PREFIX):
        said = timm_recipe(name, None if file else weights)
        size, interpolation = said.input_size[-1], said.interpolation
    elif weights is None or file:
        return Transform()
    else:
        said = named_weights(name, weights).transforms()
        size, interpolation = said.crop_size[0], said.interpolation.value
    return Transform(
        size=size,
        mean=tuple(said.mean),
        std=tuple(said.std),
        interpolation="bilinear" if interpolation == "bilinear" else "bicubic",
    )


def transform_for(encoder: EncoderConfig, wanted: TransformConfig) -> Transform:
    """The user's transform settings, completed with those of the encoder's weights.

    Raises:
        ConfigError: no such weights, or timm is not installed.
    """
    recipe = weights_recipe(encoder.name, encoder.weights).model_dump()
    return Transform.model_validate({**recipe, **wanted.model_dump(exclude_none=True)})
