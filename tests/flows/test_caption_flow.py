"""The flow `caption` on a real temporary Prefect server: progress while it runs, and its artifact."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LIGHT = ROOT / "tests" / "caption" / "light"

SCRIPT = """
import json, os, sys
from pathlib import Path
from flows.embedded import configure
folder, work, light = sys.argv[1:]
server = configure(Path(work))
import flows.progress
from flows import caption, direct
from pipeline.caption import Loader
server.wait()
# For captioning processes alone: what they find as torch there is a stand-in.
os.environ["PYTHONPATH"] = light + os.pathsep + os.environ["PYTHONPATH"]
flows.progress.ProgressArtifact.__init__.__defaults__ = (0.1,)
direct.captioner_loader = lambda *_: Loader(function="light_captioner:captioner", arguments={"seconds": 0.6})
told = []
update = flows.progress.update_progress_artifact
def noted(artifact, percent, description=None):
    told.append([percent, description])
    return update(artifact, percent, description)
flows.progress.update_progress_artifact = noted
settings = ["caption.unit_size=4", "caption.batch_size=2", "caption.workers=1", "device=cpu"]
records = [caption.caption([folder], work + "/one", None, settings, work)]

def refuse(*_, **__):
    raise ConnectionError("the server is away")
flows.progress.create_progress_artifact = refuse
records.append(caption.caption([folder], work + "/two", None, settings, work))

from prefect.client.orchestration import get_client
with get_client(sync_client=True) as client:
    artifacts = [[a.key, a.type, a.data, a.description] for a in client.read_artifacts() if a.key]
    states = [run.state.type.value for run in client.read_flow_runs()]
print(json.dumps({"records": records, "told": told, "artifacts": artifacts, "states": states}))
"""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two runs of the flow; in the second Prefect takes no progress."""
    home = tmp_path_factory.mktemp("flow")
    folder, work = home / "photos", home / "work"
    folder.mkdir()
    work.mkdir()
    for number in range(12):
        pixels = np.full((20, 24, 3), 20 * number, np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}|<b>.jpg")
    (folder / "bad.jpg").write_bytes(b"")
    (folder / "notes.txt").write_text("x")
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(folder), str(work), str(LIGHT)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return {**json.loads(done.stdout), "stderr": done.stderr}


def of_kind(run: dict[str, Any], kind: str) -> list[list[Any]]:
    return [artifact for artifact in run["artifacts"] if artifact[1] == kind]


def test_progress_goes_up_while_it_runs_and_ends_whole(run: dict[str, Any]) -> None:
    percents = [percent for percent, _ in run["told"]]
    assert percents == sorted(percents)
    assert any(0 < percent < 100 for percent in percents)
    ((key, _, data, description),) = of_kind(run, "progress")
    assert (key, data) == ("captionmill-caption-progress", 100)
    assert description.startswith("14 of 14 pictures; ")
    assert "1 failed" in description


def test_a_prefect_that_takes_no_progress_does_not_end_the_run(run: dict[str, Any]) -> None:
    assert run["states"] == ["COMPLETED", "COMPLETED"]
    assert [record["captioned"] for record in run["records"]] == [12, 12]
    said = "Prefect takes no more progress (ConnectionError: the server is away); the run goes on"
    assert run["stderr"].count(said) == 1


def test_the_artifact_says_what_came_out(run: dict[str, Any]) -> None:
    texts = [data for _, _, data, _ in of_kind(run, "markdown")]
    assert len(texts) == 2
    for expected in (
        "# 12 of 14 pictures captioned",
        "| pictures in | 14 |",
        "| failed | 1 (7.14%) |",
        "| `zero_bytes` | 1 | the file is empty |",
        "| `other_file_type` | 1 |",
        "pictures/s |",
        "| bottleneck | ",
        "| search | ",
        "## Some of the captions",
    ):
        assert expected in texts[0]
    # What a stranger named a file ends no cell and is no markup.
    assert "00\\|&lt;b>.jpg | a picture" in texts[0]


def test_what_is_said_is_ours(run: dict[str, Any]) -> None:
    assert {line.split()[0] for line in run["stderr"].splitlines()} == {"caption"}
