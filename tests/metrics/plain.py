"""BLEU, ROUGE-L and CIDEr-D a second time, slowly: each formula as it is written in its paper.

What the fast ones in pipeline/metrics are tested against. Pure functions of token lists: nothing
is prepared, shared, vectorised or cleverly counted. Where coco-caption departs from a paper, the
docstring says how, and the code follows coco-caption.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

Tokens = Sequence[str]
Ngram = tuple[str, ...]

ORDER = 4
SIGMA = 6.0
BETA = 1.2


def ngrams(tokens: Tokens, n: int) -> list[Ngram]:
    """Every run of n tokens, in order, repeated ones too."""
    return [tuple(tokens[start : start + n]) for start in range(len(tokens) - n + 1)]


# BLEU: Papineni, Roukos, Ward and Zhu, 'BLEU: a Method for Automatic Evaluation of Machine
# Translation', ACL 2002.


def clipped_matches(hypothesis: Tokens, references: Sequence[Tokens], n: int) -> int:
    """How many of the hypothesis' n-grams match (section 2.1).

        sum over distinct n-grams g of min(Count(g), Max_Ref_Count(g))

    where Max_Ref_Count is the largest number of times g occurs in any single reference.
    """
    own = ngrams(hypothesis, n)
    return sum(
        min(own.count(g), max(ngrams(reference, n).count(g) for reference in references))
        for g in set(own)
    )


def closest_length(hypothesis: Tokens, references: Sequence[Tokens]) -> int:
    """The length of the reference closest in length to the hypothesis, 'best match length'
    (section 2.2.2); of two as close the shorter, as coco-caption.
    """
    lengths = sorted(len(reference) for reference in references)
    return min(lengths, key=lambda length: abs(length - len(hypothesis)))


def bleu_statistics(hypothesis: Tokens, references: Sequence[Tokens]) -> list[int]:
    """Matches of 1- to 4-grams, their numbers, the length and the closest reference length."""
    orders = range(1, ORDER + 1)
    return [
        *(clipped_matches(hypothesis, references, n) for n in orders),
        *(len(ngrams(hypothesis, n)) for n in orders),
        len(hypothesis),
        closest_length(hypothesis, references),
    ]


def bleu(hypotheses: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a corpus; of one image, give lists of one.

        BLEU-N = BP * exp(sum over n = 1..N of (1 / N) * log p_n)            (section 2.3)
        BP     = 1 if c > r, else exp(1 - r / c)
        p_n    = matches of all images / n-grams of all hypotheses           (section 2.1.1)

    with c the length of all hypotheses and r the sum of the closest reference lengths.
    coco-caption adds 1e-15 to the matches and to c, and 1e-9 to the numbers of n-grams and to r,
    so that nothing matched is not a score of zero and an empty hypothesis divides by something.
    """
    rows = [bleu_statistics(h, r) for h, r in zip(hypotheses, references, strict=True)]
    sums = [sum(column) for column in zip(*rows, strict=True)]
    matches, possible, length, reference_length = sums[:4], sums[4:8], sums[8], sums[9]
    precisions = [(m + 1e-15) / (p + 1e-9) for m, p in zip(matches, possible, strict=True)]
    c_by_r = (length + 1e-15) / (reference_length + 1e-9)
    penalty = 1.0 if c_by_r >= 1 else math.exp(1 - 1 / c_by_r)
    return [penalty * math.prod(precisions[:n]) ** (1 / n) for n in range(1, ORDER + 1)]


# ROUGE-L: Lin, 'ROUGE: A Package for Automatic Evaluation of Summaries', ACL 2004 workshop.


def longest_common_subsequence(one: Tokens, other: Tokens) -> int:
    """Its length, by the recurrence of any textbook.

    LCS(i, j) = LCS(i-1, j-1) + 1 if one_i = other_j, else max(LCS(i-1, j), LCS(i, j-1))
    """
    table = [[0] * (len(other) + 1) for _ in range(len(one) + 1)]
    for i, a in enumerate(one, 1):
        for j, b in enumerate(other, 1):
            if a == b:
                table[i][j] = table[i - 1][j - 1] + 1
            else:
                table[i][j] = max(table[i - 1][j], table[i][j - 1])
    return table[-1][-1]


def rouge_l(hypothesis: Tokens, references: Sequence[Tokens]) -> float:
    """ROUGE-L of one image.

        R = LCS / length of the reference                                    (equation 2)
        P = LCS / length of the hypothesis                                   (equation 3)
        F = (1 + beta^2) * R * P / (R + beta^2 * P)                          (equation 4)

    coco-caption takes the best R and the best P over the references, each on its own, has
    beta = 1.2, and reads an empty caption as one empty token.
    """
    own = hypothesis or [""]
    recalls, precisions = [], []
    for reference in references:
        theirs = reference or [""]
        common = longest_common_subsequence(theirs, own)
        recalls.append(common / len(theirs))
        precisions.append(common / len(own))
    r, p = max(recalls), max(precisions)
    return 0.0 if r == 0 or p == 0 else (1 + BETA**2) * r * p / (r + BETA**2 * p)


# CIDEr-D: Vedantam, Zitnick and Parikh, 'CIDEr: Consensus-based Image Description Evaluation',
# CVPR 2015.


def document_frequencies(references: Sequence[Sequence[Tokens]]) -> tuple[int, dict[Ngram, int]]:
    """The number of images, and for each n-gram in how many images' references it occurs.

    coco-caption counts the references being scored; self-critical training those of the training
    split, once and for all.
    """
    frequencies: dict[Ngram, int] = {}
    for image in references:
        for g in {g for r in image for n in range(1, ORDER + 1) for g in ngrams(r, n)}:
            frequencies[g] = frequencies.get(g, 0) + 1
    return len(references), frequencies


def tf_idf(tokens: Tokens, n: int, images: int, found: Mapping[Ngram, int]) -> dict[Ngram, float]:
    """The vector g_n of a caption (equation 1).

        g(w) = count of w * log(images / images with w)

    coco-caption leaves out the division by the caption's number of n-grams, which no cosine
    notices, and reads an n-gram that no image has as one that one image has. As two logarithms,
    so that an n-gram of every image weighs exactly nothing.
    """
    all_of_them = ngrams(tokens, n)
    return {
        w: all_of_them.count(w) * (math.log(images) - math.log(max(1, found.get(w, 0))))
        for w in set(all_of_them)
    }


def norm(vector: Mapping[Ngram, float]) -> float:
    """Euclidean length."""
    return math.sqrt(math.fsum(weight**2 for weight in vector.values()))


def cider_d(
    hypothesis: Tokens, references: Sequence[Tokens], images: int, found: Mapping[Ngram, int]
) -> float:
    """CIDEr-D of one image (the paper's definition of CIDEr-D).

        CIDEr-D_n = 10 / m * sum over the m references j of exp(-(l(c) - l(s_j))^2 / (2 sigma^2))
                    * min(g_n(c), g_n(s_j)) . g_n(s_j) / (|g_n(c)| * |g_n(s_j)|)
        CIDEr-D   = mean of CIDEr-D_n over n = 1..4

    The paper's l is the length in tokens; the released code counts bigrams. A vector of length
    zero is like nothing.
    """
    total = 0.0
    for reference in references:
        difference = len(ngrams(hypothesis, 2)) - len(ngrams(reference, 2))
        penalty = math.exp(-(difference**2) / (2 * SIGMA**2))
        for n in range(1, ORDER + 1):
            c, s = (tf_idf(tokens, n, images, found) for tokens in (hypothesis, reference))
            if norm(c) > 0 and norm(s) > 0:
                product = math.fsum(min(c[w], s[w]) * s[w] for w in c if w in s)
                total += penalty * product / (norm(c) * norm(s))
    return 10 * total / (ORDER * len(references))
