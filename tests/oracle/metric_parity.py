"""How far BLEU, ROUGE-L and CIDEr-D are from pycocoevalcap's, relative to the larger of the two.

    python tests/oracle/metric_parity.py
    python tests/oracle/metric_parity.py --references captions_val2017.json --references more.json

Without --references: generated corpora (metric_cases.py), --cases of the mixed kind and a tenth as
many of each other. With it: COCO captions files, each twice: every image's first caption as
the hypothesis against its others, and every image's captions against a caption of the next image.
--meteor adds METEOR. Needs the dev extra (pycocoevalcap). With Java its side is tokenised by its own tokeniser, otherwise
by ours. Prints a row a set, and ends with status 1 where a difference is above 1e-9.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from metric_cases import KINDS, Case, cases

from pipeline.metrics import METRICS, ptb, score_captions
from pipeline.metrics.meteor import meteor_scores

ALLOWED = 1e-9

Scores = dict[str, tuple[float, np.ndarray]]
"""Corpus score and scores of the images [N], by metric."""


def tokenize(lines: Sequence[str], java: bool) -> list[str]:
    """By pycocoevalcap's tokeniser, or by ours."""
    # A word at the end keeps the last caption's answer, should that be empty, in place.
    asked = [*lines, "end"]
    if not java:
        return ptb.tokenize(asked)[:-1]
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    return list(PTBTokenizer().tokenize({0: [{"caption": line} for line in asked]})[0][:-1])


def oracle(
    references: Sequence[Sequence[str]], hypotheses: Sequence[str], meteor: bool = False
) -> Scores:
    """pycocoevalcap's scores of tokenised captions."""
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    theirs = {place: list(captions) for place, captions in enumerate(references)}
    ours = {place: [caption] for place, caption in enumerate(hypotheses)}
    corpus, images = Bleu(4).compute_score(theirs, ours, verbose=0)
    scores = {f"bleu_{n}": (corpus[n - 1], np.array(images[n - 1])) for n in range(1, 5)}
    scores["rouge_l"] = Rouge().compute_score(theirs, ours)
    scores["cider"] = Cider().compute_score(theirs, ours)
    if meteor:
        from pycocoevalcap.meteor.meteor import Meteor

        score, of_images = Meteor().compute_score(theirs, ours)
        scores["meteor"] = (score, np.array(of_images))
    return scores


def difference(a: np.ndarray | float, b: np.ndarray | float) -> float:
    """The largest |a - b| / max(|a|, |b|); 0 where both are 0."""
    larger = np.maximum(np.abs(a), np.abs(b))
    apart = np.abs(np.subtract(a, b))
    return float(np.max(np.divide(apart, larger, out=np.zeros_like(larger), where=apart > 0)))


def own(references: Sequence[Sequence[str]], hypotheses: Sequence[str], meteor: bool) -> Scores:
    """Our scores of untokenised captions."""
    scores = score_captions(references, hypotheses)
    found = {metric: (scores.corpus[metric], scores.per_image[metric]) for metric in METRICS}
    if meteor:
        score, of_images = meteor_scores(references, hypotheses)
        found["meteor"] = (score, np.array(of_images))
    return found


def compare(
    corpora: Iterable[Case], java: bool, meteor: bool = False
) -> dict[str, tuple[float, float]]:
    """The worst difference of a corpus score and of an image's, by metric."""
    corpora = list(corpora)
    lines = [
        line for case in corpora for group in (*case.references, case.hypotheses) for line in group
    ]
    tokens = iter(tokenize(lines, java))
    worst: dict[str, tuple[float, float]] = {}
    for references, hypotheses in corpora:
        expected = oracle(
            [[next(tokens) for _ in captions] for captions in references],
            [next(tokens) for _ in hypotheses],
            meteor,
        )
        for metric, (score, of_images) in own(references, hypotheses, meteor).items():
            theirs, of_theirs = expected[metric]
            former = worst.get(metric, (0.0, 0.0))
            worst[metric] = (
                max(former[0], difference(score, theirs)),
                max(former[1], difference(of_images, of_theirs)),
            )
    return worst


def real(path: Path) -> dict[str, Case]:
    """Two corpora of a COCO captions file."""
    captions: dict[int | str, list[str]] = {}
    for annotation in json.loads(path.read_text(encoding="utf-8"))["annotations"]:
        captions.setdefault(annotation["image_id"], []).append(annotation["caption"])
    every = [texts for texts in captions.values() if len(texts) > 1]
    name = f"{path.parent.name}/{path.name}"
    return {
        f"{name}, first caption against the others": Case(
            [texts[1:] for texts in every], [texts[0] for texts in every]
        ),
        f"{name}, the next image's caption against all": Case(
            every, [texts[1] for texts in [*every[1:], every[0]]]
        ),
    }


def row(name: str, corpora: Sequence[Case], worst: dict[str, tuple[float, float]]) -> str:
    """A line of the table."""
    images = sum(len(case.hypotheses) for case in corpora)
    references = sum(len(texts) for case in corpora for texts in case.references)
    cells = [f"{corpus:.0e} / {image:.0e}" for corpus, image in worst.values()]
    size = [f"{len(corpora):,}", f"{images:,}", f"{references:,}"]
    return f"| {' | '.join([name, *size, *cells])} |"


def main() -> int:
    """Print the table; whether a difference is too large."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--references", type=Path, action="append", help="a COCO captions file")
    parser.add_argument("--cases", type=int, default=10_000, help="generated corpora of mixed kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--meteor", action="store_true", help="METEOR too, with --references")
    arguments = parser.parse_args()
    if arguments.meteor and not arguments.references:
        parser.error("--meteor starts Java for each corpus; give --references")
    java = shutil.which("java") is not None
    sets: dict[str, list[Case]] = {}
    for path in arguments.references or ():
        sets.update({name: [case] for name, case in real(path).items()})
    if not sets:
        for kind in KINDS:
            number = arguments.cases if kind == "mixed" else max(1, arguments.cases // 10)
            sets[kind] = list(cases(kind, number, arguments.seed))
    print("pycocoevalcap's side tokenised by", "its own tokeniser" if java else "ours (no Java)")
    print("Worst relative difference: corpus / any image\n")
    titles = ["set", "corpora", "images", "references", *METRICS]
    titles += ["meteor"] if arguments.meteor else []
    print(f"| {' | '.join(titles)} |\n|---|{'---:|' * (len(titles) - 1)}")
    largest = 0.0
    for name, corpora in sets.items():
        worst = compare(corpora, java, arguments.meteor)
        print(row(name, corpora, worst), flush=True)
        largest = max(largest, *(value for pair in worst.values() for value in pair))
    print(f"\nlargest: {largest:.1e} ({ALLOWED:.0e} is allowed)")
    return int(largest > ALLOWED)


if __name__ == "__main__":
    sys.exit(main())
