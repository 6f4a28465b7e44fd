"""A captioner's directory: what is saved is loaded, and damage is named."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from pipeline import storage
from pipeline.config_model import GenerationConfig
from pipeline.decode import Sampling
from pipeline.errors import ConfigError, ImageError, ModelError, ModelNotFoundError, WeightsError
from pipeline.images import Transform
from pipeline.models.build import build
from pipeline.models.saved import SavedCaptioner, model_fingerprint
from pipeline.predict import Predictor, choose_device, load_captioner, parse_ref
from pipeline.text import Tokenizer


@pytest.fixture
def directory(tmp_path, save_captioner):
    return save_captioner(tmp_path / "model", ["a red square on a white page"])


def test_loaded_it_captions_paths_bytes_and_tensors_alike(directory, tmp_path):
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "a.png")
    captioner = load_captioner(directory, device="cpu")
    data = (tmp_path / "a.png").read_bytes()
    pixels = torch.arange(256, dtype=torch.uint8)[None, :, None].expand(3, 256, 256)
    by_path, by_bytes, by_tensor = captioner.caption([tmp_path / "a.png", data, pixels])
    assert by_path == by_bytes == by_tensor
    assert by_path.text and by_path.score < 0
    assert captioner.caption([]) == []


def test_candidates_are_given_best_first(directory):
    captioner = load_captioner(directory, device="cpu")
    [caption] = captioner.caption([torch.zeros(3, 32, 32, dtype=torch.uint8)], candidates=3)
    assert len(caption.candidates) == 3
    assert caption.candidates[0] == (caption.text, caption.score)


def test_loading_moves_no_random_numbers(directory):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    load_captioner(directory, device="cpu")
    assert torch.equal(torch.rand(3), expected)


def test_the_fingerprint_is_of_what_decides_a_caption(directory, tmp_path):
    before = model_fingerprint(directory)
    changes = {
        "provenance": {"epoch": 9},
        "generation": GenerationConfig(beam=5),
        "tokenizer": Tokenizer.load(directory / "tokenizer.json", "word", bos=1, eos=2, pad=3),
    }
    for name, change in changes.items():
        saved = SavedCaptioner.load(directory)
        setattr(saved, name, change)
        (tmp_path / name).mkdir()
        saved.save(tmp_path / name)
    assert model_fingerprint(tmp_path / "provenance") == before
    assert model_fingerprint(tmp_path / "generation") != before
    assert model_fingerprint(tmp_path / "tokenizer") != before, "the same words, other special ids"


def test_damage_is_named(directory):
    weights = directory / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:-5])
    with pytest.raises(WeightsError, match="SHA-256"):
        load_captioner(directory)
    weights.unlink()
    with pytest.raises(WeightsError, match="missing"):
        load_captioner(directory)
    weights.write_bytes(data)
    tokenizer = directory / "tokenizer.json"
    text = tokenizer.read_text()
    # Still a tokenizer of as many words: captions would say one for another.
    words = list(storage.parse_json(text)["model"]["vocab"])[-2:]
    swapped = text.replace(words[0], "\0").replace(words[1], words[0]).replace("\0", words[1])
    assert swapped != text
    tokenizer.write_text(swapped)
    with pytest.raises(ModelError, match=r"tokenizer\.json is damaged: its SHA-256"):
        load_captioner(directory)
    tokenizer.unlink()
    with pytest.raises(ModelError, match=r"tokenizer\.json is missing"):
        load_captioner(directory)
    (directory / "captioner.json").write_text("{")
    with pytest.raises(ModelError, match="not JSON"):
        load_captioner(directory)
    (directory / "captioner.json").unlink()
    with pytest.raises(ModelError, match=r"no captioner\.json"):
        load_captioner(directory)


@pytest.mark.parametrize("value", [torch.nan, -torch.inf])
def test_weights_that_are_not_finite_are_refused(directory, tmp_path, value):
    saved = SavedCaptioner.load(directory)
    with torch.no_grad():
        saved.model.decoder.query.weight[0, 0] = value
    (tmp_path / "damaged").mkdir()
    saved.save(tmp_path / "damaged")
    with pytest.raises(WeightsError, match=r"NaN or infinity in 1 tensors, decoder\.query\.weight"):
        load_captioner(tmp_path / "damaged", device="cpu")


def test_files_that_do_not_belong_together_are_named(directory):
    good = storage.read_json(directory / "captioner.json")

    def refused(**change):
        storage.commit_json(directory / "captioner.json", {**good, **change})
        with pytest.raises(ModelError) as raised:
            load_captioner(directory, device="cpu")
        return str(raised.value)

    wider = {**good["architecture"]["decoder"], "width": 24}
    message = refused(architecture={**good["architecture"], "decoder": wider})
    assert "does not fit captioner.json" in message and "decoder.query.weight" in message
    assert "another decode recipe" in refused(recipe="0123456789abcdef")
    assert "does not describe one" in refused(tokenizer={"kind": "word"})
    other_version = refused(generation={**good["generation"], "sideways": True})
    assert "captioner.json has sideways = True: Extra inputs" in other_version
    assert "\n" not in other_version and "use the version that made it" in other_version
    assert "no eos = 99" in refused(tokenizer={**good["tokenizer"], "eos": 99})
    (directory / "tokenizer.json").write_text(Tokenizer.train(["another"]).to_json())
    assert "5 words, the model 10" in refused(tokenizer_sha256=None), "as earlier versions wrote it"
    (directory / "tokenizer.json").unlink()
    for read in (model_fingerprint, load_captioner):
        with pytest.raises(ModelError, match="no tokenizer"):
            read(directory)
    del good["weights_sha256"], good["provenance"]
    assert "lacks weights_sha256, provenance" in refused()


def test_pictures_that_are_none_are_named(directory, tmp_path):
    captioner = load_captioner(directory, device="cpu")
    (tmp_path / "bad.jpg").write_bytes(b"hello")
    with pytest.raises(ImageError, match=r"not_an_image: .*bad\.jpg"):
        captioner.caption([tmp_path / "bad.jpg"])
    with pytest.raises(ImageError, match=r"unreadable_file: .*absent\.jpg"):
        captioner.caption([tmp_path / "absent.jpg"])
    with pytest.raises(ConfigError, match=r"uint8 \[3, H, W\]"):
        captioner.caption([torch.zeros(3, 8, 8)])
    with pytest.raises(ConfigError, match="not int"):
        captioner.caption([3])
    black = torch.zeros(3, 8, 8, dtype=torch.uint8)
    for alone in ("bad.jpg", black):
        with pytest.raises(ConfigError, match="a list of pictures"):
            captioner.caption(alone)
    with pytest.raises(ConfigError, match=r"\[3, 0, 8\]"):
        captioner.caption([black[:, :0]])
    for wrong in ({"beam": 0}, {"candidates": 0}):
        with pytest.raises(ConfigError, match="start at 1"):
            captioner.caption([black], **wrong)
    with pytest.raises(ConfigError, match="candidates = 5, but beam = 2"):
        captioner.caption([black], beam=2, candidates=5)
    sampled = captioner.caption([black], candidates=5, sampling=Sampling())
    assert len(sampled[0].candidates) == 5


def test_references_and_devices_that_name_nothing(tmp_path):
    assert parse_ref("captioner@champion") == ("captioner", "champion", None)
    assert parse_ref("my.model/12") == ("my.model", None, 12)
    for bad in ("captioner", "captioner/x", "a b@c", "nowhere/model", ""):
        with pytest.raises(ModelNotFoundError, match="NAME@alias"):
            load_captioner(bad, work=tmp_path)
    with pytest.raises(ConfigError, match="not auto, cpu"):
        choose_device("gpu")
    with pytest.raises(ConfigError, match="CUDA devices"):
        choose_device("cuda:999")


def test_it_captions_in_half_precision_much_alike(directory):
    whole = load_captioner(directory, device="cpu")
    half = load_captioner(directory, device="cpu", dtype="bfloat16")
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    assert half.features(pixels).dtype == torch.bfloat16
    for one, other in zip(whole.caption_pixels(pixels), half.caption_pixels(pixels), strict=True):
        assert other.text
        assert other.score == pytest.approx(one.score, abs=0.05)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("decoder", ["lstm", "gpt"])
def test_both_decoders_caption_in_both_half_precisions(decoder, dtype):
    torch.manual_seed(1)
    tokenizer = Tokenizer.train(["a red square on a white page"])
    sizes = {
        "lstm": {"embedding": 16, "attention": 8, "dropout": 0.0},
        "gpt": {"heads": 2, "layers": 2},
    }
    architecture = {
        "encoder": {"name": "resnet18", "train": 1},
        "decoder": {"kind": decoder, "width": 16, **sizes[decoder]},
        "vocabulary": len(tokenizer),
        "size": 32,
    }
    saved = SavedCaptioner(
        build(architecture),
        tokenizer,
        Transform(size=32),
        GenerationConfig(max_len=6),
        architecture,
    )
    pixels = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8)
    cpu, names = torch.device("cpu"), {"ref": "m", "name": "m", "version": "", "fingerprint": ""}
    # The device is no GPU: what is checked here is the arithmetic.
    whole = Predictor(saved, device=cpu, **names).caption_pixels(pixels)
    half = Predictor(saved, device=cpu, dtype=getattr(torch, dtype), **names).caption_pixels(pixels)
    for one, other in zip(whole, half, strict=True):
        assert other.text
        assert other.score == pytest.approx(one.score, abs=0.1)
