"""A captioner by reference: from the registry, or from a directory."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

from pipeline.models.linear import lay_out_for_inference
from pipeline.models.saved import SavedCaptioner, model_fingerprint
from pipeline.predict.device import choose_device, choose_dtype
from pipeline.predict.predictor import Predictor
from pipeline.tracking.refs import parse_ref


def load_captioner(
    ref: str | os.PathLike[str] = "captioner@champion",
    work: str | os.PathLike[str] = "captionmill-work",
    device: str = "auto",
    dtype: str = "float32",
    consensus: bool = True,
) -> Predictor:
    """A captioner by reference: NAME@alias, NAME/version, or a captioner's directory.

    Args:
        ref: the reference.
        work: where the registry is.
        device: see `choose_device`.
        dtype: see `choose_dtype`.
        consensus: whether a model that has one asks it which caption to take.

    Raises:
        ConfigError: a device or dtype that this machine does not have.
        ModelNotFoundError: the registry in `work` has no such model, or no such directory.
        ModelError: the model is damaged or was written by another version.
    """
    text = os.fspath(ref)
    if text and Path(text).is_dir():
        directory = Path(text).resolve()
        return load_directory(
            directory,
            device=device,
            dtype=dtype,
            consensus=consensus,
            ref=str(directory),
            name=directory.name,
        )
    name, alias, version = parse_ref(text)
    from pipeline.tracking import Tracker

    found = Tracker(Path(work)).resolve(name, alias=alias, version=version)
    return load_directory(
        found.directory,
        device=device,
        dtype=dtype,
        consensus=consensus,
        ref=f"{name}/{found.version}",
        name=name,
        version=str(found.version),
    )


def load_directory(
    directory: Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    consensus: bool = True,
    ref: str,
    name: str,
    version: str = "",
) -> Predictor:
    """A captioner from its directory, under the name it is to be known by."""
    chosen = choose_device(device)
    number = choose_dtype(dtype, chosen)
    saved = SavedCaptioner.load(directory)
    if not consensus:
        plain = saved.generation.model_copy(update={"consensus": None})
        saved = dataclasses.replace(saved, generation=plain, photos=None)
    predictor = Predictor(
        saved,
        device=chosen,
        ref=ref,
        name=name,
        version=version,
        fingerprint=model_fingerprint(directory),
        dtype=number,
    )
    if chosen.type == "cpu":
        lay_out_for_inference(predictor.model)
    return predictor
