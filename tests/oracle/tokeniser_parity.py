"""On how many lines the tokeniser gives what pycocoevalcap's PTBTokenizer gives, class by class.

    python tests/oracle/tokeniser_parity.py
    python tests/oracle/tokeniser_parity.py --lines 20000 --seed 7
    python tests/oracle/tokeniser_parity.py --captions captions_val2017.json --captions more.json
    python tests/oracle/tokeniser_parity.py --freeze tests/metrics/ptb_answers.json --lines 45

Without --captions: --lines generated lines of each class (tokeniser_corpus.py). With it: every
caption of COCO captions files, in one call a file. Prints a row a set with the first lines that
differ below it, and ends with status 1 where a generated class is below 99 %, all of them
together below 99.9 %, or a caption differs. With --freeze: asks about the lines of that table and
generated ones that it lacks, and writes the answers into it. Needs the dev extra (pycocoevalcap) and Java.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import tokeniser_corpus

from pipeline.metrics import ptb

LEAST_OF_A_CLASS = 99.0
LEAST_OF_ALL = 99.9
"""Per cent of the lines that must be identical."""


class Difference(NamedTuple):
    """A line whose tokens are not the same."""

    line: str
    ours: str
    theirs: str


def reference_tokens(lines: Sequence[str]) -> list[str]:
    """pycocoevalcap's tokens of each line, all given in one call."""
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

    # A line at the end keeps the answer of the last one in its place where that is empty.
    asked = [{"caption": line} for line in [*lines, "end"]]
    return list(PTBTokenizer().tokenize({0: asked})[0][: len(lines)])


def differences(lines: Sequence[str]) -> list[Difference]:
    """The lines whose tokens differ, in order."""
    answers = zip(lines, ptb.tokenize([*lines, "end"])[:-1], reference_tokens(lines), strict=True)
    return [Difference(*answer) for answer in answers if answer[1] != answer[2]]


def identical(lines: int, different: int) -> float:
    """Per cent."""
    return 100 * (lines - different) / lines


def captions(path: Path) -> list[str]:
    """The captions of a COCO captions file; line breaks inside are spaces to pycocoevalcap."""
    annotations = json.loads(path.read_text(encoding="utf-8"))["annotations"]
    return [" ".join(annotation["caption"].split("\n")) for annotation in annotations]


def freeze(table: Path, count: int, seed: int) -> int:
    """Writes the answers to a table's lines and `count` more of each class; their number."""
    kept = [line for line, _ in json.loads(table.read_text(encoding="utf-8"))]
    for name in tokeniser_corpus.CLASSES:
        kept += tokeniser_corpus.lines(name, count, seed)
    lines = list(dict.fromkeys(kept))
    pairs = map(json.dumps, zip(lines, reference_tokens(lines), strict=True))
    table.write_text("[\n " + ",\n ".join(pairs) + "\n]\n", encoding="utf-8")
    return len(lines)


def _row(name: str, lines: int, found: Sequence[Difference], shown: int) -> None:
    print(f"| {name} | {lines:,} | {len(found):,} | {identical(lines, len(found)):.3f} % |")
    for difference in found[:shown]:
        print(*(f"    {key:6} {text!r}" for key, text in difference._asdict().items()), sep="\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """The table on standard output; 0 where it is good enough."""
    parser = argparse.ArgumentParser(description="Compare the tokeniser with pycocoevalcap's.")
    parser.add_argument("--captions", type=Path, action="append", help="a COCO captions file")
    parser.add_argument("--freeze", type=Path, help="a table of answers to write anew")
    parser.add_argument("--lines", type=int, default=5000, help="lines of each class")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--shown", type=int, default=3, help="differing lines to print a class")
    options = parser.parse_args(arguments)
    if shutil.which("java") is None:
        parser.error("needs Java for pycocoevalcap's tokeniser: install a Java 8 or later runtime")
    if options.freeze:
        print(f"{options.freeze}: {freeze(options.freeze, options.lines, options.seed)} lines")
        return 0
    print("| lines | compared | different | identical |\n|---|---|---|---|")
    if options.captions:
        all_same = True
        for path in options.captions:
            lines = captions(path)
            found = differences(lines)
            _row(path.name, len(lines), found, options.shown)
            all_same &= not found
        return 0 if all_same else 1
    total: list[Difference] = []
    enough = True
    for name in tokeniser_corpus.CLASSES:
        found = differences(tokeniser_corpus.lines(name, options.lines, options.seed))
        _row(name, options.lines, found, options.shown)
        enough &= identical(options.lines, len(found)) >= LEAST_OF_A_CLASS
        total += found
    compared = options.lines * len(tokeniser_corpus.CLASSES)
    _row("all", compared, total, 0)
    return 0 if enough and identical(compared, len(total)) >= LEAST_OF_ALL else 1


if __name__ == "__main__":
    sys.exit(main())
