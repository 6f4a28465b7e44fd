"""Small random checkpoints, saved by the real transformers package."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import transformers as package
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

CAPTIONS = (
    "a dog runs over the green grass",
    "two children play football on a beach",
    "a woman in a red coat is walking her dogs",
    "the boy's kite flies above the café",
)
END = "<|endoftext|>"
SIZE, PATCH = 32, 8

package.logging.set_verbosity_error()
package.logging.disable_progress_bar()


@pytest.fixture(scope="session")
def transformers() -> Any:
    """The package that is compared with."""
    return package


def scatter(model: torch.nn.Module, seed: int, spread: float) -> None:
    """Random weights large enough for captions to differ; norms near 1, small biases."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if value.ndim > 1:
                value.normal_(std=spread)
            elif name.endswith("weight"):
                value.uniform_(0.5, 1.5)
            else:
                value.normal_(std=0.1)


def gpt2_tokenizer() -> Any:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=[END], show_progress=False)
    backend.train_from_iterator(CAPTIONS, trainer)
    vocabulary = backend.get_vocab()
    merges = [tuple(pair) for pair in json.loads(backend.to_str())["model"]["merges"]]
    return package.GPT2Tokenizer(vocab=vocabulary, merges=merges)


def bert_tokenizer() -> Any:
    words = sorted({word for caption in CAPTIONS for word in caption.replace("'", " ' ").split()})
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    entries = [*special, *words, "##s", "##ing", "walk"]
    return package.BertTokenizer(vocab={word: i for i, word in enumerate(entries)})


def gpt2_settings(vocabulary: int, end: int) -> dict[str, Any]:
    return {
        "vocab_size": vocabulary,
        "n_embd": 48,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 40,
        "bos_token_id": end,
        "eos_token_id": end,
    }


def vision_encoder_decoder(kind: str, tokenizer: Any, **encoder: Any) -> Any:
    make = {"vit": package.ViTConfig, "deit": package.DeiTConfig}[kind]
    sizes = {
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "image_size": SIZE,
        "patch_size": PATCH,
    }
    end = tokenizer.eos_token_id
    config = package.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        make(**{**sizes, **encoder}), package.GPT2Config(**gpt2_settings(len(tokenizer), end))
    )
    config.decoder_start_token_id = config.pad_token_id = config.eos_token_id = end
    return package.VisionEncoderDecoderModel(config)


def blip_model(tokenizer: Any) -> Any:
    """With two rows more than the tokenizer has entries, as the real BLIP: begin is one of them."""
    text = {
        "vocab_size": len(tokenizer) + 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 40,
        "bos_token_id": len(tokenizer),
        "sep_token_id": tokenizer.sep_token_id,
        "eos_token_id": 2,
        "pad_token_id": 0,
    }
    vision = {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIZE,
        "patch_size": PATCH,
    }
    config = package.BlipConfig(text_config=text, vision_config=vision)
    return package.BlipForConditionalGeneration(config)


@dataclass
class Original:
    """A checkpoint's directory and the objects that it was saved from."""

    directory: Path
    model: Any
    tokenizer: Any
    processor: Any


@pytest.fixture(scope="session")
def save_original() -> Callable[..., Original]:
    """A function that saves a checkpoint of a kind (vit, deit or blip) with random weights."""

    def save(kind: str, directory: Path, seed: int = 0, spread: float = 0.3, **change: Any) -> Any:
        size = {"height": SIZE, "width": SIZE}
        if kind == "blip":
            tokenizer = bert_tokenizer()
            model = blip_model(tokenizer)
            processor = package.BlipImageProcessor(size=size)
            package.BlipProcessor(processor, tokenizer).save_pretrained(directory)
        else:
            tokenizer = gpt2_tokenizer()
            model = vision_encoder_decoder(kind, tokenizer, **change)
            processor = package.ViTImageProcessor(size=size)
            processor.save_pretrained(directory)
            tokenizer.save_pretrained(directory)
        scatter(model, seed, spread)
        model.eval().save_pretrained(directory)
        return Original(directory, model, tokenizer, processor)

    return save


@pytest.fixture(scope="session", params=["vit", "deit", "blip"])
def original(
    request: pytest.FixtureRequest,
    save_original: Callable[..., Original],
    tmp_path_factory: pytest.TempPathFactory,
) -> Original:
    return save_original(request.param, tmp_path_factory.mktemp(request.param))
