"""How captioning grows: peak memory by pictures, and the seconds in which a finished table is known.

    python tests/benchmarks/caption_growth.py [--pictures 1000 200000] [--units 100000]

Tiny pictures and a captioner without a model, so that only the bulk work itself is measured: by
the engine in this process, and by the one in a process of its own. Then a table of so many
finished units: what a run does to know which units are left, beside the listing of the archive.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Self

import numpy as np
import psutil
from PIL import Image

LIGHT = Path(__file__).parents[1] / "caption" / "light"


def make(root: Path, pictures: int) -> None:
    for number in range(pictures):
        pixels = np.frombuffer(f"{number:012d}".encode(), np.uint8).reshape(2, 2, 3)
        file = io.BytesIO()
        Image.fromarray(pixels).save(file, "BMP")
        folder = root / f"{number // 1000:04d}"
        if number % 1000 == 0:
            folder.mkdir(parents=True)
        (folder / f"{number:07d}.bmp").write_bytes(file.getvalue())


def run(root: Path, table: Path, engine: str, unit_size: int) -> None:
    sys.path.insert(0, str(LIGHT))
    import light_captioner

    from pipeline.caption import Loader, caption
    from pipeline.config import CaptionConfig

    config = CaptionConfig(unit_size=unit_size, batch_size=64)
    loader = Loader(function="light_captioner:captioner")
    chosen = loader if engine == "isolated" else light_captioner.captioner()
    began = time.perf_counter()
    with ChildrensPeak() as children:
        report = caption(config, [root], table, chosen)
    seconds = time.perf_counter() - began
    own = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(
        f"{engine:<12}{report.discovered:>10,} pictures {report.units:>8,} units"
        f" {seconds:8.1f} s   peak {own:,} MB, of a captioning process {children.peak >> 20:,} MB",
        flush=True,
    )


class ChildrensPeak:
    """The largest resident size of any child, looked at twenty times a second.

    RUSAGE_CHILDREN will not do: what it says of a child begins with the parent's size at the fork.
    """

    def __init__(self) -> None:
        self.peak, self._over = 0, threading.Event()
        self._watch = threading.Thread(target=self._look)

    def __enter__(self) -> Self:
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._watch.join()

    def _look(self) -> None:
        while not self._over.wait(0.05):
            with contextlib.suppress(psutil.Error):
                sizes = [child.memory_info().rss for child in psutil.Process().children()]
                self.peak = max(self.peak, *sizes, 0)


def finish(root: Path, table: Path) -> None:
    """A table of finished units of one picture: one is captioned, the others' files are like it."""
    from pipeline.caption import Loader, caption
    from pipeline.caption.archives import name_sources, open_archives
    from pipeline.caption.plan import Relisted
    from pipeline.caption.table import Table
    from pipeline.config import CaptionConfig

    config = CaptionConfig(unit_size=1, batch_size=1)
    loader = Loader(function="light_captioner:captioner")
    first = root / "0000"
    for path in sorted(first.iterdir())[1:]:
        path.rename(root / path.name)
    caption(config, [root / "0000"], table, loader)
    kept = Table(table)
    unit, _, _ = next(iter(kept.plan.unit_rows()))
    part, told = kept.part(unit).read_bytes(), kept.receipt(unit).read_text()
    for source in name_sources(open_archives([root]), kept.plan.sources()):
        kept.plan.extend(source, 1, Relisted(), done=[unit])
    for other, _, _ in kept.plan.unit_rows():
        kept.part(other).write_bytes(part)
        kept.receipt(other).write_text(told.replace(unit, other))


def decide(table: Path) -> None:
    from pipeline.caption.table import Table

    kept = Table(table)
    began = time.perf_counter()
    cpu = time.process_time()
    receipts = kept.finished()
    left = sum(unit not in receipts for unit, _, _ in kept.plan.unit_rows())
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(
        f"resume decision: {len(receipts):,} finished units, {left} left:"
        f" {seconds:.2f} s, {cpu:.2f} s of CPU"
    )


def apart(work: str, name: str, *arguments: object) -> None:
    """A function of this module in a process of its own."""
    path = os.pathsep.join([str(LIGHT), *filter(None, [os.environ.get("PYTHONPATH")])])
    words = [sys.executable, __file__, "--apart", work, name, *map(str, arguments)]
    subprocess.run(words, env={**os.environ, "PYTHONPATH": path}, check=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=int, nargs="*", default=[1000, 200_000])
    parser.add_argument("--units", type=int, default=100_000)
    parser.add_argument("--apart", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.apart:
        work, name, *rest = given.apart
        if name == "run":
            return run(Path(work) / rest[0], Path(work) / rest[1], rest[2], int(rest[3]))
        if name == "finish":
            return finish(Path(work) / rest[0], Path(work) / "big")
        return decide(Path(work) / "big")
    with tempfile.TemporaryDirectory() as work:
        for pictures in sorted({*given.pictures, given.units}):
            make(Path(work) / str(pictures), pictures)
        for pictures in given.pictures:
            for engine in ("in process", "isolated"):
                apart(work, "run", pictures, f"table-{engine}-{pictures}", engine, 256)
        apart(work, "finish", given.units)
        apart(work, "decide")
    return None


if __name__ == "__main__":
    main()
