"""BLIP's text decoder as our BERT-style decoder: settings and tensors."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from pipeline.models.importers.settings import Settings
from pipeline.models.importers.weights import Tensors

UNUSED = r".*\.position_ids"


def decoder_settings(config: Settings) -> dict[str, Any]:
    """The `decoder` section of our architecture from BLIP's text_config.

    Raises:
        ModelError: a setting that our decoder cannot express.
    """
    config.require("hidden_act", "gelu")
    return {
        "kind": "bert",
        "width": config.size("hidden_size", 768),
        "layers": config.size("num_hidden_layers", 12),
        "heads": config.size("num_attention_heads", 8),
        "mlp": config.size("intermediate_size", 3072),
        "positions": config.size("max_position_embeddings", 512),
        "dropout": config.number("hidden_dropout_prob", 0.0),
        "eps": config.number("layer_norm_eps", 1e-12),
    }


def decoder_state(tensors: Tensors, layers: int, prefix: str = "text_decoder") -> dict[str, Tensor]:
    """BLIP's tensors by our names."""
    bert, head = f"{prefix}.bert", f"{prefix}.cls.predictions"
    words = f"{bert}.embeddings.word_embeddings.weight"
    state = {
        "embed.weight": tensors.take(words),
        "position.weight": tensors.take(f"{bert}.embeddings.position_embeddings.weight"),
        "out_bias": tensors.take(f"{head}.bias"),
    }
    tensors.tied(f"{head}.decoder.weight", words)
    tensors.tied(f"{head}.decoder.bias", f"{head}.bias")
    modules = [
        ("norm", f"{bert}.embeddings.LayerNorm"),
        ("transform", f"{head}.transform.dense"),
        ("transform_norm", f"{head}.transform.LayerNorm"),
    ]
    for n in range(layers):
        ours, theirs = f"layers.{n}", f"{bert}.encoder.layer.{n}"
        for part, other in (("own", "attention"), ("cross", "crossattention")):
            modules += [
                (f"{ours}.{part}.{name}", f"{theirs}.{other}.self.{name}")
                for name in ("query", "key", "value")
            ]
            modules.append((f"{ours}.{part}.out", f"{theirs}.{other}.output.dense"))
            modules.append((f"{ours}.{part}.norm", f"{theirs}.{other}.output.LayerNorm"))
        modules += [
            (f"{ours}.mlp_up", f"{theirs}.intermediate.dense"),
            (f"{ours}.mlp_down", f"{theirs}.output.dense"),
            (f"{ours}.norm", f"{theirs}.output.LayerNorm"),
        ]
    return state | tensors.rename(modules)
