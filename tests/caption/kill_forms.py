"""Captions folders as they are, as tars, as zips and as Parquet, with kills; compares the tables.

    python tests/caption/kill_forms.py --kills 52 WORK PHOTOS... -- \\
        captionmill caption --table {table} --model DIR

Of every folder a tar, a zip and a Parquet file with a bytes column are written below WORK. Each of
the four forms is captioned once in peace; then `kill_any.py` kills its runs, until each form had its
share of the kills. Prints a Markdown table of the four, and ends with 1 if a table differs from the
undisturbed one in a byte, if one does not verify, or if the forms' captions and scores differ.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from kill_any import content, killed_until_finished, start

ROWS_A_GROUP = 256


def pictures(folder: Path) -> Iterator[tuple[str, Path]]:
    """Every file of a folder, by its path in it."""
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            yield path.relative_to(folder).as_posix(), path


def as_tar(folder: Path, target: Path) -> None:
    with tarfile.open(target, "w") as archive:
        for name, path in pictures(folder):
            archive.add(path, name)


def as_zip(folder: Path, target: Path) -> None:
    with zipfile.ZipFile(target, "w", zipfile.ZIP_STORED) as archive:
        for name, path in pictures(folder):
            archive.write(path, name)


def as_parquet(folder: Path, target: Path) -> None:
    schema = pa.schema([("name", pa.string()), ("image", pa.binary())])
    with pq.ParquetWriter(target, schema) as writer:
        batch: list[dict[str, object]] = []
        for name, path in pictures(folder):
            batch.append({"name": name, "image": path.read_bytes()})
            if len(batch) == ROWS_A_GROUP:
                writer.write_table(pa.Table.from_pylist(batch, schema))
                batch = []
        if batch:
            writer.write_table(pa.Table.from_pylist(batch, schema))


FORMS = {"folder": None, "tar": as_tar, "zip": as_zip, "parquet": as_parquet}


def archives(form: str, folders: list[Path], work: Path) -> list[str]:
    """The folders' paths, or those of what was made of them."""
    make = FORMS[form]
    if make is None:
        return [str(folder) for folder in folders]
    paths = []
    for number, folder in enumerate(folders):
        target = work / f"{number}-{folder.name}.{form}"
        if not target.exists():
            make(folder, target)
        paths.append(str(target))
    return paths


def captions(table: Path) -> list[tuple[str, ...]]:
    """What a table says of each picture; a file that is none is skipped in a folder, not in Parquet."""
    columns = ["sha256", "caption", "score", "width", "height"]
    captioned = ds.field("status") == "captioned"
    rows = ds.dataset(table).to_table(columns, filter=captioned).to_pylist()
    return sorted(tuple(str(row[column]) for column in columns) for row in rows)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--kills", type=int, default=52)
    parser.add_argument("--seconds", type=float, nargs=2, default=(2.0, 25.0))
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("work", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    given, command = parser.parse_args(sys.argv[1:split]), sys.argv[split + 1 :]
    given.work.mkdir(parents=True, exist_ok=True)
    moments = random.Random(given.seed)
    told: dict[str, list[tuple[str, ...]]] = {}
    wrong = False
    print("| form | rows | of them captioned | undisturbed | kills (run, captioning process) | tables"
          " | byte-identical | verified |")  # fmt: skip
    print("|---|---:|---:|---:|---:|---:|---|---|", flush=True)
    for form in given.forms:
        words = [*command, *archives(form, given.folders, given.work)]
        whole = given.work / f"{form}-whole"
        began = time.monotonic()
        first = start(words, whole)
        _, printed = first.communicate()
        assert first.returncode == 0, printed
        took = time.monotonic() - began
        kills: Counter[str] = Counter()
        tables, same, verified = 0, True, True
        while kills.total() < given.kills // len(given.forms):
            table = given.work / f"{form}-killed-{tables:02d}"
            most = given.kills // len(given.forms) - kills.total()
            found, error = killed_until_finished(words, table, moments, tuple(given.seconds), most)
            if error:
                print("\n".join(error), file=sys.stderr)
            kills.update(found)
            tables += 1
            same &= not error and content(table) == content(whole)
            verify = [command[0], "verify", str(table)]
            verified &= subprocess.run(verify, capture_output=True, check=False).returncode == 0
        told[form], rows = captions(whole), ds.dataset(whole).count_rows()
        wrong |= not (same and verified)
        print(f"| {form} | {rows:,} | {len(told[form]):,} | {took:.0f} s | {kills['run']},"
              f" {kills['worker']} | {tables} | {'yes' if same else 'NO'} |"
              f" {'yes' if verified else 'NO'} |", flush=True)  # fmt: skip
    alike = all(value == told[given.forms[0]] for value in told.values())
    print(f"\nThe same captions and scores in all forms: {'yes' if alike else 'NO'}")
    sys.exit(wrong or not alike)


if __name__ == "__main__":
    main()
