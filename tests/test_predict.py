"""Generation settings in token ids, and captions that are drawn at random."""

from __future__ import annotations

import pytest
import torch

from pipeline.config_model import GenerationConfig
from pipeline.decode import Sampling
from pipeline.errors import ConfigError
from pipeline.predict import choose_dtype, load_captioner, search_limits
from pipeline.text import Tokenizer

CAPTIONS = ["a red square on a white page", "a hot dog"]


def test_every_setting_reaches_the_search():
    tokenizer = Tokenizer.train(CAPTIONS)
    settings = GenerationConfig(
        max_len=9,
        min_len=3,
        length_penalty=0.5,
        no_repeat_ngram=2,
        repetition_penalty=1.5,
        banned_words=("Red", "hot dog", "unheard-of"),
    )
    limits = search_limits(tokenizer, settings)
    assert (limits.bos, limits.eos, limits.pad) == (1, 2, 0)
    assert (limits.max_len, limits.min_len, limits.length_penalty) == (9, 3, 0.5)
    assert (limits.ngram_block, limits.repetition_penalty) == (2, 1.5)
    red, hot, dog = tokenizer.encode(["red hot dog"])[0][1:-1]
    assert set(limits.banned) == {tokenizer.pad, tokenizer.bos, tokenizer.unk, red}
    assert limits.banned_runs == ((hot, dog),)


def test_a_banned_word_that_is_nothing_is_an_error():
    with pytest.raises(ConfigError, match=r"banned_words: '!!' is no word"):
        search_limits(Tokenizer.train(CAPTIONS), GenerationConfig(banned_words=("!!",)))


def test_an_end_token_that_is_also_padding_may_be_written():
    tokenizer = Tokenizer.train_bpe(CAPTIONS)
    tokenizer.bos = tokenizer.pad = tokenizer.eos
    assert search_limits(tokenizer, GenerationConfig()).banned == ()


def test_banned_words_are_not_written(tmp_path, save_captioner):
    directory = save_captioner(tmp_path / "model", CAPTIONS)
    captioner = load_captioner(directory, device="cpu")
    picture = torch.zeros(3, 32, 32, dtype=torch.uint8)
    word = captioner.caption([picture])[0].text.split()[0]
    generation = captioner.generation.model_copy(update={"banned_words": (word,)})
    captioner.limits = search_limits(captioner.saved.tokenizer, generation)
    for beam in (1, 3):
        assert word not in captioner.caption([picture], beam=beam)[0].text.split()


def test_samples_depend_on_seed_and_picture_alone(tmp_path, save_captioner):
    directory = save_captioner(tmp_path / "model", CAPTIONS)
    captioner = load_captioner(directory, device="cpu")
    black, white = (torch.full((3, 32, 32), v, dtype=torch.uint8) for v in (0, 255))
    both = captioner.caption([black, white], candidates=8, sampling=Sampling(seed=1))
    alone = captioner.caption([white], candidates=8, sampling=Sampling(seed=1))
    assert [t for t, _ in alone[0].candidates] == [t for t, _ in both[1].candidates]
    other = captioner.caption([white], candidates=8, sampling=Sampling(seed=2))
    assert other[0].candidates != alone[0].candidates
    assert len({text for text, _ in alone[0].candidates}) > 1


def test_a_type_of_number_is_refused_where_the_device_lacks_it(monkeypatch):
    cpu, cuda = torch.device("cpu"), torch.device("cuda:1")
    assert choose_dtype("bfloat16", cpu) == torch.bfloat16
    with pytest.raises(ConfigError, match=r"'half' is not one of float32, bfloat16, float16"):
        choose_dtype("half", cpu)
    with pytest.raises(ConfigError, match=r"float16.*device cpu: choose float32 or bfloat16"):
        choose_dtype("float16", cpu)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _device: "Old GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (7, 5))
    assert choose_dtype("float16", cuda) == torch.float16
    with pytest.raises(ConfigError, match=r"Old GPU \(cuda:1\): choose float32 or float16"):
        choose_dtype("bfloat16", cuda)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (8, 0))
    assert choose_dtype("bfloat16", cuda) == torch.bfloat16
