"""Tokenise + BLEU + CIDEr-D beside pycocoevalcap, and the cost of a self-critical reward.

    python tests/benchmarks/metric_speed.py [--references captions_val2017.json] [--runs 5]
    python tests/benchmarks/metric_speed.py --memory

Needs the dev extra (pycocoevalcap) and Java. Without --references, 5,000 images with five captions
each are made up. Both sides run in turn, each from strings in memory: ours cold (references
tokenised and counted) and with references prepared before; pycocoevalcap always does everything,
since it can prepare nothing. The reward scores 50 images x 5 sampled captions against references
prepared before. --memory prepares 113,000 x 5 in a process of its own and prints its peak.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path


def made_up(images: int) -> list[list[str]]:
    """Captions of COCO's length, with words as unevenly frequent as words are."""
    rng = random.Random(0)
    letters = "bcdfghklmnprstvw"
    words = [f"{a}{v}{b}{w}" for a in letters for v in "aeiou" for b in letters for w in "aeiou"]
    rng.shuffle(words)
    weights = [1 / (rank + 3) for rank in range(len(words))]
    captions = []
    for _ in range(images):
        topic = rng.choices(words, weights, k=14)
        captions.append(
            [
                " ".join([*rng.choices(topic, k=7), *rng.choices(words, weights, k=4)]).capitalize()
                + "."
                for _ in range(5)
            ]
        )
    return captions


def read(path: Path) -> list[list[str]]:
    captions: dict[int, list[str]] = {}
    for annotation in json.loads(path.read_text(encoding="utf-8"))["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    return list(captions.values())


def seconds(action: Callable[[], object]) -> float:
    started = time.perf_counter()
    action()
    return time.perf_counter() - started


def oracle(references: list[list[str]], hypotheses: list[str]) -> dict[str, float]:
    """pycocoevalcap's own way, without its printing."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    quiet = subprocess.Popen
    with contextlib.redirect_stdout(io.StringIO()), open(os.devnull, "w") as null:
        subprocess.Popen = lambda *a, **k: quiet(*a, **{**k, "stderr": null})  # type: ignore[misc]
        try:
            gts = PTBTokenizer().tokenize(
                {n: [{"caption": c} for c in texts] for n, texts in enumerate(references)}
            )
            res = PTBTokenizer().tokenize(
                {n: [{"caption": text}] for n, text in enumerate(hypotheses)}
            )
        finally:
            subprocess.Popen = quiet  # type: ignore[misc]
        bleu, _ = Bleu(4).compute_score(gts, res, verbose=0)
        cider, _ = Cider().compute_score(gts, res)
    return {"bleu_4": bleu[3], "cider": cider}


def beside_the_oracle(captions: list[list[str]], runs: int) -> None:
    from pipeline.metrics import References, score_captions

    hypotheses = [texts[0] for texts in captions]
    references = [texts[1:] for texts in captions]
    # Five references each, as coco-caption has them: the first again in place of the held-out one.
    references = [[*texts, texts[0]] for texts in references]
    prepared = References(references)
    score_captions(prepared, hypotheses)
    ours, theirs = score_captions(prepared, hypotheses).corpus, oracle(references, hypotheses)
    for name, value in theirs.items():
        assert abs(ours[name] - value) <= 1e-9 * value, (name, ours[name], value)
    cold, warm, peer = [], [], []
    for _ in range(runs):
        peer.append(seconds(lambda: oracle(references, hypotheses)))
        cold.append(seconds(lambda: score_captions(References(references), hypotheses)))
        warm.append(seconds(lambda: score_captions(prepared, hypotheses)))
    print(
        f"{len(captions):,} images, {sum(map(len, references)):,} references, {runs} runs; "
        "ours also computes ROUGE-L"
    )
    print(f"pycocoevalcap         {statistics.median(peer):7.3f} s")
    for label, times in (("cold", cold), ("references prepared", warm)):
        ratio = statistics.median(p / o for p, o in zip(peer, times, strict=True))
        print(f"ours, {label:19} {statistics.median(times):5.3f} s   {ratio:.1f}x as fast")


def reward(captions: list[list[str]], runs: int) -> None:
    from pipeline.metrics import References, cider_reward

    rng = random.Random(1)
    references = References(captions, end_token=True)
    table = references.document_frequencies
    times = []
    for _ in range(max(runs, 5) * 20):
        images = [image for image in rng.sample(range(len(captions)), 50) for _ in range(5)]
        sampled = [rng.choice(captions[rng.randrange(len(captions))]) for _ in images]
        for place in range(0, len(images), 2):  # half of them close to the truth
            sampled[place] = rng.choice(captions[images[place]])
        times.append(seconds(lambda i=images, s=sampled: cider_reward(references, i, s, table)))
    times = sorted(times[1:])
    print(
        f"reward of 50 images x 5 captions against {len(captions):,} x 5 references: median "
        f"{1000 * statistics.median(times):.1f} ms, 90th percentile {1000 * times[len(times) * 9 // 10]:.1f} ms"
    )


def memory() -> None:
    captions = made_up(113_000)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    from pipeline.metrics import References, score_captions

    started = time.perf_counter()
    references = References(captions)
    took = time.perf_counter() - started
    score_captions(references, [texts[0] for texts in captions])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(
        f"113,000 x 5 references: prepared in {took:.1f} s, {len(references.table):,} n-grams; peak of the "
        f"process {peak / 1e6:.2f} GB, of which {before / 1e6:.2f} GB before (the captions themselves)"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--references", type=Path, help="a COCO captions file")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--memory", action="store_true")
    arguments = parser.parse_args()
    if arguments.memory:
        memory()
        return
    captions = read(arguments.references) if arguments.references else made_up(5_000)
    beside_the_oracle(captions, arguments.runs)
    reward(captions, arguments.runs)
    sys.stdout.flush()
    subprocess.run([sys.executable, __file__, "--memory"], check=True)


if __name__ == "__main__":
    main()
