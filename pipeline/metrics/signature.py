"""One line that says what a score is, in the style of sacreBLEU.

Post, 'A Call for Clarity in Reporting BLEU Scores' (WMT 2018). Scores whose signatures differ
are not to be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING

from pipeline.metrics import ptb
from pipeline.metrics.frequencies import DocumentFrequencies
from pipeline.metrics.ngrams import ORDER, Ints

if TYPE_CHECKING:
    from pipeline.metrics.references import References

SIGMA = 6.0
"""Width of CIDEr-D's penalty on the difference of lengths, in bigrams."""

VERSION = 2
"""Raised whenever the metrics' code gives another number for any input."""


def references_fingerprint(lines: Sequence[str], starts: Ints) -> str:
    """Hex SHA-256 of each image's tokenised references, in order.

    Args:
        lines: all references, as `ptb.tokenize` gives them.
        starts: each image's first line, and the end of the last image's [N + 1].
    """
    digest = hashlib.sha256()
    places = starts.tolist()
    for first, end in pairwise(places):
        digest.update(json.dumps(lines[first:end]).encode() + b"\n")
    return digest.hexdigest()


def signature(
    references: References, document_frequencies: DocumentFrequencies | None = None
) -> str:
    """The line for scores against `references`.

    Fields: tok, the tokeniser's version; n, the longest n-gram; sigma, of CIDEr-D's penalty; df,
    where document frequencies come from and how many images they count (a stored table's
    fingerprint too); eos, whether the end of a caption counts as a word; images scored; refs, the
    first 16 hex digits of the references' fingerprint; version, of this code.
    """
    images = len(references)
    source = (
        f"references({images})"
        if document_frequencies is None
        else f"stored({document_frequencies.images},{document_frequencies.fingerprint})"
    )
    parts = {
        "tok": f"ptb{ptb.VERSION}",
        "n": str(ORDER),
        "sigma": f"{SIGMA:g}",
        "df": source,
        "eos": "yes" if references.end_token else "no",
        "images": str(images),
        "refs": references.fingerprint[:16],
        "version": str(VERSION),
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items())
