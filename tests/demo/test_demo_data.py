"""The generated data set: the same bytes for the same seed, true captions, no shared scene."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import pytest

from pipeline.config import DemoConfig
from pipeline.demo import MARKER, _plan, generate
from pipeline.demo.draw import draw
from pipeline.demo.scenes import COLOURS, SHAPES, Scene, Thing
from pipeline.demo.wording import captions
from pipeline.errors import ConfigError, ImageError
from pipeline.images import decode, probe

SMALL = DemoConfig(train_images=30, val_images=8, test_images=6, archive_images=9, image_size=64)


def digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("demo")
    generate(SMALL, directory)
    return directory


def coco(directory: Path, split: str) -> dict[str, list[dict[str, object]]]:
    return json.loads((directory / f"captions_{split}.json").read_text())


def test_the_same_seed_gives_the_same_bytes_and_another_seed_does_not(
    made: Path, tmp_path: Path
) -> None:
    generate(SMALL, tmp_path / "again")
    generate(SMALL.model_copy(update={"seed": 1}), tmp_path / "other")
    assert digests(tmp_path / "again") == digests(made)
    first = "train/000001.jpg"
    assert digests(tmp_path / "other")[first] != digests(made)[first]


@pytest.mark.parametrize(("split", "count"), [("train", 30), ("val", 8), ("test", 6)])
def test_a_split_is_coco_with_five_different_captions_a_picture(
    made: Path, split: str, count: int
) -> None:
    tree = coco(made, split)
    assert {"info", "images", "annotations"} <= set(tree)
    assert len(tree["images"]) == count == len(list((made / split).iterdir()))
    texts: dict[object, set[object]] = {image["id"]: set() for image in tree["images"]}
    for note in tree["annotations"]:
        texts[note["image_id"]].add(note["caption"])
    assert all(len(different) == 5 for different in texts.values())
    assert len({note["id"] for note in tree["annotations"]}) == 5 * count
    for image in tree["images"]:
        data = (made / split / str(image["file_name"])).read_bytes()
        assert (probe(data).format, decode(data).size) == ("jpeg", (64, 64))
        assert (image["width"], image["height"]) == (64, 64)


def test_ids_are_not_shared_between_splits(made: Path) -> None:
    ids = [
        image["id"] for split in ("train", "val", "test") for image in coco(made, split)["images"]
    ]
    assert len(set(ids)) == len(ids)


def test_no_scene_is_shared_by_any_two_pictures_of_the_default_set() -> None:
    pictures = _plan(DemoConfig())
    assert len(pictures) == 2000 + 200 + 200 + 100 + 8
    assert len({picture.scene.identity for picture in pictures}) == len(pictures)
    told = [picture.scene for picture in pictures if len(picture.scene.things) == 2]
    # The same two things in mirrored relations would look alike: one of the orders is never told.
    mirror = {"left of": "right of", "above": "below", "right of": "left of", "below": "above"}
    identities = {scene.identity for scene in told}
    for scene in told:
        if scene.relation in mirror:
            assert (mirror[scene.relation], scene.things[::-1]) not in identities


def test_captions_are_true_to_their_scene() -> None:
    words: set[str] = set()
    for picture in _plan(DemoConfig()):
        scene = picture.scene
        texts = captions(scene, Random(picture.number))
        pairs = [f"{thing.colour} {thing.shape}" for thing in scene.things]
        for text in texts:
            said = text.replace(",", "").split()
            words.update(said)
            named = [
                f"{a} {b}" for a, b in itertools.pairwise(said) if a in COLOURS and b in SHAPES
            ]
            assert named and set(named) <= set(pairs)
            if len(pairs) == 2:
                assert named == pairs
            for background in {"light", "dark"} & set(said):
                assert background == scene.background
            for size in {"large", "small"} & set(said):
                assert size in {thing.size for thing in scene.things}
        assert set(pairs) <= {pair for pair in pairs for text in texts if pair in text}
    assert 40 <= len(words) <= 70


@pytest.mark.parametrize(
    ("relation", "sizes", "first", "second"),
    [
        ("left of", ("large", "small"), (0.26, 0.5), (0.74, 0.5)),
        ("right of", ("large", "small"), (0.74, 0.5), (0.26, 0.5)),
        ("above", ("small", "small"), (0.5, 0.26), (0.5, 0.74)),
        ("below", ("large", "small"), (0.5, 0.74), (0.5, 0.26)),
    ],
)
def test_things_are_drawn_where_the_caption_says(
    relation: str, sizes: tuple[str, str], first: tuple[float, float], second: tuple[float, float]
) -> None:
    things = (Thing("circle", "red", sizes[0]), Thing("square", "blue", sizes[1]))
    pixels = np.asarray(draw(Scene(relation, things, "light"), 96, Random(3))).astype(int)
    red = (pixels[:, :, 0] > 150) & (pixels[:, :, 1] < 90)
    blue = (pixels[:, :, 2] > 150) & (pixels[:, :, 0] < 90)
    for mask, (x, y) in ((red, first), (blue, second)):
        rows, columns = np.nonzero(mask)
        assert abs(columns.mean() / 96 - x) < 0.14 and abs(rows.mean() / 96 - y) < 0.14
    assert (red.sum() > 1.5 * blue.sum()) == (sizes == ("large", "small"))


def test_the_inner_and_the_front_thing_are_both_seen() -> None:
    for relation, sizes in (("inside", ("small", "large")), ("overlapping", ("large", "large"))):
        things = (Thing("circle", "red", sizes[0]), Thing("square", "blue", sizes[1]))
        pixels = np.asarray(draw(Scene(relation, things, "dark"), 96, Random(1))).astype(int)
        red = (pixels[:, :, 0] > 150) & (pixels[:, :, 1] < 90)
        blue = (pixels[:, :, 2] > 150) & (pixels[:, :, 0] < 90)
        assert red.sum() > 300 and blue.sum() > 900
        # The whole circle is there: nothing covers it.
        radius = {"small": 0.15, "large": 0.26}[sizes[0]] * 96
        assert red.sum() > 0.75 * np.pi * radius**2


def test_the_archive_holds_pictures_and_the_usual_troubles(made: Path) -> None:
    archive = made / "archive"
    ends: dict[str, str] = {}
    for path in (archive / "odd").iterdir():
        try:
            ends[path.name] = decode(path.read_bytes()).mode
        except ImageError as error:
            ends[path.name] = error.code
    assert ends == {
        "alpha.png": "RGB",
        "cmyk.jpg": "RGB",
        "grey16.png": "RGB",
        "rotated.jpg": "RGB",
        "empty.jpg": "zero_bytes",
        "text.jpg": "not_an_image",
        "truncated.jpg": "truncated",
        "notes.txt": "not_an_image",
    }
    sound = [path for path in archive.rglob("*.jpg") if path.parent.name != "odd"]
    assert len(sound) == 9 and len({path.parent for path in sound}) > 1
    assert all(decode(path.read_bytes()).size == (64, 64) for path in sound)


def test_a_finished_set_is_left_alone_and_said_to_be(
    made: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    generate(SMALL, made)
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before
    printed = capsys.readouterr().err.splitlines()
    assert len(printed) == 1 and "nothing new" in printed[0]


def test_a_lost_file_or_new_settings_are_generated_again_and_strangers_files_stay(
    made: Path, tmp_path: Path
) -> None:
    directory = tmp_path / "demo"
    generate(SMALL, directory)
    (directory / "train" / "000003.jpg").unlink()
    generate(SMALL, directory)
    assert digests(directory) == digests(made)
    (directory / "archive" / "mine.jpg").write_bytes(b"my own")
    generate(SMALL.model_copy(update={"train_images": 5}), directory)
    assert len(list((directory / "train").iterdir())) == 5
    assert (directory / "archive" / "mine.jpg").read_bytes() == b"my own"


def test_a_killed_run_is_generated_again(tmp_path: Path) -> None:
    config = DemoConfig(train_images=1200, val_images=1, test_images=1, archive_images=1)
    directory = tmp_path / "demo"
    program = (
        "import sys; from pathlib import Path; from pipeline.demo import generate\n"
        "from pipeline.config import DemoConfig\n"
        "generate(DemoConfig.model_validate_json(sys.argv[1]), Path(sys.argv[2]))\n"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", program, config.model_dump_json(), str(directory)],
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not (directory / "train" / "000050.jpg").exists() and time.monotonic() < deadline:
        time.sleep(0.005)
    os.kill(child.pid, signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert json.loads((directory / MARKER).read_text())["complete"] is False
    generate(config, directory)
    whole = tmp_path / "whole"
    generate(config, whole)
    assert digests(directory) == digests(whole)


def test_a_directory_with_something_else_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ConfigError, match=r"thesis\.txt"):
        generate(SMALL, tmp_path)
    (tmp_path / MARKER).write_text('{"files": ["thesis.txt"]}')
    with pytest.raises(ConfigError, match="no data set of ours"):
        generate(SMALL, tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"
    assert {path.name for path in tmp_path.iterdir()} == {"thesis.txt", MARKER}
    with pytest.raises(ConfigError, match="is a file"):
        generate(SMALL, tmp_path / "thesis.txt")


def test_more_pictures_than_scenes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"demo\.train_images"):
        generate(DemoConfig(train_images=1_000_000), tmp_path / "demo")
    assert not (tmp_path / "demo").exists()
