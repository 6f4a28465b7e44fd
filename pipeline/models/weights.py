"""State dicts: read from a file or fetched by name, fitted to a model, and what fitted said.

Files are read without running code: safetensors, or torch's format with `weights_only`.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import ConfigError, WeightsError
from pipeline.progress import say

if TYPE_CHECKING:
    import torchvision

WRAPPERS = ("state_dict", "model", "module", "model_state_dict", "state_dict_ema", "model_ema")
"""Keys under which training programs keep the state dict in a checkpoint."""
PREFIXES = ("module.", "model.", "_orig_mod.")
"""What DataParallel, Lightning and torch.compile put before every name."""


def read_state(path: Path) -> dict[str, Tensor]:
    """A file's tensors by name, without what a training program wrapped around them.

    Raises:
        WeightsError: no such file, not a file of weights, or several state dicts in one.
    """
    if not path.is_file():
        raise WeightsError(f"no weights file {path}; see train.encoder.weights and data_root")
    try:
        with warnings.catch_warnings(action="ignore"):  # torch, on pickles that it then refuses
            if path.suffix == ".safetensors":
                found: Any = load_file(path)
            else:
                found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # noqa: BLE001  both libraries raise many kinds on hostile bytes
        raise WeightsError(
            f"{path} is not a file of weights ({type(error).__name__}); a .safetensors file, or what "
            "torch.save wrote of a state dict and nothing but tensors, is"
        ) from None
    return _strip(_unwrap(found, path))


def _unwrap(found: Any, path: Path) -> dict[str, Tensor]:
    inside = [key for key in WRAPPERS if isinstance(found, Mapping) and _is_dict(found.get(key))]
    if len(inside) > 1:
        raise WeightsError(
            f"{path} holds several state dicts ({', '.join(inside)}); save the wanted one alone"
        )
    if inside:
        return _unwrap(found[inside[0]], path)
    if not _is_dict(found) or not all(isinstance(value, Tensor) for value in found.values()):
        raise WeightsError(f"{path} holds no state dict (a mapping of names to tensors)")
    return dict(found)


def _is_dict(value: Any) -> bool:
    return isinstance(value, Mapping) and bool(value)


def _strip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Names without a prefix that all of them share."""
    for prefix in PREFIXES:
        if all(name.startswith(prefix) for name in state):
            return _strip({name.removeprefix(prefix): value for name, value in state.items()})
    return state


def named_weights(name: str, weights: str) -> torchvision.models.WeightsEnum:
    """Torchvision's entry of a model's weights.

    Raises:
        ConfigError: the model has no weights of that name.
    """
    import torchvision  # a second or more, which other encoders do not need

    entries = torchvision.models.get_model_weights(name) if name != "vit" else None
    if entries is None or weights not in entries.__members__:
        known = ", ".join(entries.__members__) if entries is not None else "no named weights"
        raise ConfigError(
            f"train.encoder.weights = {weights!r}: {name} has {known}; or a file, or null"
        )
    return entries[weights]


def download_state(name: str, weights: str) -> dict[str, Tensor]:
    """The tensors of a torchvision model's named weights, downloaded once for each machine.

    Raises:
        ConfigError: the model has no weights of that name.
        WeightsError: the download failed.
    """
    entry = named_weights(name, weights)
    cached = Path(torch.hub.get_dir()) / "checkpoints" / Path(urlsplit(entry.url).path).name
    if not cached.exists():
        say("encoder", f"{name}: downloading {weights} to {cached}")
    try:
        state: dict[str, Tensor] = entry.get_state_dict(
            progress=False, check_hash=True, map_location="cpu", weights_only=True
        )
    except (OSError, RuntimeError) as error:  # no network, or a file that is not what it should be
        raise WeightsError(
            f"torchvision could not download {weights} of {name} ({error}); "
            f"connect, put the file at {cached}, or give a file as train.encoder.weights"
        ) from None
    return state


def fit(
    module: nn.Module,
    state: Mapping[str, Tensor],
    *,
    name: str,
    origin: str | Path,
    head: tuple[str, ...],
    note: str = "",
) -> None:
    """Load a state dict into `module` and say what fitted.

    Args:
        module: what is to be loaded; its own classification head, if any, may stay random.
        state: tensors by the module's names.
        name: the encoder's, for messages.
        origin: where the tensors come from, for messages.
        head: what the names of a classification head start with.
        note: said at the end of the line.

    Raises:
        WeightsError: tensors of `module` that are missing, unknown ones, other shapes, or NaN and
            infinity in them.
    """
    own = module.state_dict()
    wanted = {key: value for key, value in state.items() if not key.startswith(head)}
    shapes = [
        f"{key} {tuple(value.shape)} instead of {tuple(own[key].shape)}"
        for key, value in wanted.items()
        if key in own and value.shape != own[key].shape
    ]
    fitting = {k: v for k, v in wanted.items() if k not in own or v.shape == own[k].shape}
    # Some modules rename what their older versions saved; so torch says what is missing.
    try:
        result = module.load_state_dict(fitting, strict=False)
    except RuntimeError as error:
        raise WeightsError(f"{origin} does not fit {name}: {error}") from None
    missing = [
        key
        for key in result.missing_keys
        if not key.startswith(head)
        and not key.endswith("num_batches_tracked")
        and key not in wanted
    ]
    problems = [
        _list("missing", missing),
        _list("unknown", result.unexpected_keys),
        _list("of another shape", shapes),
    ]
    if any(problems):
        raise WeightsError(f"{origin} does not fit {name}: " + "; ".join(filter(None, problems)))
    if damaged := [key for key, value in fitting.items() if not value.isfinite().all()]:
        raise WeightsError(f"{origin}: {_list('with NaN or infinity', damaged)}; it is damaged")
    left = "" if len(wanted) == len(state) else "; its classification head is not used"
    say("encoder", f"{name}: {len(wanted)} of {len(state)} tensors from {origin}{left}{note}")


def _list(what: str, names: list[str]) -> str:
    if not names:
        return ""
    more = f", … {len(names) - 5} more" if len(names) > 5 else ""
    return f"{len(names)} tensors {what}: {', '.join(names[:5])}{more}"
