"""What each score is, in a line each: written beside the numbers wherever they are stored."""

from __future__ import annotations

DEFINITIONS = {
    "bleu_n": "corpus BLEU, closest reference length (Papineni et al. 2002), as coco-caption",
    "rouge_l": "ROUGE-L, beta 1.2 (Lin 2004), as coco-caption",
    "cider": "CIDEr-D, sigma 6 (Vedantam et al. 2015), as coco-caption; x100 of its 0..10 mean",
    "scale": "corpus scores x100; per-image files hold the raw ones",
}
