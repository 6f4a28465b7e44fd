"""`import-hf`: versions, aliases and where a model came from."""

from __future__ import annotations

import json
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
import transformers
from click.testing import CliRunner
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from flows import cli
from pipeline import storage
from pipeline.errors import BusyError, ConfigError, ModelError
from pipeline.import_hf import import_hf
from pipeline.predict import load_captioner
from pipeline.tracking import Tracker

WORDS = ["<|endoftext|>", "a", "dog", "cat", "red", "on", "grass"]


def save(directory: Path, seed: int = 0) -> Path:
    """A checkpoint of a few words, saved by transformers."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    torch.manual_seed(seed)
    config = transformers.VisionEncoderDecoderConfig.from_encoder_decoder_configs(
        transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=16,
            patch_size=8,
        ),
        transformers.GPT2Config(
            vocab_size=len(WORDS),
            n_embd=16,
            n_layer=1,
            n_head=2,
            n_positions=24,
            bos_token_id=0,
            eos_token_id=0,
        ),
    )
    config.decoder_start_token_id = config.pad_token_id = config.eos_token_id = 0
    transformers.VisionEncoderDecoderModel(config).save_pretrained(directory)
    transformers.ViTImageProcessor(size={"height": 16, "width": 16}).save_pretrained(directory)
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.decoder = decoders.Fuse()
    backend.add_special_tokens(WORDS[:1])
    backend.save(str(directory / "tokenizer.json"))
    return directory


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("second"), seed=1)


def aliases(work: Path) -> dict[str, int]:
    return Tracker(work).aliases("captioner")


def test_the_first_is_champion_and_the_next_only_if_told(
    work: Path, first: Path, second: Path
) -> None:
    made = import_hf(str(first), work)
    assert (made.version.ref, made.aliases, made.champion) == ("captioner/1", ("champion",), 1)
    made = import_hf(str(second), work)
    assert (made.version.ref, made.aliases, made.champion) == ("captioner/2", (), 1)
    assert aliases(work) == {"champion": 1}
    made = import_hf(str(second), work, alias="champion")
    assert (made.version.ref, made.aliases, made.champion) == ("captioner/2", ("champion",), 2)
    assert aliases(work) == {"champion": 2, "previous": 1}
    import_hf(str(second), work, alias="champion")
    assert aliases(work) == {"champion": 2, "previous": 1}


def test_the_same_checkpoint_is_the_same_version_wherever_it_lies(
    work: Path, first: Path, tmp_path: Path
) -> None:
    copied = tmp_path / "a copy"
    copied.mkdir()
    for path in first.iterdir():
        (copied / path.name).write_bytes(path.read_bytes())
    assert import_hf(str(first), work).version.version == 1
    assert import_hf(str(copied), work).version.version == 1
    # Other settings are another captioner.
    settings = json.loads((copied / "generation_config.json").read_text())
    (copied / "generation_config.json").write_text(json.dumps({**settings, "num_beams": 2}))
    assert import_hf(str(copied), work).version.version == 2
    assert not list(work.glob(f"{storage.TEMPORARY}*"))


def test_aliases_of_other_names_and_none(work: Path, first: Path, second: Path) -> None:
    assert import_hf(str(first), work, alias="none").aliases == ()
    assert aliases(work) == {}
    made = import_hf(str(second), work, alias="baseline")
    assert (made.aliases, made.champion) == (("baseline",), None)
    assert aliases(work) == {"baseline": 2}
    for bad in ("", "Latest", "latest", "v2", "a b", "x@y"):
        with pytest.raises(ConfigError, match="--alias"):
            import_hf(str(first), work, alias=bad)
    with pytest.raises(ConfigError, match="--name 'a/b'"):
        import_hf(str(first), work, name="a/b")


def test_a_version_says_where_it_came_from(work: Path, first: Path) -> None:
    version = import_hf(str(first), work).version
    digest = storage.sha256_file(first / "model.safetensors")
    assert version.tags["captionmill.source"] == str(first)
    assert version.tags["captionmill.original"] == "VisionEncoderDecoderModel"
    assert version.tags["captionmill.original_sha256"] == digest
    description = storage.read_json(version.directory / "captioner.json")
    assert description["provenance"] == {
        "imported_from": "Hugging Face",
        "original": "VisionEncoderDecoderModel",
        "original_sha256": digest,
    }


def test_it_captions_by_reference(work: Path, first: Path) -> None:
    import_hf(str(first), work)
    black = torch.zeros(3, 20, 30, dtype=torch.uint8)
    by_version, by_alias = (
        load_captioner(ref, work, "cpu").caption([black])
        for ref in ("captioner/1", "captioner@champion")
    )
    assert by_version == by_alias
    assert len(by_version[0].text.split()) <= 20


def test_promotions_and_imports_wait_for_nobody(work: Path, first: Path) -> None:
    with storage.lock(work / "promote"), pytest.raises(BusyError):
        import_hf(str(first), work)


def test_the_command(work: Path, first: Path, tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        result = CliRunner().invoke(cli.main, [str(argument) for argument in arguments])
        assert result.exit_code == 0, result.output
        return result.output

    output = run("import-hf", first, "--work", work)
    assert [line.split(maxsplit=1)[0] for line in output.splitlines()] == [
        "registered",
        "from",
        "aliases",
        "champion",
    ]
    assert "captioner/1" in output and "(VisionEncoderDecoderModel)" in output
    output = run("import-hf", first, "--work", work, "--name", "other", "--alias", "none")
    assert "use it as --model other/1" in output and "champion    none" in output
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.new("RGB", (30, 20), (80 * number, 9, 9)).save(photos / f"{number}.png")
    table = tmp_path / "table"
    output = run("caption", photos, "--table", table, "--model", "other/1", "--work", work)
    assert "captions out  3" in output


def test_errors_end_the_command_with_the_exit_code_of_a_model(work: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        import_hf(str(tmp_path), work)
    result = CliRunner().invoke(cli.main, ["import-hf", str(tmp_path), "--work", str(work)])
    assert result.exit_code == 4
    assert result.stderr.startswith(f"error: {tmp_path} is no Hugging Face checkpoint")
