"""Seconds of a paired bootstrap, beside a plain loop that gathers and sums each resample.

    OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 python tests/benchmarks/bootstrap_speed.py

The peer is what sacreBLEU's paired bootstrap does, in numpy: for each resample the chosen images'
statistics are gathered and summed, then scored. It runs fewer resamples and is counted a resample.
Prints the medians over alternating runs, and the peak of memory.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import time
from collections.abc import Callable

import numpy as np

from pipeline.metrics import Scores
from pipeline.metrics.bleu import bleu_scores
from pipeline.metrics.bootstrap import MEANS, paired_bootstrap


def drawn_scores(generator: np.random.Generator, images: int) -> Scores:
    lengths = generator.integers(6, 16, images)
    possible = np.maximum(lengths[:, None] - np.arange(4), 0)
    matched = generator.binomial(possible, [0.7, 0.45, 0.3, 0.2])
    columns = np.column_stack([matched, possible, lengths, generator.integers(6, 16, images)])
    per_image = {metric: generator.exponential(0.9, images) for metric in MEANS}
    corpus = {f"bleu_{n}": float(score) for n, score in enumerate(bleu_scores(columns.sum(0)), 1)}
    corpus |= {metric: float(column.mean()) for metric, column in per_image.items()}
    return Scores(corpus, per_image, columns, "")


def loop(a: Scores, b: Scores, resamples: int) -> None:
    """The peer."""
    generator = np.random.default_rng(0)
    images = len(a.bleu_statistics)
    both = [
        np.column_stack([system.bleu_statistics, *(system.per_image[m] for m in MEANS)])
        for system in (a, b)
    ]
    for _ in range(resamples):
        places = generator.integers(images, size=images)
        for columns in both:
            sums = columns[places].sum(0)
            np.append(bleu_scores(sums[:10]), sums[10:] / images)


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--peer-resamples", type=int, default=1_000)
    parser.add_argument("--runs", type=int, default=7)
    options = parser.parse_args()
    generator = np.random.default_rng(0)
    a, b = (drawn_scores(generator, options.images) for _ in range(2))
    paired_bootstrap(a, b, 100)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    paired_bootstrap(a, b, options.resamples)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    pairs = [
        (
            seconds(lambda: paired_bootstrap(a, b, options.resamples)),
            seconds(lambda: loop(a, b, options.peer_resamples)),
        )
        for _ in range(options.runs)
    ]
    ours, peer = (statistics.median(column) for column in zip(*pairs, strict=True))
    per_resample = options.resamples / options.peer_resamples
    ratio = statistics.median(slow * per_resample / fast for fast, slow in pairs)
    print(
        f"{options.resamples:,} resamples of {options.images:,} images, two systems, "
        f"BLAS threads {os.environ.get('OPENBLAS_NUM_THREADS', 'default')}, "
        f"{options.runs} runs: {ours:.2f} s (slowest {max(fast for fast, _ in pairs):.2f}), "
        f"{grown / 1024:.0f} MiB more memory; loop {peer * per_resample:.1f} s at the rate of "
        f"{options.peer_resamples:,} resamples; {ratio:.0f}x"
    )


if __name__ == "__main__":
    main()
