"""What is refused, and what the refusal says."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from pipeline.errors import ModelError, WeightsError
from pipeline.models.importers import hub, import_checkpoint
from pipeline.models.importers.checkpoint import Checkpoint


@pytest.fixture
def directory(original, tmp_path):
    return shutil.copytree(original.directory, tmp_path / "checkpoint")


@pytest.fixture
def vit(save_original, tmp_path):
    return save_original("vit", tmp_path / "vit").directory


def rewrite(directory, name, **change):
    """Change a JSON file; a dict changes a section of it, None removes a key."""
    path = directory / name
    content = json.loads(path.read_text())
    for key, value in change.items():
        if isinstance(value, dict) and isinstance(content.get(key), dict):
            content[key].update(value)
        elif value is None:
            content.pop(key, None)
        else:
            content[key] = value
    path.write_text(json.dumps(content))


def refused(directory, kind=ModelError):
    with pytest.raises(kind) as raised:
        import_checkpoint(str(directory))
    assert str(directory) in str(raised.value)
    return str(raised.value)


def tensors(directory):
    return load_file(directory / "model.safetensors")


def write(directory, state):
    save_file({k: v.contiguous() for k, v in state.items()}, directory / "model.safetensors")


def test_weights_in_other_files_are_the_same_weights(directory):
    expected, _ = import_checkpoint(str(directory))
    state = tensors(directory)
    (directory / "model.safetensors").unlink()
    names = sorted(state)
    for part, chosen in enumerate((names[::2], names[1::2])):
        save_file({name: state[name] for name in chosen}, directory / f"part-{part}.safetensors")
    places = {name: f"part-{number % 2}.safetensors" for number, name in enumerate(names)}
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}))
    parted, _ = import_checkpoint(str(directory))
    index.unlink()
    torch.save(state, directory / "pytorch_model.bin")
    pickled, _ = import_checkpoint(str(directory))
    for other in (parted, pickled):
        for name, value in expected.model.state_dict().items():
            assert torch.equal(value, other.model.state_dict()[name])
    shas = {s.provenance["original_sha256"] for s in (expected, parted, pickled)}
    assert len(shas) == 3


def test_what_old_releases_left_beside_the_weights_is_passed_over(original, directory):
    """Masks, positions, tied output layers, and an image processor with one number for its size."""
    expected, _ = import_checkpoint(str(directory))
    state, extra = tensors(directory), {}
    for name, value in state.items():
        if name.endswith("attn.c_attn.bias") or name.endswith("crossattention.c_attn.bias"):
            place = name.removesuffix("c_attn.bias")
            extra[f"{place}bias"] = torch.ones(1, 1, 40, 40, dtype=torch.uint8)
            extra[f"{place}masked_bias"] = torch.tensor(-1e4)
        elif name.endswith("wte.weight"):
            extra["decoder.lm_head.weight"] = value.clone()
        elif name.endswith("word_embeddings.weight"):
            extra["text_decoder.cls.predictions.decoder.weight"] = value.clone()
            extra["text_decoder.bert.embeddings.position_ids"] = torch.arange(40)[None]
        elif name.endswith("cls.predictions.bias"):
            extra["text_decoder.cls.predictions.decoder.bias"] = value.clone()
    assert len(extra) >= 3
    (directory / "model.safetensors").unlink()
    torch.save({**state, **extra}, directory / "pytorch_model.bin")
    names = [
        n
        for n in ("preprocessor_config.json", "processor_config.json")
        if (directory / n).is_file()
    ]
    (directory / names[0]).unlink()
    settings = original.processor.to_dict()
    old = {key: settings[key] for key in ("do_resize", "image_mean", "image_std", "resample")}
    (directory / "preprocessor_config.json").write_text(json.dumps({**old, "size": 32}))
    saved, notes = import_checkpoint(str(directory))
    assert notes == []
    assert saved.transform.fingerprint() == expected.transform.fingerprint()
    for name, value in expected.model.state_dict().items():
        assert torch.equal(value, saved.model.state_dict()[name])


def test_half_precision_is_read_as_float32(directory):
    write(directory, {k: v.half() for k, v in tensors(directory).items()})
    saved, _ = import_checkpoint(str(directory))
    assert {value.dtype for value in saved.model.state_dict().values()} == {torch.float32}


def test_a_directory_that_is_no_checkpoint(directory):
    (directory / "config.json").write_text("{")
    assert "not JSON" in refused(directory)
    (directory / "config.json").write_text("[]")
    assert "no JSON object" in refused(directory)
    (directory / "config.json").write_text("{}")
    assert "no model_type" in refused(directory)
    (directory / "config.json").write_text('{"a": ' * 100_000)
    assert "not JSON" in refused(directory)
    (directory / "config.json").unlink()
    (directory / "config.json").mkdir()
    assert "config.json: Is a directory" in refused(directory)
    (directory / "config.json").rmdir()
    assert "no config.json" in refused(directory)
    with pytest.raises(ModelError, match="not a directory"):
        Checkpoint.open(directory / "absent")


def test_models_of_other_kinds(vit):
    rewrite(vit, "config.json", model_type="git", architectures=["GitForCausalLM"])
    message = refused(vit)
    assert "git model (GitForCausalLM)" in message
    assert "vision-encoder-decoder (VisionEncoderDecoderModel: ViT or DeiT with GPT-2)" in message
    assert "blip (BlipForConditionalGeneration)" in message
    rewrite(vit, "config.json", model_type="vision-encoder-decoder", encoder={"model_type": "swin"})
    assert "encoder: model_type = 'swin' is not supported; supported: 'vit', 'deit'" in refused(vit)
    rewrite(vit, "config.json", encoder=None)
    assert "no section 'encoder'" in refused(vit)


@pytest.mark.parametrize(
    ("section", "change", "message"),
    [
        ("encoder", {"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ("encoder", {"num_channels": 1}, "num_channels = 1"),
        ("encoder", {"image_size": [32, 48]}, "image_size"),
        ("encoder", {"hidden_size": "wide"}, "hidden_size = 'wide' is not a whole number"),
        ("decoder", {"activation_function": "relu"}, "activation_function = 'relu'"),
        ("decoder", {"scale_attn_weights": False}, "scale_attn_weights = False"),
        ("decoder", {"scale_attn_by_inverse_layer_idx": True}, "scale_attn_by_inverse_layer_idx"),
        ("decoder", {"model_type": "bert"}, "supported: 'gpt2'"),
        ("decoder", {"layer_norm_epsilon": "small"}, "not a number"),
        ("encoder", {"num_attention_heads": 0}, "num_attention_heads = 0 is no size"),
        ("encoder", {"patch_size": 0}, "patch_size = 0 is no size"),
        ("encoder", {"image_size": "large"}, "image_size = 'large' is not a whole number"),
        ("encoder", {"num_hidden_layers": -1}, "num_hidden_layers = -1 is no size"),
        ("decoder", {"n_head": 0}, "n_head = 0 is no size"),
        ("decoder", {"n_embd": -16}, "n_embd = -16 is no size"),
        ("decoder", {"vocab_size": 10**12}, "vocab_size = 1000000000000 is no size (1 to"),
    ],
)
def test_settings_that_cannot_be_expressed(vit, section, change, message):
    rewrite(vit, "config.json", **{section: change})
    assert message in refused(vit)


def test_a_checkpoint_that_says_no_end_token(vit):
    rewrite(vit, "config.json", eos_token_id=None, decoder={"eos_token_id": None})
    rewrite(vit, "generation_config.json", eos_token_id=None)
    assert "none of eos_token_id is set" in refused(vit)


def test_tensors_that_are_missing_strange_or_of_another_shape(directory):
    state = tensors(directory)
    name = next(
        n
        for n in state
        if n.endswith("embeddings.position_embeddings.weight") or n.endswith("wpe.weight")
    )
    write(directory, {k: v for k, v in state.items() if k != name})
    assert name in refused(directory, WeightsError)
    write(directory, {**state, "adapter.weight": torch.zeros(2)})
    message = refused(directory, WeightsError)
    assert "another architecture" in message and "adapter.weight" in message
    write(directory, {**state, name: state[name][:-1]})
    message = refused(directory, WeightsError)
    assert "config.json and its tensors disagree" in message
    assert "position.weight [39," in message and "instead of [40," in message


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_tensors_that_are_not_finite(directory, value):
    state = tensors(directory)
    name = next(
        n for n in state if n.endswith("word_embeddings.weight") or n.endswith("wte.weight")
    )
    state[name][1, 1] = value
    write(directory, state)
    assert f"{name} holds NaN or infinity" in refused(directory, WeightsError)


def test_an_output_layer_of_its_own_is_refused(vit):
    state = tensors(vit)
    words = state["decoder.transformer.wte.weight"]
    write(vit, {**state, "decoder.lm_head.weight": words.clone()})
    import_checkpoint(str(vit))
    write(vit, {**state, "decoder.lm_head.weight": words + 1})
    assert "decoder.lm_head.weight differs" in refused(vit, WeightsError)


def test_weights_files_that_are_missing_or_none(directory):
    path = directory / "model.safetensors"
    path.write_bytes(b"not a safetensors file")
    assert "cannot be read" in refused(directory, WeightsError)
    path.unlink()
    assert "neither model.safetensors nor pytorch_model.bin" in refused(directory, WeightsError)
    index = directory / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "model-1.safetensors"}}))
    assert "lacks model-1.safetensors" in refused(directory, WeightsError)
    index.write_text("{}")
    assert "neither" in refused(directory, WeightsError)


class Hostile:
    """Pickled, it is a call to a function."""

    def __reduce__(self):
        return (open, ("executed", "w"))


def test_a_pickle_is_never_executed(directory, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (directory / "model.safetensors").unlink()
    torch.save({"a": Hostile()}, directory / "pytorch_model.bin")
    assert "nothing else in it is ever executed" in refused(directory, WeightsError)
    assert not (tmp_path / "executed").exists()
    torch.save([1, 2], directory / "pytorch_model.bin")
    assert "no state dict" in refused(directory, WeightsError)


def test_a_name_on_the_hub(vit, monkeypatch):
    import huggingface_hub

    asked = []

    def snapshot(name, *, revision, allow_patterns):
        asked.append((name, revision, allow_patterns))
        return str(vit)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    saved, _ = import_checkpoint("someone/captions@v1")
    assert saved.provenance["original"] == "VisionEncoderDecoderModel"
    assert [(name, revision) for name, revision, _ in asked] == [("someone/captions", "v1")]
    torch.save(tensors(vit), vit / "pytorch_model.bin")
    (vit / "model.safetensors").unlink()
    import_checkpoint("captions")
    assert asked[1][:2] == asked[2][:2] == ("captions", None)
    assert hub.PICKLED in asked[2][2] and hub.PICKLED not in asked[1][2]


def test_names_that_the_hub_does_not_give(monkeypatch):
    import huggingface_hub

    def snapshot(name, **_):
        raise OSError(f"no route to {name}\nand much more")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    with pytest.raises(ModelError, match=r"no directory here, .* no route to someone/captions$"):
        import_checkpoint("someone/captions")
    for name in ("/no/such/directory", ""):
        with pytest.raises(ModelError, match="neither a directory nor a name"):
            import_checkpoint(name)


def test_a_file_is_never_looked_for_on_the_hub(monkeypatch, tmp_path):
    monkeypatch.setattr(hub, "download", lambda name: pytest.fail(f"asked the hub for {name}"))
    (tmp_path / "model").write_bytes(b"")
    for name in (str(tmp_path / "model"), "photo.png", "someone/model.safetensors"):
        with pytest.raises(ModelError, match=f"{name} is a file; a checkpoint is the directory"):
            import_checkpoint(name)
