"""The training loader beside decoding alone, and beside torch's DataLoader with Pillow.

    python tests/benchmarks/loader_speed.py [--workers N] [--rounds 5]
    python tests/benchmarks/loader_speed.py --images 2000 --large-images 64

Pictures a second, at COCO's size and at 12 megapixels (files of about 2.9 and of 4.7 MB), of
  eighth:  nothing but decoding at an eighth of the size, over bytes in memory: what it costs to read
           a JPEG's code, before there are pixels. Nobody who decodes it is faster;
  bare:    our decode + resize over bytes in memory, as many threads as the loader has workers;
  loader:  our loader over shards of the same files, written by `shard`: uint8 batches with captions;
  float:   the same, and each batch normalised to float32 by the thread that receives it, as
           training on a CPU does;
  torch:   torch.utils.data.DataLoader over the files, as many processes as workers: Pillow, then
           torchvision's Resize(256), CenterCrop(224), ToTensor, Normalize; no captions.
All make the same cut of 224 pixels from a short side of 256. Rounds alternate, a round is an
epoch, processes stay alive between rounds; figures are medians, ratios are medians of each
round's ratio. Files are in the page cache. `--images` and `--large-images` are a round's pictures
of the two sizes: an epoch's begin and end, where not all workers are busy, weigh less in many.
"""

from __future__ import annotations

import argparse
import io
import os
import statistics
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path
from typing import NamedTuple

import torch
from photos import COCO, TWELVE_MEGAPIXELS, make_pictures, make_shards
from PIL import Image
from search_speed import machine, ratio, seconds
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from pipeline import images
from pipeline.config import TrainConfig
from pipeline.images import Transform
from pipeline.shards import ShardReader
from pipeline.text import Tokenizer
from pipeline.train.captions import EncodedCaptions
from pipeline.train.loader import Loader

# What torchvision's Resize(256) and CenterCrop(224) give.
TRANSFORM = Transform(size=224, resize="crop", resize_to=256, interpolation="bilinear")


class Size(NamedTuple):
    """Pictures of one size."""

    name: str
    pixels: tuple[int, int]
    distinct: int
    """Pictures; making one of 12 megapixels takes seconds."""
    batch: int
    """Small where pictures are few: a worker takes whole batches."""
    grain: float
    """Of the pictures' noise: it decides the bytes of a file, and with them the ratio."""
    target: float
    """Our loader beside torch's."""


SIZES = [
    Size("COCO size", COCO, 24, 32, 13, 1.3),
    Size("12 megapixels", TWELVE_MEGAPIXELS, 4, 8, 6, 3.0),
    Size("12 megapixels with much grain", TWELVE_MEGAPIXELS, 4, 8, 13, 3.0),
]


class Photos(Dataset[Tensor]):
    """Files as torchvision's tutorials load them."""

    def __init__(self, files: list[Path]) -> None:
        self.files = files
        self.transform = transforms.Compose(
            [
                transforms.Resize(256),
                transforms.CenterCrop(224),
                transforms.ToTensor(),
                transforms.Normalize(TRANSFORM.mean, TRANSFORM.std),
            ]
        )

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, place: int) -> Tensor:
        with Image.open(self.files[place]) as picture:
            tensor: Tensor = self.transform(picture.convert("RGB"))
        return tensor


class Contenders:
    """A round of each over the same files."""

    def __init__(self, scratch: Path, files: list[Path], batch: int, workers: int) -> None:
        self.bytes = [path.read_bytes() for path in files]
        self.workers = workers
        self.loader = build_loader(scratch, files, batch, workers)
        self.peer = DataLoader(
            Photos(files), batch, shuffle=True, num_workers=workers, persistent_workers=True
        )
        self.epochs = count()

    def bare(self) -> int:
        with ThreadPoolExecutor(self.workers) as pool:
            return sum(1 for _ in pool.map(lambda data: images.load(data, TRANSFORM), self.bytes))

    def eighth(self) -> int:
        with ThreadPoolExecutor(self.workers) as pool:
            return sum(1 for _ in pool.map(decode_an_eighth, self.bytes))

    def batches(self) -> Iterator[Tensor]:
        for batch in self.loader.batches(next(self.epochs)):
            yield batch.images

    def ours(self) -> int:
        return sum(len(batch) for batch in self.batches())

    def ours_as_float(self) -> int:
        return sum(len(images.normalise(batch, TRANSFORM)) for batch in self.batches())

    def torch(self) -> int:
        return sum(len(batch) for batch in self.peer)


def decode_an_eighth(data: bytes) -> None:
    with Image.open(io.BytesIO(data)) as picture:
        picture.draft("RGB", (picture.width // 8, picture.height // 8))
        picture.load()


def build_loader(scratch: Path, files: list[Path], batch: int, workers: int) -> Loader:
    _, shards = make_shards(scratch, files)
    reader = ShardReader(shards, "train")
    captions = reader.captions()
    tokenizer = Tokenizer.train([text for group in captions for text in group])
    settings = TrainConfig(batch_size=batch, workers=workers)
    encoded = EncodedCaptions(captions, tokenizer, settings.max_caption_tokens)
    return Loader(reader, encoded, TRANSFORM, settings)


def difference(files: list[Path]) -> float:
    """Between the two sides' pixels, mean over a picture, of 255."""
    ours = torch.from_numpy(images.load(files[0].read_bytes(), TRANSFORM))
    theirs = Photos(files)[0]
    apart = images.normalise(ours[None], TRANSFORM)[0] - theirs
    return float((apart.abs() * torch.tensor(TRANSFORM.std).view(3, 1, 1)).mean()) * 255


def measure(size: Size, number: int, options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        make_pictures(scratch / "images", number, size.pixels, size.distinct, size.grain)
        files = sorted((scratch / "images").iterdir())
        kilobytes = sum(path.stat().st_size for path in files) / number / 1000
        width, height = size.pixels
        print(
            f"{size.name}: {number:,} JPEGs of {width} x {height}, {kilobytes:,.0f} kB each; "
            f"the two sides' pixels differ by {difference(files):.2f} of 255"
        )
        contenders = Contenders(scratch, files, size.batch, options.workers)
        runs: dict[str, Callable[[], int]] = {
            "eighth": contenders.eighth,
            "bare": contenders.bare,
            "loader": contenders.ours,
            "float": contenders.ours_as_float,
            "torch": contenders.torch,
        }
        taken: dict[str, list[float]] = {name: [] for name in runs}
        for turn in range(options.rounds + 1):
            for name, run in runs.items():
                found = seconds(run, "cpu")
                if turn:  # the first fills caches and starts processes
                    taken[name].append(found)
    for name, found in taken.items():
        print(f"  {name:8}{number / statistics.median(found):10,.1f} pictures/s")
    print(
        f"  loader / bare  {ratio(taken['bare'], taken['loader']):.2f} (target 0.90)\n"
        f"  loader / torch {ratio(taken['torch'], taken['loader']):.2f} (target {size.target:g}), "
        f"as float32 {ratio(taken['torch'], taken['float']):.2f}\n"
        f"  eighth / torch {ratio(taken['torch'], taken['eighth']):.2f}: what no loader exceeds"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--workers", type=int, default=cores, help="threads, and processes")
    parser.add_argument("--images", type=int, help="of COCO's size a round; 1,000 a worker")
    parser.add_argument("--large-images", type=int, help="of 12 megapixels; 32 a worker; 0: none")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.images is None:
        options.images = 1000 * options.workers
    if options.large_images is None:
        options.large_images = 32 * options.workers
    options.device, options.threads, options.dtype = "cpu", options.workers, "uint8 pictures"
    torch.set_num_threads(options.workers)
    print(machine(options))
    for size in SIZES:
        number = options.images if size.pixels == COCO else options.large_images
        if number:
            measure(size, number, options)


if __name__ == "__main__":
    main()
