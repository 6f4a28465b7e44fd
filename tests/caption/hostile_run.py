"""Build the hostile corpus, or read it, in a process of its own whose memory can be told.

python hostile_run.py build FOLDER
python hostile_run.py read FOLDER       a line of JSON a case: ends, seconds of CPU, MB of memory
"""

from __future__ import annotations

import json
import random
import resource
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import hostile_archives
import hostile_images

from pipeline.caption.archives import open_archives
from pipeline.caption.members import FAILED, SKIPPED
from pipeline.errors import ArchiveError, ImageError
from pipeline.images import CODES, Transform, load, probe

TRANSFORM = Transform(size=16)
KNOWN = {hostile_images.PICTURE, *FAILED, *SKIPPED, *CODES}
MUTATIONS = 30
"""Of each good file."""
MUTATED = (
    *("png in 16 bits", "apng", "jpeg that is a bomb inside", "progressive", "cmyk"),
    *("profile junk", "animated gif", "animated webp", "bmp from the top", "bmp of escapes"),
    *("tiff strip bomb", "animated avif"),
)


def mutations(data: bytes, seed: str) -> Iterator[bytes]:
    """Flipped bits, changed bytes, cuts, gaps, splices and repetitions."""
    dice = random.Random(seed)
    for _ in range(MUTATIONS):
        changed = bytearray(data)
        for _ in range(dice.choice([1, 1, 2, 5, 30])):
            # Structure lies at the ends: half of the hits land there.
            near = dice.choice(
                [range(min(200, len(changed))), range(max(0, len(changed) - 200), len(changed))]
            )
            at = dice.choice(near if dice.random() < 0.5 else range(len(changed)))
            kind = dice.random()
            if kind < 0.3:
                changed[at] ^= 1 << dice.randrange(8)
            elif kind < 0.6:
                changed[at] = dice.choice([0, 1, 127, 128, 255])
            elif kind < 0.7:
                del changed[at : at + dice.randrange(1, 600)]
            elif kind < 0.8:
                changed[at:at] = dice.randbytes(dice.randrange(1, 9))
            elif kind < 0.95:
                begin = dice.randrange(len(changed))
                changed[at:at] = changed[begin : begin + dice.randrange(1, 600)]
            else:
                del changed[at:]
            if not changed:
                changed = bytearray(b"\0")
        yield bytes(changed)


def build(folder: Path) -> None:
    for kind in ("images", "archives", "mutated", "spliced"):
        (folder / kind).mkdir(parents=True)
    for name, (make, _) in hostile_images.CASES.items():
        (folder / "images" / name).write_bytes(make())
    for number, (make, _) in enumerate(hostile_archives.CASES.values()):
        (folder / "archives" / str(number)).mkdir()
        make(folder / "archives" / str(number))
    good = {name: hostile_images.CASES[name][0]() for name in MUTATED}
    if hostile_images.HEIF:
        good["heic"] = hostile_images.heic()
    for name, data in good.items():
        for number, changed in enumerate(mutations(data, name)):
            (folder / "mutated" / f"{number} {name}").write_bytes(changed)
    for name, data in hostile_archives.good_archives().items():
        for number, changed in enumerate(mutations(data, name)):
            (folder / "spliced" / f"{number}-{name}").write_bytes(changed)


def end_of(data: bytes) -> str:
    try:
        probe(data)
        load(data, TRANSFORM)
    except ImageError as error:
        return error.code
    return hostile_images.PICTURE


def ends_of(path: Path) -> list[str]:
    ends = []
    try:
        (archive,) = open_archives([path]).values()
        for member in archive.members():
            try:
                end = member.reason or member.code or end_of(archive.read(member, 64 << 20))
            except ImageError as error:
                end = error.code
            meta = archive.meta(member)
            assert meta is None or json.loads(meta) is not None
            ends.append(end)
        archive.close()
    except ArchiveError:
        return [hostile_archives.REFUSED]
    return ends


def read(folder: Path) -> None:
    def peak() -> int:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

    def tell(kind: str, name: str, ends: list[str], began: float) -> None:
        spent = time.process_time() - began
        line = {"kind": kind, "name": name, "ends": ends, "seconds": spent, "peak": peak() - base}
        print(json.dumps(line), flush=True)

    # What one good picture takes is not counted: libraries are loaded with it.
    end_of(hostile_archives.GOOD)
    base = peak()
    for name in hostile_images.CASES:
        began = time.process_time()
        tell("image", name, [end_of((folder / "images" / name).read_bytes())], began)
    for number, name in enumerate(hostile_archives.CASES):
        began = time.process_time()
        inside = folder / "archives" / str(number)
        path = inside / "in" if (inside / "in").is_dir() else next(iter(inside.iterdir()))
        tell("archive", name, ends_of(path), began)
    for kind in ("mutated", "spliced"):
        for path in sorted((folder / kind).iterdir()):
            began = time.process_time()
            found = [end_of(path.read_bytes())] if kind == "mutated" else ends_of(path)
            tell(kind, path.name, found, began)


if __name__ == "__main__":
    warnings.simplefilter("error")
    {"build": build, "read": read}[sys.argv[1]](Path(sys.argv[2]))
