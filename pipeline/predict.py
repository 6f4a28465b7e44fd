"""A captioner ready for use: pictures in, captions out; loaded by reference.

from pipeline.predict import load_captioner
captioner = load_captioner("captioner@champion")
print([c.text for c in captioner.caption(["a.jpg", "b.png"])])
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline import images as picture
from pipeline.config_model import GenerationConfig
from pipeline.decode import Caption, Hypothesis, Limits, Sampling, search
from pipeline.errors import ConfigError, ImageError, ModelNotFoundError
from pipeline.images import Transform
from pipeline.models.linear import lay_out_for_inference
from pipeline.models.saved import SavedCaptioner, model_fingerprint
from pipeline.text import Tokenizer

Image = str | os.PathLike[str] | bytes | Tensor
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


class Predictor:
    """A model on a device, with its tokenizer, transform and generation settings."""

    def __init__(
        self,
        saved: SavedCaptioner,
        *,
        device: torch.device,
        ref: str,
        name: str,
        version: str,
        fingerprint: str,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self.saved = saved
        self.model = saved.model.to(device, dtype).eval()
        self.device = device
        self.dtype = dtype
        """The type of number that the model calculates in."""
        self.ref = ref
        """What the model was resolved to: NAME/version, or a directory."""
        self.model_name = name
        self.model_version = version
        self.limits = search_limits(saved.tokenizer, saved.generation)
        """What a caption may be, in token ids."""
        self.fingerprint = fingerprint
        """Of the tensors, tokenizer and settings: equal fingerprints caption equally."""

    def __repr__(self) -> str:
        return f"Predictor({self.ref}, {self.fingerprint}, {self.device})"

    @property
    def transform(self) -> Transform:
        """How pictures become the model's input."""
        return self.saved.transform

    @property
    def generation(self) -> GenerationConfig:
        """The model's own search settings."""
        return self.saved.generation

    def caption(
        self,
        images: Sequence[Image],
        beam: int | None = None,
        candidates: int = 1,
        sampling: Sampling | None = None,
    ) -> list[Caption]:
        """Caption paths, encoded bytes, or uint8 RGB tensors [3, H, W]; one batch.

        With `sampling`, captions are drawn at random instead of searched for; a picture's depend
        on its pixels and the seed, not on its neighbours.

        Raises:
            ImageError: a picture that cannot be decoded.
            ConfigError: something that is not a picture, or a tensor of another type or shape;
                a number of beams or candidates below 1.
        """
        if isinstance(images, str | bytes | os.PathLike | Tensor):
            raise ConfigError(
                f"caption takes a list of pictures, not one {type(images).__name__}; put it in [ ]"
            )
        if not images:
            return []
        pixels = torch.stack([self.pixels(image) for image in images])
        if sampling is None:
            return self.caption_pixels(pixels, beam=beam, candidates=candidates)
        keys = [hashlib.sha256(one.numpy().tobytes()).hexdigest() for one in pixels]
        features = self.features(pixels)
        return self.caption_features(features, candidates=candidates, sampling=sampling, keys=keys)

    def caption_pixels(
        self, pixels: Tensor, beam: int | None = None, candidates: int = 1
    ) -> list[Caption]:
        """Caption uint8 pictures [B, 3, size, size] that went through `transform` already."""
        return self.caption_features(self.features(pixels), beam=beam, candidates=candidates)

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Tensor:
        """What the encoder's frozen stages give for uint8 pictures [B, 3, size, size]."""
        images = picture.normalise(pixels.to(self.device), self.transform)
        return self.model.features(images.to(self.dtype))

    @torch.inference_mode()
    def caption_features(
        self,
        features: Tensor,
        beam: int | None = None,
        candidates: int = 1,
        sampling: Sampling | None = None,
        keys: Sequence[int | str] | None = None,
    ) -> list[Caption]:
        """Caption from `features`; `keys` name the pictures for `sampling`."""
        width = self.generation.beam if beam is None else beam
        if min(width, candidates) < 1:
            raise ConfigError(f"beam = {width}, candidates = {candidates}: both start at 1")
        found = search(
            self.model,
            self.model.memory(features.to(self.device, self.dtype)),
            self.limits,
            beam=width,
            candidates=candidates,
            sampling=sampling,
            keys=keys,
        )
        return [self._caption(hypotheses) for hypotheses in found]

    def _caption(self, hypotheses: list[Hypothesis]) -> Caption:
        found = [(self.saved.tokenizer.decode(h.tokens), h.score) for h in hypotheses]
        return Caption(found[0][0], found[0][1], tuple(found))

    def pixels(self, image: Image) -> Tensor:
        """One picture as the model's input before normalisation: uint8 [3, size, size].

        Raises:
            ImageError: a picture that cannot be read or decoded.
            ConfigError: something that is not a picture.
        """
        if isinstance(image, Tensor):
            return self._fit(image)
        if isinstance(image, bytes):
            data, name = image, "the picture"
        elif isinstance(image, str | os.PathLike):
            name = os.fspath(image)
            try:
                data = Path(image).read_bytes()
            except OSError as error:
                raise ImageError("unreadable_file", f"{name}: {error.strerror}") from None
        else:
            raise ConfigError(
                f"a picture is a path, bytes or a uint8 tensor [3, H, W], not {type(image).__name__}"
            )
        try:
            array = picture.load(data, self.transform)
        except ImageError as error:
            raise ImageError(error.code, f"{name}: {error.detail}") from None
        return torch.from_numpy(array)

    def _fit(self, image: Tensor) -> Tensor:
        if image.dtype != torch.uint8 or image.ndim != 3 or len(image) != 3 or not image.numel():
            raise ConfigError(
                f"a picture tensor is uint8 [3, H, W], not {image.dtype} {list(image.shape)}"
            )
        array = image.permute(1, 2, 0).contiguous().cpu().numpy()
        return torch.from_numpy(picture.fit(array, self.transform))


def search_limits(tokenizer: Tokenizer, settings: GenerationConfig) -> Limits:
    """Generation settings in token ids.

    Raises:
        ConfigError: a banned word that is nothing to the tokenizer.
    """
    # Never shown, so never chosen; the end token may be one of them (GPT-2).
    banned = set(tokenizer.special) - {tokenizer.eos}
    runs: set[tuple[int, ...]] = set()
    for word in settings.banned_words:
        spellings = tokenizer.spellings(word)
        if not spellings:
            raise ConfigError(f"generation.banned_words: {word!r} is no word to the tokenizer")
        banned |= {run[0] for run in spellings if len(run) == 1}
        runs |= {run for run in spellings if len(run) > 1}
    return Limits(
        bos=tokenizer.bos,
        eos=tokenizer.eos,
        pad=tokenizer.pad,
        banned=tuple(sorted(banned)),
        banned_runs=tuple(sorted(runs)),
        max_len=settings.max_len,
        min_len=settings.min_len,
        length_penalty=settings.length_penalty,
        ngram_block=settings.no_repeat_ngram,
        repetition_penalty=settings.repetition_penalty,
    )


def choose_device(device: str = "auto") -> torch.device:
    """`auto` is CUDA, else Apple's MPS, else the CPU.

    Raises:
        ConfigError: an unknown device, or one that this machine does not have.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise ConfigError(f"device = {device!r} is not auto, cpu, mps, cuda or cuda:N")
    kind, _, index = device.partition(":")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise ConfigError(
            f"device = {device!r}: this machine has {torch.cuda.device_count()} CUDA devices; "
            "auto or cpu always work"
        )
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device = 'mps': this machine has no MPS device; auto or cpu always work")
    return torch.device(device)


def load_captioner(
    ref: str | os.PathLike[str] = "captioner@champion",
    work: str | os.PathLike[str] = "captionmill-work",
    device: str = "auto",
    dtype: str = "float32",
) -> Predictor:
    """A captioner by reference: NAME@alias, NAME/version, or a captioner's directory.

    Args:
        ref: the reference.
        work: where the registry is.
        device: see `choose_device`.
        dtype: float32, or bfloat16 for GPUs and CPUs that calculate in it.

    Raises:
        ConfigError: another device or dtype.
        ModelNotFoundError: the registry in `work` has no such model, or no such directory.
        ModelError: the model is damaged or was written by another version.
    """
    text = os.fspath(ref)
    if Path(text).is_dir():
        directory = Path(text).resolve()
        return load_directory(
            directory, device=device, dtype=dtype, ref=str(directory), name=directory.name
        )
    name, alias, version = parse_ref(text)
    from pipeline.tracking import Tracker

    found = Tracker(Path(work)).resolve(name, alias=alias, version=version)
    return load_directory(
        found.directory,
        device=device,
        dtype=dtype,
        ref=f"{name}/{found.version}",
        name=name,
        version=str(found.version),
    )


def load_directory(
    directory: Path,
    *,
    device: str = "auto",
    dtype: str = "float32",
    ref: str,
    name: str,
    version: str = "",
) -> Predictor:
    """A captioner from its directory, under the name it is to be known by."""
    if dtype not in DTYPES:
        raise ConfigError(f"dtype = {dtype!r} is not {' or '.join(DTYPES)}")
    saved, chosen = SavedCaptioner.load(directory), choose_device(device)
    if chosen.type == "cpu":
        lay_out_for_inference(saved.model)
    return Predictor(
        saved,
        device=chosen,
        ref=ref,
        name=name,
        version=version,
        fingerprint=model_fingerprint(directory),
        dtype=DTYPES[dtype],
    )


def parse_ref(ref: str) -> tuple[str, str | None, int | None]:
    """NAME@alias or NAME/version as (name, alias, version).

    Raises:
        ModelNotFoundError: neither of the two, and not a directory.
    """
    found = re.fullmatch(
        r"(?P<name>[A-Za-z0-9][\w.\-]*)(@(?P<alias>[\w.\-]+)|/(?P<version>\d+))", ref
    )
    if found is None:
        raise ModelNotFoundError(
            f"model {ref!r} is neither NAME@alias, NAME/version nor a captioner's directory"
        )
    version = found["version"]
    return found["name"], found["alias"], int(version) if version else None
