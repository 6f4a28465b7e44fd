"""`caption --profile`: where the time went, as numbers and as a picture."""

from __future__ import annotations

import json
import os
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.caption import Loader, caption, compact, verify
from pipeline.caption.profile import Profile
from pipeline.caption.profile_svg import LEFT, STRIP, TOP, WIDTH, Strip, draw
from pipeline.caption.timeline import Timeline, now
from pipeline.config import CaptionConfig

LIGHT = Path(__file__).parent / "light"
PLAIN = CaptionConfig(unit_size=4, batch_size=3)
CONFIG = PLAIN.model_copy(update={"profile": True})
SVG = "{http://www.w3.org/2000/svg}"


def lanes(profile: Profile) -> dict[str, dict[str, float]]:
    return {
        f"{process.name}/{lane.name}": lane.seconds
        for process in profile.processes
        for lane in process.lanes
    }


def test_each_lanes_seconds_are_its_processs_time(folder: Path, tmp_path: Path, stub: Any) -> None:
    began = now() - 2.0
    report = caption(CONFIG, [folder], tmp_path / "t", stub(seconds=0.2), since=began)
    profile = Profile.load(tmp_path / "t" / "_profile.json")
    (process,) = profile.processes
    assert process.name == "run"
    found = lanes(profile)
    assert list(found) == ["run/run", "run/pictures", "run/model"]
    for lane in process.lanes:
        assert sum(lane.seconds.values()) == pytest.approx(lane.threads * process.seconds, abs=0.02)
    # Two units of four pictures and one of two, three a batch: five batches of 0.2 s.
    assert found["run/model"]["search"] > 0.99
    assert found["run/run"]["start"] > 1.99
    assert {"list", "plan", "write", "account"} <= found["run/run"].keys()
    assert {"read", "decode", "await model"} <= found["run/pictures"].keys()
    assert profile.pictures == 10
    assert profile.bottleneck == report.bottleneck is not None
    assert profile.first_row_seconds is not None
    assert 2.0 < profile.first_row_seconds < profile.seconds
    assert profile.busy_cores > 0


def test_each_captioning_process_is_told_apart(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [str(LIGHT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    caption(CONFIG, [folder], tmp_path / "t", Loader(function="light_captioner:captioner"))
    profile = Profile.load(tmp_path / "t" / "_profile.json")
    found = lanes(profile)
    assert {"run/run", "worker 1/pictures", "worker 1/model"} <= found.keys()
    assert found["run/run"]["await workers"] > 0
    assert {"imports", "load", "send", "await pictures"} <= found["worker 1/model"].keys()
    assert all(process.cpu_seconds > 0 for process in profile.processes)


def test_the_picture_is_whole_and_needs_nothing_else(
    folder: Path, tmp_path: Path, stub: Any
) -> None:
    caption(CONFIG, [folder], tmp_path / "t", stub(seconds=0.05))
    text = (tmp_path / "t" / "_profile.svg").read_text()
    root = ET.fromstring(text)
    words = " ".join(node.text or "" for node in root.iter(f"{SVG}text"))
    for expected in ("10 pictures in", "bottleneck ", "run: model", "run: pictures", "await"):
        assert expected in words
    assert not re.search(r"<script|href|url\(", text)
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for node in root.iter(f"{SVG}text"):
        assert 0 <= float(node.attrib["x"]) <= width
        assert 0 <= float(node.attrib["y"]) <= height


def test_a_strip_is_filled_where_its_stage_was_busy() -> None:
    timeline = Timeline()
    timeline.add("encode", 100.0, 105.0)
    timeline.add("search", 105.0, 110.0)
    strip = Strip("model", 1, {"encode": 5.0, "search": 5.0, "idle": 10.0}, timeline)
    root = ET.fromstring(draw("t & <t>", "about", [strip], 100.0, 120.0))
    encode, search = (node.attrib["d"] for node in root.iter(f"{SVG}path"))
    # Twenty seconds are the strip's width: a quarter of it each.
    wide = WIDTH / 4
    assert encode == f"M{LEFT} {TOP}h{wide:g}v{STRIP}h-{wide:g}z"
    assert search == f"M{LEFT + wide:g} {TOP}h{wide:g}v{STRIP}h-{wide:g}z"


def test_many_workers_make_no_endless_picture() -> None:
    timeline = Timeline()
    timeline.add("encode", 0.0, 1.0)
    strips = [Strip(f"worker {n}", 1, {"encode": 1.0}, timeline) for n in range(200)]
    root = ET.fromstring(draw("t", "about", strips, 0.0, 1.0))
    assert float(root.attrib["height"]) < 2500
    assert any("and 160 more" in (node.text or "") for node in root.iter(f"{SVG}text"))


def test_a_profile_changes_no_part_and_disturbs_no_reader(
    folder: Path, tmp_path: Path, stub: Any, parts: Callable[[Path], dict[str, bytes]]
) -> None:
    caption(PLAIN, [folder], tmp_path / "plain", stub())
    assert not list((tmp_path / "plain").glob("_profile*"))
    table = tmp_path / "profiled"
    caption(CONFIG, [folder], table, stub())
    assert parts(table) == parts(tmp_path / "plain")
    assert verify(table).captioned == 10
    assert compact(table, tmp_path / "large").captioned == 10
    (recipe,) = (table / "_recipes").iterdir()
    assert "profile" not in json.loads(recipe.read_text())["settings"]
    assert CONFIG.content() == PLAIN.content()


def test_a_run_that_captions_nothing_has_one_too(folder: Path, tmp_path: Path, stub: Any) -> None:
    caption(PLAIN, [folder], tmp_path / "t", stub())
    caption(CONFIG, [folder], tmp_path / "t", stub())
    profile = Profile.load(tmp_path / "t" / "_profile.json")
    assert (profile.pictures, profile.first_row_seconds) == (0, None)
    assert "0 pictures in" in (tmp_path / "t" / "_profile.svg").read_text()
