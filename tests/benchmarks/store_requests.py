"""Counts what bulk captioning asks of object storage: requests by kind, by what a unit costs and what a run.

    python tests/benchmarks/store_requests.py [--units 8 24] [--unit-size 16]

A server that speaks S3 (moto, on loopback) holds pictures and table; a captioner without a model.
Two sizes of archive tell what a unit and a picture cost, and what a run costs once. LIST is a page of
up to a thousand keys. The lock's renewals, one each 10 s, are left out.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "caption"))

from PIL import Image
from stub_captioner import StubCaptioner

from pipeline.caption import caption, verify
from pipeline.config import CaptionConfig
from pipeline.remote import RemotePath, s3

SERVER = Path(__file__).parents[1] / "remote" / "store_server.py"

KINDS = {
    "put_object": "PUT",
    "get_object": "GET",
    "head_object": "HEAD",
    "head_bucket": "HEAD",
    "list_objects_v2": "LIST",
    "delete_object": "DELETE",
}


@contextlib.contextmanager
def server() -> Iterator[None]:
    script = [sys.executable, str(SERVER), "0"]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    process = subprocess.Popen(script, stderr=subprocess.DEVNULL, **pipes)
    try:
        assert process.stdout is not None
        os.environ |= {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{int(process.stdout.readline())}",
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test-secret",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        yield
    finally:
        process.kill()
        process.communicate()


@contextlib.contextmanager
def counted() -> Iterator[Counter[str]]:
    store, counts = s3._store(os.getpid()), Counter[str]()
    call = store._call_s3

    async def counting(method: str, *arguments: Any, **more: Any) -> Any:
        counts[KINDS.get(method, method)] += 1
        return await call(method, *arguments, **more)

    store._call_s3 = counting
    try:
        yield counts
    finally:
        del store._call_s3


def picture(number: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (16, 16), (number % 256, number // 256, 7)).save(file, "PNG")
    return file.getvalue()


def fill(bucket: RemotePath, pictures: int) -> tuple[RemotePath, RemotePath]:
    """The pictures as a prefix, and as a tar."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for number in range(pictures):
            info = tarfile.TarInfo(f"{number:06d}.png")
            info.size = len(picture(number))
            tar.addfile(info, io.BytesIO(picture(number)))
            (bucket / "photos" / info.name).write_bytes(picture(number))
    (bucket / "photos.tar").write_bytes(packed.getvalue())
    return bucket / "photos", bucket / "photos.tar"


def measure(units: int, unit_size: int) -> dict[str, Counter[str]]:
    """Requests by what was done."""
    bucket = RemotePath(f"requests-{units}")
    s3._call("create_bucket", bucket.bucket, "")
    config = CaptionConfig(unit_size=unit_size, batch_size=unit_size)
    found: dict[str, Counter[str]] = {}
    archives = fill(bucket, units * unit_size)
    for archive, what in zip(archives, ("a prefix", "a tar"), strict=True):
        table = bucket / f"table of {what}"
        steps: dict[str, Callable[[], object]] = {
            f"caption {what}": lambda a=archive, t=table: caption(config, [a], t, StubCaptioner()),
            f"run again over {what}": lambda a=archive, t=table: caption(
                config, [a], t, StubCaptioner()
            ),
            f"verify ({what})": lambda t=table: verify(t),
        }
        for name, step in steps.items():
            with counted() as counts:
                step()
            found[name] = counts
    return found


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--units", type=int, nargs=2, default=(8, 24))
    parser.add_argument("--unit-size", type=int, default=16)
    given = parser.parse_args()
    few, many = sorted(given.units)
    with server():
        small, large = (measure(units, given.unit_size) for units in (few, many))
    print(f"{given.unit_size} pictures a unit; requests a unit, and once a run")
    for what in small:
        each = {
            kind: (large[what][kind] - small[what][kind]) / (many - few) for kind in large[what]
        }
        told = [
            f"{kind} {slope:g} + {large[what][kind] - slope * many:g}"
            for kind, slope in sorted(each.items())
        ]
        print(f"{what:<24} {'   '.join(told)}")


if __name__ == "__main__":
    main()
