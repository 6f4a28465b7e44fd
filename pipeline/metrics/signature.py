"""One line that says what a score is, in the style of sacreBLEU.

Post, 'A Call for Clarity in Reporting BLEU Scores' (WMT 2018). Scores whose signatures differ
are not to be compared.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from pipeline.metrics import ptb
from pipeline.metrics.cider import SIGMA, DocumentFrequencies
from pipeline.metrics.ngrams import ORDER

VERSION = 1
"""Raised whenever the metrics' code gives another number for any input."""


def references_fingerprint(tokenized: Sequence[Sequence[str]]) -> str:
    """Hex SHA-256 of each image's tokenised references, in order.

    Args:
        tokenized: a list for each image of its references as `ptb.tokenize` gives them.
    """
    text = json.dumps([list(captions) for captions in tokenized], ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def signature(
    references: str, images: int, document_frequencies: DocumentFrequencies | None = None
) -> str:
    """The line for scores of `images` images.

    Args:
        references: fingerprint of the references (`references_fingerprint`).
        images: how many images were scored.
        document_frequencies: the stored table CIDEr-D used; None: that of the references.
    """
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
        "eos": "no",
        "images": str(images),
        "refs": references[:16],
        "version": str(VERSION),
    }
    return "|".join(f"{key}:{value}" for key, value in parts.items())
