"""A captioner on a device: pictures in, captions out."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from pipeline import images as picture
from pipeline.config_model import GenerationConfig
from pipeline.decode import Caption, Hypothesis, Sampling, search
from pipeline.errors import ConfigError, ImageError, ModelError
from pipeline.images import Transform
from pipeline.metrics import DocumentFrequencies
from pipeline.models.captioner import Memory
from pipeline.models.reference import reference_of
from pipeline.models.saved import SavedCaptioner
from pipeline.predict.consensus import Consensus
from pipeline.predict.limits import search_limits
from pipeline.predict.photos import Photos
from pipeline.predict.views import all_views

Image = str | os.PathLike[str] | bytes | Tensor


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
        self.consensus = _consensus(saved, ref)
        self.fingerprint = fingerprint
        """Of the tensors, tokenizer and settings: equal fingerprints caption equally."""

    def __repr__(self) -> str:
        return f"Predictor({self.ref}, {self.fingerprint}, {self.device})"

    @property
    def views(self) -> int:
        """Memories a picture: more than 1 where other views of it take part in the search."""
        return self.consensus.settings.views if self.consensus is not None else 1

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
                a number of beams or candidates below 1, or more candidates than beams.
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
        if not len(pixels):
            return []
        return self.caption_memory(self.encode(pixels), beam=beam, candidates=candidates)

    @torch.inference_mode()
    def encode(self, pixels: Tensor) -> Memory:
        """What the decoder attends to [views * B, S, D], of uint8 pictures [B, 3, size, size]."""
        return self.model.memory(self.features(pixels))

    @torch.inference_mode()
    def features(self, pixels: Tensor) -> Tensor:
        """What the encoder's frozen stages give for uint8 pictures [B, 3, size, size].

        [views * B, ...]: of the B pictures, then of their other views (`all_views`).
        """
        waits = self.device.type != "cuda" or pixels.device.type != "cpu"
        # From pinned memory the copy need not be waited for.
        pixels = (pixels if waits else pixels.pin_memory()).to(self.device, non_blocking=not waits)
        images = all_views(picture.normalise(pixels, self.transform), self.views)
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
        """Caption from what `features` gives; `keys` name the pictures for `sampling`."""
        memory = self.model.memory(features.to(self.device, self.dtype))
        return self.caption_memory(memory, beam, candidates, sampling, keys)

    @torch.inference_mode()
    def caption_memory(
        self,
        memory: Memory,
        beam: int | None = None,
        candidates: int = 1,
        sampling: Sampling | None = None,
        keys: Sequence[int | str] | None = None,
    ) -> list[Caption]:
        """Caption from what `encode` gives; the rest as `caption_features`."""
        found = self.hypotheses(memory, beam, candidates, sampling, keys)
        return [self._caption(hypotheses) for hypotheses in found]

    @torch.inference_mode()
    def hypotheses(
        self,
        memory: Memory,
        beam: int | None = None,
        candidates: int = 1,
        sampling: Sampling | None = None,
        keys: Sequence[int | str] | None = None,
    ) -> list[list[Hypothesis]]:
        """What is found for each of B pictures, best first, from what `encode` gives."""
        width = self.generation.beam if beam is None else beam
        if min(width, candidates) < 1:
            raise ConfigError(f"beam = {width}, candidates = {candidates}: both start at 1")
        if sampling is None and beam is not None and candidates > beam:
            raise ConfigError(
                f"candidates = {candidates}, but beam = {beam} finds no more than {beam} captions; "
                f"beam = {candidates}, or no beam"
            )
        if sampling is None and self.consensus is not None and max(width, candidates) > 1:
            found = self.consensus.search(
                self.model, memory, self.limits, beam=max(width, candidates)
            )
            return [hypotheses[:candidates] for hypotheses in found]
        if self.views > 1:
            pictures = torch.arange(len(memory.tokens_BSD) // self.views, device=self.device)
            memory = memory.select(pictures)
        return search(
            self.model,
            memory,
            self.limits,
            beam=width,
            candidates=candidates,
            sampling=sampling,
            keys=keys,
        )

    def _caption(self, hypotheses: list[Hypothesis]) -> Caption:
        found = [(self.saved.tokenizer.decode(h.tokens), h.score) for h in hypotheses]
        ended = self.limits.eos in hypotheses[0].tokens[-1:]
        return Caption(found[0][0], found[0][1], tuple(found), ended)

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


def _consensus(saved: SavedCaptioner, ref: str) -> Consensus | None:
    if saved.generation.consensus is None:
        return None
    if saved.document_frequencies is None:
        raise ModelError(
            f"{ref} asks for a consensus (generation.consensus), which weighs words by document"
            " frequencies, and has none; train it with captionmill, or take consensus out of its"
            " generation settings"
        )
    settings, photos = saved.generation.consensus, None
    if settings.photos:
        if saved.photos is None:
            raise ModelError(
                f"{ref} asks for a consensus with {settings.photos:,} training photos, and was"
                " trained without: train it with generation.consensus.photos, or set that to 0"
            )
        photos = Photos.from_bytes(saved.photos)
    try:
        frequencies = DocumentFrequencies.from_bytes(saved.document_frequencies)
    except (OSError, ValueError, KeyError) as error:  # Arrow's errors are among them
        raise ModelError(f"{ref}: document_frequencies.parquet is damaged: {error}") from None
    reference = reference_of(saved.model)
    return Consensus(settings, saved.tokenizer, frequencies, photos, reference)
