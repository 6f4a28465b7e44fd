"""A Hugging Face checkpoint's generation settings as our search settings.

From generation_config.json, or from config.json where older checkpoints keep them; what neither
says has the defaults of transformers' generate: greedy search, 20 tokens.
"""

from __future__ import annotations

from typing import Any

from pydantic import ValidationError

from pipeline.config_model import GenerationConfig
from pipeline.errors import ModelError
from pipeline.models.importers.checkpoint import Checkpoint
from pipeline.models.importers.settings import Settings

MAX_NEW_TOKENS = 20
NEUTRAL: dict[str, tuple[Any, ...]] = {
    "do_sample": (False,),
    "early_stopping": (False,),
    "num_beam_groups": (1,),
    "bad_words_ids": ([],),
    "suppress_tokens": ([],),
    "begin_suppress_tokens": ([],),
    "forced_bos_token_id": (),
    "forced_eos_token_id": (),
    "exponential_decay_length_penalty": (),
    "encoder_no_repeat_ngram_size": (0,),
    "guidance_scale": (1, 1.0),
    "penalty_alpha": (0, 0.0),
    "sequence_bias": (),
}
"""Settings that change captions and that our search does not have, with the values that do nothing."""


def read_generation(
    checkpoint: Checkpoint, sections: tuple[str, ...], positions: int
) -> tuple[GenerationConfig, list[str]]:
    """Search settings, and a note on each of the checkpoint's that is not followed.

    Args:
        checkpoint: where they stand.
        sections: sections of config.json that may hold them too.
        positions: most tokens that the decoder has places for.

    Raises:
        ModelError: a value that is not of its type or beyond our bounds.
    """
    settings = Settings(_merged(checkpoint, sections), f"{checkpoint.directory}: generation")
    notes = [
        f"not followed: {key} = {settings.get(key)!r}"
        for key, neutral in NEUTRAL.items()
        if settings.get(key) is not None and settings.get(key) not in neutral
    ]
    # The start token counts in max_length and min_length, in the others it does not.
    longest = settings.integer(
        "max_new_tokens", settings.integer("max_length", MAX_NEW_TOKENS + 1) - 1
    )
    shortest = settings.integer("min_new_tokens", max(settings.integer("min_length", 0) - 1, 0))
    room = min(positions, 512)
    if longest > room:
        notes.append(f"captions end at {room} tokens instead of {longest}")
        longest = room
    try:
        generation = GenerationConfig(
            beam=settings.integer("num_beams", 1),
            max_len=longest,
            min_len=shortest,
            length_penalty=settings.number("length_penalty", 1.0),
            no_repeat_ngram=settings.integer("no_repeat_ngram_size", 0),
            repetition_penalty=settings.number("repetition_penalty", 1.0),
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "the settings"
        raise ModelError(
            f"{settings.place}: {place} = {problem['input']!r}: {problem['msg']}; "
            "change it in generation_config.json"
        ) from None
    return generation, notes


def _merged(checkpoint: Checkpoint, sections: tuple[str, ...]) -> dict[str, Any]:
    """All settings, the weightiest place last; null says nothing."""
    places = [*(checkpoint.section(name) for name in sections), checkpoint.config]
    # Old releases wrote every default into config.json; that of max_length means 20 new tokens.
    old = {
        key: value
        for place in places
        for key, value in place.items()
        if value is not None and (key, value) != ("max_length", MAX_NEW_TOKENS)
    }
    new = checkpoint.json("generation_config.json")
    return old | {key: value for key, value in new.items() if value is not None}
