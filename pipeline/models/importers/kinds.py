"""The checkpoints that can be imported, by their model_type: a plain table."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from pipeline.errors import ModelError
from pipeline.models.importers import blip, gpt2, vit
from pipeline.models.importers.checkpoint import Checkpoint
from pipeline.models.importers.settings import Settings
from pipeline.models.importers.weights import Tensors


@dataclass(frozen=True)
class Parts:
    """What a checkpoint's kind makes of its configuration."""

    encoder: dict[str, Any]
    decoder: dict[str, Any]
    """These two as sections of our architecture."""
    vocabulary: int
    size: int
    """Side of the encoder's input, pixels."""
    state: Callable[[Tensors], tuple[dict[str, Tensor], dict[str, Tensor]]]
    """From their tensors the encoder's stages' and the decoder's."""
    unused: str
    """Names of tensors that captioning does not need."""
    tokenizer: str
    """What to call it."""
    bos: int
    eos: int
    pad: int
    sections: tuple[str, ...]
    """Sections of config.json that may hold generation settings."""


def vision_encoder_decoder(checkpoint: Checkpoint) -> Parts:
    """ViT or DeiT with GPT-2.

    Raises:
        ModelError: another encoder or decoder, or settings that ours cannot express.
    """
    place = f"{checkpoint.directory / 'config.json'}"
    sections = {
        name: Settings(checkpoint.section(name), f"{place}: {name}")
        for name in ("encoder", "decoder")
    }
    sections["encoder"].require("model_type", "vit", "deit")
    sections["decoder"].require("model_type", "gpt2")
    sections["decoder"].require("cross_attention_hidden_size", None)
    kind = sections["encoder"].get("model_type", "vit")
    encoder = vit.encoder_settings(sections["encoder"], kind)
    decoder = {**gpt2.decoder_settings(sections["decoder"]), "bridge": "plain"}

    def state(tensors: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        text = gpt2.decoder_state(
            tensors,
            decoder["layers"],
            prefix="decoder.transformer.",
            head="decoder.lm_head.weight",
            cross=True,
        )
        if encoder["width"] != decoder["width"]:
            text |= tensors.rename([("bridge", "enc_to_dec_proj")])
        return vit.vit_state(tensors, encoder["depth"], "encoder.", vit.VIT), text

    special = _Special(checkpoint, sections["decoder"])
    eos = special.find("eos_token_id")
    return Parts(
        encoder=encoder,
        decoder=decoder,
        vocabulary=sections["decoder"].size("vocab_size", 50257),
        size=vit.picture_size(sections["encoder"], kind),
        state=state,
        unused=f"{vit.UNUSED}|{gpt2.UNUSED}",
        tokenizer="gpt2",
        bos=special.find("decoder_start_token_id", "bos_token_id"),
        eos=eos,
        pad=special.find("pad_token_id", default=eos),
        sections=("decoder",),
    )


def blip_captioner(checkpoint: Checkpoint) -> Parts:
    """BLIP's own picture encoder and BERT-style decoder.

    Raises:
        ModelError: settings that our encoder or decoder cannot express.
    """
    place = f"{checkpoint.directory / 'config.json'}"
    text = Settings(checkpoint.section("text_config"), f"{place}: text_config")
    vision = Settings(checkpoint.section("vision_config"), f"{place}: vision_config")
    encoder = vit.encoder_settings(vision, "blip_vision_model")
    decoder = blip.decoder_settings(text)

    def state(tensors: Tensors) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return (
            vit.vit_state(tensors, encoder["depth"], "vision_model.", vit.BLIP),
            blip.decoder_state(tensors, decoder["layers"]),
        )

    return Parts(
        encoder=encoder,
        decoder=decoder,
        vocabulary=text.size("vocab_size", 30524),
        size=vit.picture_size(vision, "blip_vision_model"),
        state=state,
        unused=blip.UNUSED,
        tokenizer="wordpiece",
        # As transformers' BlipForConditionalGeneration.generate: the separator ends a caption.
        bos=text.integer("bos_token_id", 30522),
        eos=text.integer("sep_token_id", 102),
        pad=text.integer("pad_token_id", 0),
        sections=("text_config",),
    )


class _Special:
    """Special ids, looked for where transformers' generate looks."""

    def __init__(self, checkpoint: Checkpoint, decoder: Settings) -> None:
        self.places = [
            checkpoint.json("generation_config.json"),
            checkpoint.config,
            decoder.values,
        ]
        self.place = decoder.place

    def find(self, *keys: str, default: int | None = None) -> int:
        for key in keys:
            for values in self.places:
                found = values.get(key)
                if isinstance(found, list) and len(found) == 1:
                    found = found[0]
                if found is not None:
                    return Settings({key: found}, self.place).integer(key)
        if default is None:
            raise ModelError(
                f"{self.place}: none of {', '.join(keys)} is set; set it in config.json"
            )
        return default


KINDS: dict[str, tuple[str, Callable[[Checkpoint], Parts]]] = {
    "vision-encoder-decoder": (
        "VisionEncoderDecoderModel: ViT or DeiT with GPT-2",
        vision_encoder_decoder,
    ),
    "blip": ("BlipForConditionalGeneration", blip_captioner),
}
