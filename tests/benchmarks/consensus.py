"""What a consensus gains on a split, and what it costs, beside the same model's beams alone.

    python tests/benchmarks/consensus.py MODEL -c configs/flickr8k.yaml --work WORK [--split val]

MODEL is a captioner's directory with document frequencies; its weights are not touched, and its
photos those of the split `train`. Captions the split once for each search (`--search`
chooses; 'its own' is what the model's settings say) and prints a Markdown table: scores x100, mean
words, seconds of CPU a picture beside those of the first, pictures decoded and encoded in all of
them. With --reference it is the first phase's captioner that captions, as a model that learned by
reward keeps it (`models.reference`).
"""

from __future__ import annotations

import argparse
import dataclasses
import time
from pathlib import Path

import torch

from pipeline.config import load_config
from pipeline.config_model import ConsensusConfig, GenerationConfig
from pipeline.evaluate import evaluate_captioner
from pipeline.models.reference import reference_of
from pipeline.models.saved import SavedCaptioner
from pipeline.predict import Predictor
from pipeline.shard import find_shard_set
from pipeline.shards import ShardReader
from pipeline.train.ending import add_photos

SEARCHES: dict[str, tuple[int, dict[str, object] | None]] = {
    "beam 3": (3, None),
    "beam 8": (8, None),
    "beam 8, consensus of 20": (8, {"samples": 20}),
    "beam 8, consensus of 40": (8, {"samples": 40}),
    "beam 8, photos": (8, {"samples": 0, "photos": 8192}),
    "beam 8, consensus of 40, mirrored": (8, {"samples": 40, "views": 2}),
    "beam 8, consensus of 40, mirrored, photos": (8, {"samples": 40, "views": 2, "photos": 8192}),
}


OWN = "its own"


def generation_of(name: str, saved: SavedCaptioner) -> GenerationConfig:
    """A search's settings."""
    if name == OWN:
        return saved.generation
    beam, consensus = SEARCHES[name]
    settings = None if consensus is None else ConsensusConfig.model_validate(consensus)
    return saved.generation.model_copy(update={"beam": beam, "consensus": settings})


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--set", action="append", default=[], dest="overrides")
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--split", default="val")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--reference", action="store_true")
    parser.add_argument("--search", action="append", choices=(*SEARCHES, OWN))
    given = parser.parse_args()
    shard_set = find_shard_set(load_config(given.config, given.overrides), given.work)
    reader = ShardReader(shard_set, given.split)
    saved = SavedCaptioner.load(given.model)
    if given.reference:
        reference = reference_of(saved.model)
        assert reference is not None, f"{given.model} keeps no reference"
        saved.model = reference
    names = given.search or list(SEARCHES)
    searches = [dataclasses.replace(saved, generation=generation_of(name, saved)) for name in names]
    train = ShardReader(shard_set, "train")
    for each in searches:  # before any of them is searched, which may round the weights
        if each.generation == saved.generation:
            continue  # the model has its photos
        add_photos(each, train, None, torch.device("cpu"), None, lambda: None)
    print(f"{len(reader):,} pictures, {torch.get_num_threads()} threads, {given.dtype}\n")
    print("| search | BLEU-1 | BLEU-4 | ROUGE-L | CIDEr-D | words | time |")
    print("|---|---:|---:|---:|---:|---:|---:|", flush=True)
    first = 0.0
    for name, each in zip(names, searches, strict=True):
        predictor = Predictor(
            each,
            device=torch.device("cpu"),
            ref=str(given.model),
            name="",
            version="",
            fingerprint="",
            dtype=getattr(torch, given.dtype),
        )
        began = time.process_time()
        found = evaluate_captioner(predictor, reader, progress=False)
        took = (time.process_time() - began) / len(reader)
        first = first or took
        scores = found.percent()
        columns = [f"{scores[key]:.1f}" for key in ("bleu_1", "bleu_4", "rouge_l", "cider")]
        words = sum(len(text.split()) for text in found.hypotheses) / len(reader)
        print(f"| {name} | {' | '.join(columns)} | {words:.1f} | {took / first:.1f}x |", flush=True)


if __name__ == "__main__":
    main()
