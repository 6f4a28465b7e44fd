"""The same model as transformers' VisionEncoderDecoderModel: ours written as a checkpoint of theirs."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor, nn

from pipeline.decode import Limits
from pipeline.models.captioner import Captioner
from pipeline.models.gpt import GPTDecoder

BLOCK = {
    "norm_self": "ln_1",
    "self_qkv": "attn.c_attn",
    "self_out": "attn.c_proj",
    "norm_cross": "ln_cross_attn",
    "cross_query": "crossattention.q_attn",
    "cross_keys_values": "crossattention.c_attn",
    "cross_out": "crossattention.c_proj",
    "norm_mlp": "ln_2",
    "mlp_up": "mlp.c_fc",
    "mlp_down": "mlp.c_proj",
}
LAYER = {
    "ln_1": "layernorm_before",
    "self_attention.out_proj": "attention.output.dense",
    "ln_2": "layernorm_after",
    "mlp.0": "intermediate.dense",
    "mlp.3": "output.dense",
}


class Twin:
    """transformers' model with a captioner's weights, encoding and generating as a user would."""

    def __init__(self, model: Captioner, architecture: dict[str, Any], limits: Limits) -> None:
        import transformers

        transformers.logging.set_verbosity_error()
        transformers.logging.disable_progress_bar()
        decoder = model.decoder
        assert isinstance(decoder, GPTDecoder)
        with tempfile.TemporaryDirectory() as directory:
            _write(Path(directory), model, architecture, limits)
            self.model = transformers.VisionEncoderDecoderModel.from_pretrained(directory).eval()
        self.limits = limits
        # A normalised bridge is not among what theirs can have: it stays outside.
        self.bridge = decoder.remember if decoder.place is not None else None
        if self.bridge is not None:
            self.model.enc_to_dec_proj = nn.Identity()

    def encode(self, images: Tensor) -> Tensor:
        out: Tensor = self.model.encoder(images).last_hidden_state
        return out

    def generate(self, images: Tensor, beam: int) -> list[tuple[int, ...]]:
        """Captions as ours are: without begin, up to and with the end token."""
        from transformers.modeling_outputs import BaseModelOutput

        hidden = self.encode(images)
        if self.bridge is not None:
            hidden = self.bridge(hidden).tokens_BSD
        limits = self.limits
        rows = self.model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=hidden),
            num_beams=beam,
            do_sample=False,
            max_new_tokens=limits.max_len,
            min_new_tokens=limits.min_len,
            length_penalty=limits.length_penalty,
            bad_words_ids=[[token] for token in limits.banned] or None,
        )
        found = []
        for row in rows[:, 1:].tolist():
            length = row.index(limits.eos) + 1 if limits.eos in row else len(row)
            found.append(tuple(row[:length]))
        return found


def _write(directory: Path, model: Captioner, architecture: dict[str, Any], limits: Limits) -> None:
    encoder, decoder = architecture["encoder"], architecture["decoder"]
    save_file(
        {k: v.detach().cpu().clone().contiguous() for k, v in _tensors(model).items()},
        directory / "model.safetensors",
        metadata={"format": "pt"},
    )
    settings = {
        "model_type": "vision-encoder-decoder",
        "architectures": ["VisionEncoderDecoderModel"],
        "decoder_start_token_id": limits.bos,
        "pad_token_id": limits.pad,
        "eos_token_id": limits.eos,
        "encoder": {
            "model_type": "vit",
            "image_size": architecture["size"],
            "patch_size": encoder["patch"],
            "num_hidden_layers": encoder["depth"],
            "hidden_size": encoder["width"],
            "num_attention_heads": encoder["heads"],
            "intermediate_size": encoder["mlp"],
            "layer_norm_eps": encoder.get("eps", 1e-6),
        },
        "decoder": {
            "model_type": "gpt2",
            "vocab_size": architecture["vocabulary"],
            "n_positions": decoder["positions"],
            "n_embd": decoder["width"],
            "n_layer": decoder["layers"],
            "n_head": decoder["heads"],
            "n_inner": decoder.get("mlp"),
            "activation_function": {"gelu": "gelu"}.get(decoder.get("activation", ""), "gelu_new"),
            "layer_norm_epsilon": decoder.get("eps", 1e-5),
            "add_cross_attention": True,
            "is_decoder": True,
            "bos_token_id": limits.bos,
            "eos_token_id": limits.eos,
            "pad_token_id": limits.pad,
        },
    }
    (directory / "config.json").write_text(json.dumps(settings))


def _tensors(model: Captioner) -> dict[str, Tensor]:
    """Every tensor by their names."""
    encoder = nn.Sequential(*model.encoder.frozen.children(), *model.encoder.trained.children())
    embedding, *blocks, norm = encoder.children()
    out = {
        "encoder.embeddings.cls_token": embedding.prefix,
        "encoder.embeddings.position_embeddings": embedding.positions,
        "encoder.embeddings.patch_embeddings.projection.weight": embedding.projection.weight,
        "encoder.embeddings.patch_embeddings.projection.bias": embedding.projection.bias,
    }
    out |= _module("encoder.layernorm", norm)
    for n, block in enumerate(blocks):
        place = f"encoder.encoder.layer.{n}"
        for ours, theirs in LAYER.items():
            out |= _module(f"{place}.{theirs}", block.get_submodule(ours))
        attention = block.self_attention
        for kind, packed in (
            ("weight", attention.in_proj_weight),
            ("bias", attention.in_proj_bias),
        ):
            for part, value in zip(("query", "key", "value"), packed.chunk(3), strict=True):
                out[f"{place}.attention.attention.{part}.{kind}"] = value
    decoder = model.decoder
    out["decoder.transformer.wte.weight"] = decoder.embed.weight
    out["decoder.transformer.wpe.weight"] = decoder.position.weight
    out |= _module("decoder.transformer.ln_f", decoder.norm)
    for n, block in enumerate(decoder.blocks):
        for ours, theirs in BLOCK.items():
            module = block.get_submodule(ours)
            place = f"decoder.transformer.h.{n}.{theirs}"
            turned = module.weight.T if isinstance(module, nn.Linear) else module.weight
            out |= {f"{place}.weight": turned, f"{place}.bias": module.bias}
    if decoder.place is None and isinstance(decoder.bridge, nn.Linear):
        out |= _module("enc_to_dec_proj", decoder.bridge)
    return out


def _module(place: str, module: nn.Module) -> dict[str, Tensor]:
    return {f"{place}.{name}": value for name, value in module.state_dict().items()}
