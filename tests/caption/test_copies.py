"""Identical bytes are captioned once; which picture that is follows from the plan alone."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import caption, copies, verify
from pipeline.caption.copies import Copies, Digests
from pipeline.caption.schema import Row
from pipeline.config import CaptionConfig
from pipeline.errors import ArchiveError

Rows = Callable[[Path], list[dict[str, Any]]]
Parts = Callable[[Path], dict[str, bytes]]


def counting(captioner: Any, seen: list[float]) -> Any:
    """The captioner, which notes the mean colour of each picture that it is given."""
    inner = captioner.caption_pixels

    def caption_pixels(pixels: Any, **kwargs: Any) -> Any:
        means = pixels.float().mean((1, 2, 3)).tolist()
        seen.extend(mean for mean in means if mean > 0)  # padding is black
        return inner(pixels, **kwargs)

    captioner.caption_pixels = caption_pixels
    return captioner


@pytest.fixture
def with_copies(folder: Path, picture: Callable[..., bytes]) -> Path:
    """Ten pictures, each three times, in an order that no unit keeps together."""
    originals = sorted(path for path in folder.rglob("*.jpg"))
    for times in ("y", "z"):
        for number, path in enumerate(originals):
            (folder / f"{times}{number:02d}.jpg").write_bytes(path.read_bytes())
    return folder


def test_identical_bytes_are_captioned_once_and_get_full_rows(
    with_copies: Path, tmp_path: Path, stub: Any, rows: Rows
) -> None:
    seen: list[float] = []
    config = CaptionConfig(unit_size=4, batch_size=3)
    report = caption(config, [with_copies], tmp_path / "t", counting(stub(), seen))
    assert (report.discovered, report.captioned, len(seen)) == (30, 30, 10)
    found = rows(tmp_path / "t")
    by_digest: dict[str, set[Any]] = {}
    for row in found:
        assert row["status"] == "captioned"
        assert (row["width"], row["height"]) == (24, 18)
        told = (row["caption"], row["score"], str(row["candidates"]))
        by_digest.setdefault(row["sha256"], set()).add(told)
    assert [len(told) for told in by_digest.values()] == [1] * 10
    verify(tmp_path / "t")


def test_renamed_and_moved_pictures_are_not_captioned_again(
    folder: Path, tmp_path: Path, stub: Any
) -> None:
    config, table = CaptionConfig(unit_size=4, batch_size=3), tmp_path / "t"
    caption(config, [folder], table, stub())
    (folder / "moved").mkdir()
    for path in sorted(folder.glob("*.jpg")):
        path.rename(folder / "moved" / f"new-{path.name}")
    seen: list[float] = []
    report = caption(config, [folder], table, counting(stub(), seen))
    assert seen == []
    assert report.captioned == 14
    verify(table)


def test_copies_of_a_bad_picture_are_rows_with_its_code(
    with_copies: Path, tmp_path: Path, stub: Any, rows: Rows
) -> None:
    for name in ("a.jpg", "b.jpg", "zz.jpg"):
        (with_copies / name).write_bytes(b"no picture at all")
    config = CaptionConfig(unit_size=4, batch_size=3)
    report = caption(config, [with_copies], tmp_path / "t", stub())
    assert report.failed == {"not_an_image": 3}


def test_a_run_that_was_stopped_copies_from_the_same_rows(
    with_copies: Path, tmp_path: Path, stub: Any, parts: Parts
) -> None:
    """A captioner whose scores tell in which batch a picture was: copies must come out alike."""

    class StoppedError(Exception):
        pass

    def telling(captioner: Any, most: int) -> Any:
        inner, calls = captioner.caption_pixels, 0

        def caption_pixels(pixels: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > most:
                raise StoppedError
            mates = float(pixels.float().mean())
            return [
                type(c)(c.text, c.score - mates, ((c.text, c.score - mates),))
                for c in inner(pixels, **kwargs)
            ]

        captioner.caption_pixels = caption_pixels
        return captioner

    config = CaptionConfig(unit_size=4, batch_size=3)
    caption(config, [with_copies], tmp_path / "whole", telling(stub(), 1000))
    for most in range(2, 6):
        table = tmp_path / f"t{most}"
        for _ in range(20):
            try:
                caption(config, [with_copies], table, telling(stub(), most))
                break
            except StoppedError:
                continue
        assert parts(table) == parts(tmp_path / "whole")


class Plan:
    """Units of one digest list each; a part once it is finished."""

    def __init__(self, units: dict[str, list[str]]) -> None:
        self.units, self.done = units, set[str]()

    def digests(self, unit: str) -> list[str]:
        return self.units[unit] if unit in self.done else []

    def rows(self, unit: str) -> Any:
        raise NotImplementedError


@pytest.mark.parametrize("seed", range(5))
def test_answers_do_not_depend_on_where_a_run_was_stopped(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copies, "WINDOW", 6)
    monkeypatch.setattr(copies, "_SETS", 4)  # full at once: what is forgotten must agree too
    random_numbers = random.Random(seed)
    names = [f"unit-{number}" for number in range(40)]
    some = [f"{random_numbers.getrandbits(256):064x}" for _ in range(50)]
    plan = Plan({name: random_numbers.choices(some, k=5) for name in names})
    monkeypatch.setattr(copies.Digests.__init__, "__defaults__", (4,))
    whole = Copies(names, plan)
    expected = {name: whole.find(name, 0, plan.units[name]) for name in names}
    assert any(found for answers in expected.values() for found in answers)
    plan.done = {name for name in names if random_numbers.random() < 0.7}
    resumed = Copies(names, plan)
    for name in names:
        if name not in plan.done:
            half = resumed.find(name, 0, plan.units[name][:2])
            rest = resumed.find(name, 2, plan.units[name][2:])
            again = resumed.find(name, 0, plan.units[name])
            assert half + rest == again == expected[name]


def test_a_unit_that_is_not_of_the_plan_is_looked_at_by_itself() -> None:
    one, two = "1" * 64, "2" * 64
    found = Copies().find("u", 0, [one, None, two, one])
    assert found == [None, None, None, ("u", 0)]
    assert Copies(["u"], Plan({"u": []})).find("other", 0, [one, one]) == [None, ("other", 0)]


def test_digests_keep_the_latest_of_each_set() -> None:
    digests = Digests(sets=1)
    many = [f"{number:064x}"[::-1] for number in range(9)]
    assert [digests.swap(digest, place) for place, digest in enumerate(many)] == [None] * 9
    assert digests.swap(many[8], 9) == 8
    assert digests.swap(many[0], 10) is None
    assert digests.swap(many[2], 11) == 2


def test_a_source_that_became_another_picture_stops_the_run() -> None:
    def row(member: str, sha256: str) -> Row:
        nothing: dict[str, Any] = dict.fromkeys(Row.__dataclass_fields__)
        return Row(**nothing | {"source": "photos", "member": member, "sha256": sha256})

    asked = Copies()
    assert asked.find("u", 0, ["1" * 64, "1" * 64]) == [None, ("u", 0)]
    rows = [row("a.jpg", "2" * 64), row("b.jpg", "1" * 64)]
    with pytest.raises(ArchiveError, match=r"photos changed while it was captioned \('a\.jpg'\)"):
        asked.fill("u", rows, {1: ("u", 0)})
