"""Encoders from timm, by name: whatever its `forward_features` gives, as tokens.

The only file that imports timm, which the extra `timm` installs.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from pipeline.errors import ConfigError, WeightsError
from pipeline.models.captioner import Encoder, Layout
from pipeline.models.stages import Train, count_frozen, fix_batch_norm
from pipeline.models.weights import fit, read_state
from pipeline.progress import say

PREFIX = "timm:"
"""What an encoder's name starts with if the rest is timm's."""
HEADS = ("head", "fc", "fc_norm", "classifier", "attn_pool", "global_pool")
"""Modules behind `forward_features`."""


class TimmEncoder(Encoder):
    """A timm model: normalised pictures [B, 3, H, W] to a grid's or a transformer's tokens.

    timm's models are no rows of stages. So `features` is the whole model where nothing is
    trained, and otherwise nothing: the frozen part then runs in `memory`, without gradients.
    """

    def __init__(
        self, model: nn.Module, *, size: int, train: Train, freeze_batch_norm: bool, name: str
    ) -> None:
        """An encoder of a timm `model` for pictures of `size` pixels.

        Raises:
            ConfigError: more stages to train than there are, or a model that gives no tokens.
        """
        super().__init__()
        groups = _groups(model)
        frozen = count_frozen(train, len(groups), name)
        self.model = model
        self.wholly_frozen = frozen == len(groups)
        self.freeze_batch_norm = freeze_batch_norm
        fixed = {parameter for group in groups[:frozen] for parameter in group}
        for key, parameter in model.named_parameters():
            parameter.requires_grad_(not self.wholly_frozen and key not in fixed)
        self.train(False)
        self.to(memory_format=torch.channels_last)
        self.channels_first = "NHWC" not in str(getattr(model, "output_fmt", "NCHW"))
        try:
            with torch.inference_mode():
                out = self._run(torch.zeros(1, 3, size, size))
        except (AssertionError, RuntimeError) as error:
            raise ConfigError(f"{name} cannot take pictures of {size} pixels: {error}") from None
        self.layout = self._layout(out, name)
        self.width = self.tokens(out).shape[2]

    def _layout(self, out: Tensor, name: str) -> Layout:
        if isinstance(out, Tensor) and out.ndim == 4:
            rows, columns = out.shape[2:] if self.channels_first else out.shape[1:3]
            return Layout(0, rows, columns)
        if not isinstance(out, Tensor) or out.ndim != 3:
            raise ConfigError(f"{name} gives neither a grid nor tokens; take another encoder")
        prefix = int(getattr(self.model, "num_prefix_tokens", 0))
        patches = out.shape[1] - prefix
        grid = getattr(getattr(self.model, "patch_embed", None), "grid_size", None)
        rows, columns = grid or (math.isqrt(patches),) * 2
        if rows * columns != patches:
            raise ConfigError(
                f"{name} gives {patches} patch tokens in no grid; take another encoder"
            )
        return Layout(prefix, rows, columns)

    def train(self, mode: bool = True) -> Self:
        """Training mode; what is frozen stays in evaluation."""
        super().train(mode)
        for module in self.model.modules():
            parameters = list(module.parameters())
            if self.wholly_frozen or (parameters and not any(p.requires_grad for p in parameters)):
                module.eval()
        if self.freeze_batch_norm:
            fix_batch_norm(self.model)
        return self

    def features(self, images: Tensor) -> Tensor:
        """The whole model if nothing is trained, else the pictures."""
        return self._run(images) if self.wholly_frozen else images

    def memory(self, features: Tensor) -> Tensor:
        """The rest, then tokens [B, S, width]; a grid row by row."""
        return self.tokens(features if self.wholly_frozen else self._run(features))

    def tokens(self, out: Tensor) -> Tensor:
        """What timm gives as tokens [B, S, width]."""
        if out.ndim == 3:
            return out
        return out.flatten(2).transpose(1, 2) if self.channels_first else out.flatten(1, 2)

    def _run(self, images: Tensor) -> Tensor:
        images = images.contiguous(memory_format=torch.channels_last)
        forward: Any = self.model.forward_features
        out: Tensor = forward(images)
        return out


def _groups(model: Any) -> list[list[str]]:
    """The names of the parameters of each stage, in order, without heads."""
    from timm.models import group_parameters

    groups = group_parameters(model, model.group_matcher(coarse=True))
    bodies = ([key for key in group if key.split(".")[0] not in HEADS] for group in groups.values())
    return [body for body in bodies if body]


def build_timm(
    name: str,
    *,
    size: int,
    train: Train,
    freeze_batch_norm: bool,
    weights: str | Path | None,
) -> TimmEncoder:
    """The encoder `name` ("timm:<model>").

    Args:
        name: timm's name behind `PREFIX`, its weights' tag included if wanted.
        size: side of the input in pixels; position embeddings are resampled for it.
        train: see `stages.count_frozen`; a stage is one of timm's coarse parameter groups.
        freeze_batch_norm: keep batch statistics fixed while training.
        weights: "DEFAULT" or a tag (from the hub), a file, or None for random weights.

    Raises:
        ConfigError: timm is not installed, or an unknown name, tag or size.
        WeightsError: a file whose tensors do not fit, or a failed download.
    """
    recipe = timm_recipe(name, weights if isinstance(weights, str) else None)
    import timm

    options: dict[str, Any] = {"img_size": size} if recipe.fixed_input_size else {}
    hub = isinstance(weights, str)
    if hub:
        _silence_hub()
        say("encoder", f"{name}: weights {recipe.tag} from the hub")
    full_name = f"{recipe.architecture}.{recipe.tag}" if recipe.tag else recipe.architecture
    try:
        model = timm.create_model(full_name, pretrained=hub, num_classes=0, **options)
    except (AssertionError, ValueError, TypeError) as error:
        raise ConfigError(f"{name} cannot take pictures of {size} pixels: {error}") from None
    except Exception as error:
        if not hub:
            raise
        # Network libraries raise many kinds, and each means the same.
        raise WeightsError(
            f"timm could not load the weights {recipe.tag} of {name} ({error}); "
            "connect, or give a file as train.encoder.weights"
        ) from None
    if isinstance(weights, Path):
        _load_file(model, weights, name)
    return TimmEncoder(
        model, size=size, train=train, freeze_batch_norm=freeze_batch_norm, name=name
    )


def timm_recipe(name: str, weights: str | None = None) -> Any:
    """Timm's PretrainedCfg of an encoder: input size, mean, std, interpolation, tag.

    Args:
        name: "timm:<model>".
        weights: a tag that replaces the name's own; None or "DEFAULT" leaves it.

    Raises:
        ConfigError: timm is not installed, or it knows no such model or tag.
    """
    try:
        import timm
    except ImportError:
        raise ConfigError(f"encoder {name!r} needs timm; pip install 'captionmill[timm]'") from None
    from timm.models import get_pretrained_cfg

    model, _, tag = name.removeprefix(PREFIX).partition(".")
    if not timm.is_model(model):
        import difflib

        near = difflib.get_close_matches(model, timm.list_models(), n=5, cutoff=0.5)
        hint = f"; near: {', '.join(PREFIX + found for found in near)}" if near else ""
        raise ConfigError(f"timm {timm.__version__} has no model {model!r}{hint}")
    if weights not in (None, "DEFAULT"):
        tag = weights
    tags = [found.partition(".")[2] for found in timm.list_pretrained(f"{model}.*")]
    if (tag and tag not in tags) or (weights is not None and not tags):
        raise ConfigError(
            f"timm's {model} has no weights {tag or weights!r}; it has {', '.join(tags) or 'none'}"
        )
    return get_pretrained_cfg(f"{model}.{tag}" if tag else model)


def _load_file(model: nn.Module, path: Path, name: str) -> None:
    state: Any = read_state(path)
    # What timm does to files of other sources and sizes stands beside the model's class.
    family = sys.modules[type(model).__module__]
    convert = getattr(family, "checkpoint_filter_fn", None) or getattr(family, "_filter_fn", None)
    if convert is not None:
        try:
            state = convert(state, model)
        except (KeyError, RuntimeError, ValueError, AttributeError) as error:
            raise WeightsError(f"{path} does not fit {name}: {error}") from None
    heads: Any = model.pretrained_cfg["classifier"] or ()  # type: ignore[index]
    heads = (heads,) if isinstance(heads, str) else heads
    fit(model, state, name=name, origin=path, head=tuple(f"{head}." for head in heads))


def _silence_hub() -> None:
    from huggingface_hub.utils import disable_progress_bars  # type: ignore[attr-defined]

    disable_progress_bars()
