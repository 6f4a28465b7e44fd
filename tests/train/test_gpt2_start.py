"""A decoder that starts from a GPT-2 checkpoint, with the checkpoint's own tokenizer."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pipeline.config import Config, load_config
from pipeline.errors import ModelError, WeightsError
from pipeline.shard import shard
from pipeline.train import fingerprint, train

CAPTIONS = ("a red square", "the whole picture is green")


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("gpt2")
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=40, special_tokens=["<|endoftext|>"], show_progress=False
    )
    backend.train_from_iterator(CAPTIONS, trainer)
    backend.save(str(directory / "tokenizer.json"))
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    config = transformers.GPT2Config(
        vocab_size=backend.get_vocab_size(),
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=64,
        bos_token_id=0,
        eos_token_id=0,
    )
    transformers.GPT2LMHeadModel(config).save_pretrained(directory)
    return directory


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    for split in ("train", "val"):
        rows = []
        for number in range(6):
            shade = (40 * number, 9, 9 if split == "train" else 99)
            Image.new("RGB", (32, 32), shade).save(folder / f"{split}-{number}.png")
            caption = CAPTIONS[number % 2]
            rows.append({"image": f"{split}-{number}.png", "caption": caption, "split": split})
        (folder / f"{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


def settings(data: Path, gpt2: Path, width: int = 32) -> Config:
    sources = [{"kind": "jsonl", "annotations": str(data / f"{s}.jsonl")} for s in ("train", "val")]
    decoder = {
        "kind": "gpt",
        "width": width,
        "layers": 2,
        "heads": 2,
        "positions": 48,
        "dropout": 0.0,
        "weights": str(gpt2),
    }
    return load_config(
        None,
        [
            f"shard.sources={json.dumps(sources)}",
            f"train.decoder={json.dumps(decoder)}",
            f"train.tokenizer={json.dumps({'kind': 'file', 'path': str(gpt2)})}",
            "train.encoder.name=resnet18",
            "train.transform.size=32",
            "train.epochs=1",
            "train.batch_size=3",
            "train.learning_rate=1e-12",
            "device=cpu",
        ],
    )


def test_training_starts_from_the_checkpoint(data: Path, gpt2: Path, work: Path) -> None:
    config = settings(data, gpt2)
    record = train(config, work, shard(config, work))
    trained = load_file(Path(record.path) / "model.safetensors")
    start = load_file(gpt2 / "model.safetensors")
    for ours, theirs in (
        ("decoder.embed.weight", start["transformer.wte.weight"]),
        ("decoder.position.weight", start["transformer.wpe.weight"][:48]),
        ("decoder.blocks.1.mlp_up.weight", start["transformer.h.1.mlp.c_fc.weight"].T),
    ):
        torch.testing.assert_close(trained[ours], theirs, atol=1e-6, rtol=0)
    architecture = json.loads((Path(record.path) / "captioner.json").read_text())["architecture"]
    assert "weights" not in architecture["decoder"]  # it is needed for the first step alone


def test_other_weights_are_another_training_and_another_place_is_not(
    data: Path, gpt2: Path, tmp_path: Path
) -> None:
    config = settings(data, gpt2)
    shards = shard(config, tmp_path)
    copy = shutil.copytree(gpt2, tmp_path / "copy")
    assert fingerprint(settings(data, copy), shards) == fingerprint(config, shards)
    state = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    torch.save({k: v + 1 for k, v in state.items()}, copy / "pytorch_model.bin")
    assert fingerprint(settings(data, copy), shards) != fingerprint(config, shards)


def test_what_does_not_fit_stops_before_any_step(data: Path, gpt2: Path, tmp_path: Path) -> None:
    config = settings(data, gpt2, width=64)
    shards = shard(config, tmp_path)
    with pytest.raises(WeightsError, match="with width = 32, mlp = 128"):
        train(config, tmp_path, shards)
    copy = shutil.copytree(gpt2, tmp_path / "copy")
    (copy / "config.json").unlink()
    with pytest.raises(ModelError, match=r"no config\.json"):
        train(settings(data, copy), tmp_path, shards)
