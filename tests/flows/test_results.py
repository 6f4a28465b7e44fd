"""The commands that score results files, as a person calls them."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result

from flows import cli
from flows.results_report import printable, table
from pipeline.errors import ConfigError
from pipeline.metrics import METRICS, References, score_captions

ROOT = Path(__file__).parents[2]
NOUNS = ["dog", "cat", "bird", "horse", "cow", "sheep"]
CAPTIONS = [
    [f"a {noun} in the park", f"the {noun} stands on the grass", f"one {noun}."] for noun in NOUNS
]
GOOD = [f"A {noun} stands in the park." for noun in NOUNS]
POOR = ["a person in the park"] * 5 + GOOD[5:]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def write(path: Path, captions: list[str], ids: list[object] | None = None) -> Path:
    ids = ids or list(range(1, len(captions) + 1))
    entries = [{"image_id": i, "caption": c} for i, c in zip(ids, captions, strict=True)]
    path.write_text(json.dumps(entries))
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with captions.json, good.json and poor.json, and the process in it."""
    monkeypatch.chdir(tmp_path)
    images = [{"id": n, "file_name": f"{noun}.jpg"} for n, noun in enumerate(NOUNS, 1)]
    annotations = [
        {"image_id": n, "caption": caption}
        for n, captions in enumerate(CAPTIONS, 1)
        for caption in captions
    ]
    Path("captions.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    write(Path("good.json"), GOOD)
    write(Path("poor.json"), POOR)
    return tmp_path


SCORE = ("score-captions", "--references", "captions.json", "--predictions")
COMPARE = ("compare", "poor.json", "good.json", "--references", "captions.json")


def test_scores_are_printed_in_a_table_with_the_signature(here: Path) -> None:
    result = run(*SCORE, "good.json")
    assert result.exit_code == 0, result.stderr
    expected = score_captions(CAPTIONS, GOOD)
    printed = result.stdout.splitlines()
    assert printed[:3] == [
        "references   captions.json: 6 images, 18 captions",
        "predictions  good.json: 6 captions",
        "",
    ]
    assert printed[3].split() == ["x100", "score"]
    assert [line.split() for line in printed[4:10]] == [
        [title, f"{100 * expected.corpus[metric]:.2f}"]
        for metric, title in zip(
            METRICS, ["BLEU-1", "BLEU-2", "BLEU-3", "BLEU-4", "ROUGE-L", "CIDEr"], strict=True
        )
    ]
    assert printed[10:] == ["", f"signature  {expected.signature}"]
    assert len({len(line) for line in printed[3:10]}) == 1
    assert sorted(os.listdir()) == ["captions.json", "good.json", "poor.json"]


def test_files_hold_scores_their_sources_and_a_row_an_image(here: Path) -> None:
    result = run(
        *SCORE, "good.json", "--out", "new/scores.json", "--per-image", "rows.parquet",
        "--resamples", 200,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert "95 % interval" in result.stdout
    expected = score_captions(CAPTIONS, GOOD)
    record = json.loads(Path("new/scores.json").read_text())
    assert record["raw"] == expected.corpus
    assert record["scores"] == {m: 100 * score for m, score in expected.corpus.items()}
    assert (record["images"], record["captions"]) == (6, 18)
    assert record["signature"] == expected.signature
    assert "cider" in record["definitions"]
    for name, path in (("references", "captions.json"), ("predictions", "good.json")):
        assert record[name]["path"] == path
        digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        assert record[name]["sha256"] == digest
    for metric in METRICS:
        low, high = record["intervals"][metric]
        assert low - 1e-9 <= record["scores"][metric] <= high + 1e-9
    rows = pq.read_table("rows.parquet")
    assert rows.column_names == ["image_id", "caption", *METRICS]
    assert rows["image_id"].to_pylist() == ["1", "2", "3", "4", "5", "6"]
    assert rows["caption"].to_pylist() == GOOD
    assert rows["cider"].to_pylist() == expected.per_image["cider"].tolist()
    assert rows.schema.metadata[b"signature"].decode() == expected.signature


def test_a_stored_table_is_made_and_used(here: Path) -> None:
    made = run("document-frequencies", "captions.json", "--out", "frequencies.parquet")
    assert made.exit_code == 0, made.stderr
    frequencies = References(CAPTIONS).document_frequencies
    assert "n-grams of 6 images" in made.stdout
    assert frequencies.fingerprint in made.stdout
    result = run(
        *SCORE, "good.json", "--document-frequencies", "frequencies.parquet", "--out", "s.json"
    )
    assert result.exit_code == 0, result.stderr
    assert f"df:stored(6,{frequencies.fingerprint})" in result.stdout
    stored = json.loads(Path("s.json").read_text())["document_frequencies"]
    assert stored["fingerprint"] == frequencies.fingerprint
    assert stored["images"] == 6
    compared = run(*COMPARE, "--document-frequencies", "frequencies.parquet", "--resamples", 50)
    assert f"df:stored(6,{frequencies.fingerprint})" in compared.stdout


def test_a_table_that_counts_ends_is_refused(here: Path) -> None:
    References(CAPTIONS, end_token=True).document_frequencies.save(Path("ends.parquet"))
    for command in ((*SCORE, "good.json"), COMPARE):
        result = run(*command, "--document-frequencies", "ends.parquet")
        assert result.exit_code == 3
        assert "ends.parquet: it counts the end of a caption as a word" in result.stderr


def test_missing_images_stop_it_unless_allowed(here: Path) -> None:
    write(Path("part.json"), GOOD[:4])
    refused = run(*SCORE, "part.json", "--out", "s.json")
    assert refused.exit_code == 3
    assert refused.stdout == ""
    assert "2 of 6 missing (5, 6)" in refused.stderr
    assert "--allow-missing" in refused.stderr
    assert not Path("s.json").exists()
    result = run(*SCORE, "part.json", "--allow-missing", "--out", "s.json")
    assert result.exit_code == 0
    assert "part.json: 4 captions, 2 images missing and scored as empty captions" in result.stdout
    record = json.loads(Path("s.json").read_text())
    assert record["predictions"]["missing"] == 2
    assert record["raw"] == score_captions(CAPTIONS, [*GOOD[:4], "", ""]).corpus
    assert run("compare", "part.json", "good.json", *COMPARE[3:]).exit_code == 3
    assert run("compare", "part.json", "good.json", *COMPARE[3:], "--allow-missing").exit_code == 0


def test_compare_prints_differences_and_the_images_that_changed(here: Path) -> None:
    result = run(*COMPARE, "--resamples", 999, "--out", "comparison.json")
    assert result.exit_code == 0, result.stderr
    a, b = score_captions(CAPTIONS, POOR), score_captions(CAPTIONS, GOOD)
    (cider,) = [line.split() for line in result.stdout.splitlines() if line.startswith("CIDEr")]
    assert cider[1:3] == [f"{100 * a.corpus['cider']:.2f}", f"{100 * b.corpus['cider']:.2f}"]
    assert cider[3] == f"{100 * (b.corpus['cider'] - a.corpus['cider']):+.2f}"
    assert cider[5] == ".."
    assert "999 resamples, seed 0" in result.stdout
    assert "image 1  dog.jpg\n    A  a person in the park\n    B  A dog stands" in result.stdout
    assert "no image's CIDEr is lower with B" in result.stdout
    assert result.stdout.rstrip().endswith(b.signature)
    record = json.loads(Path("comparison.json").read_text())
    assert record["metrics"]["cider"]["b"] == pytest.approx(100 * b.corpus["cider"])
    assert 0 < record["metrics"]["cider"]["p_value"] <= 1
    assert len(record["gained"]) == 5
    assert record["gained"][0].keys() == {
        "image_id", "file_name", "caption_a", "caption_b", "cider_a", "cider_b"
    }  # fmt: skip
    assert record["lost"] == []
    assert (record["resamples"], record["seed"]) == (999, 0)
    again = run(*COMPARE, "--resamples", 999)
    assert again.stdout == result.stdout
    assert run(*COMPARE, "--resamples", 999, "--seed", 1).stdout != result.stdout


def test_captions_cannot_move_the_terminal(here: Path) -> None:
    evil = "\x1b[2J\x1b]0;title\x07 two\nlines \u202edesrever\r" + "very " * 50
    write(Path("evil.json"), [evil, *GOOD[1:]])
    result = run("compare", "good.json", "evil.json", *COMPARE[3:], "--resamples", 10)
    assert result.exit_code == 0
    assert all(line.isprintable() for line in result.stdout.splitlines())
    (line,) = [line for line in result.stdout.splitlines() if "title" in line]
    assert line.startswith("    B  \\x1b[2J\\x1b]0;title\\x07 two lines \\u202edesrever very")
    assert line.endswith("…")
    assert len(line) <= 100


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((*SCORE, "good.json", "--out", "good.json"), "--out good.json would overwrite the input"),
        ((*SCORE, "good.json", "--per-image", "./captions.json"), "would overwrite the input"),
        ((*SCORE, "good.json", "--out", "link.json"), "would overwrite the input good.json"),
        ((*SCORE, "good.json", "--out", "x", "--per-image", "./x"), "are the same file"),
        ((*SCORE, "good.json", "--out", "."), "--out . is a directory; name a file"),
        ((*SCORE, "good.json", "--out", "/dev/null"), "--out /dev/null is no regular file"),
        ((*SCORE, "good.json", "--out", "poor.json/s"), "poor.json is no directory"),
        ((*COMPARE, "--out", "poor.json"), "would overwrite the input poor.json"),
        (("document-frequencies", "captions.json", "--out", "captions.json"), "would overwrite"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_any_work(
    here: Path, arguments: tuple[str, ...], told: str
) -> None:
    Path("link.json").symlink_to("good.json")
    before = {path: Path(path).read_bytes() for path in sorted(os.listdir())}
    result = run(*arguments)
    assert result.exit_code == 2
    assert told in result.stderr
    assert result.stderr.startswith("error: ")
    assert {path: Path(path).read_bytes() for path in sorted(os.listdir())} == before


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((*SCORE, "none.json"), 3, "cannot read none.json: No such file or directory"),
        ((*SCORE, "captions.json"), 3, "is it the references?"),
        (("score-captions", "--references", "good.json", "--predictions", "good.json"), 3,
         "is it a results file?"),
        ((*SCORE, "good.json", "--document-frequencies", "good.json"), 3, "good.json"),
        ((*SCORE, "good.json", "--document-frequencies", "none"), 3, "no such file"),
        ((*SCORE, "good.json", "--resamples", "-1"), 2, "--resamples"),
        ((*COMPARE, "--resamples", "0"), 2, "--resamples"),
        (("compare", "good.json", "--references", "captions.json"), 2, "Missing argument"),
        (("document-frequencies", "good.json", "--out", "f.parquet"), 3, "is it a results file?"),
    ],
)  # fmt: skip
def test_wrong_inputs_end_with_the_documented_codes(
    here: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    result = run(*arguments)
    assert result.exit_code == code
    assert told in result.stderr
    assert result.stdout == ""


def test_meteor_is_labelled_with_its_source(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.metrics import meteor

    monkeypatch.setattr(meteor, "require_meteor", lambda: [])
    monkeypatch.setattr(meteor, "meteor_scores", lambda *_: (0.25, [0.1, 0.2, 0.3, 0.2, 0.3, 0.4]))
    result = run(*SCORE, "good.json", "--meteor", "--out", "s.json", "--per-image", "r.parquet")
    assert result.exit_code == 0, result.stderr
    assert [line.split() for line in result.stdout.splitlines()][10] == ["METEOR", "25.00"]
    assert meteor.METEOR in result.stdout
    record = json.loads(Path("s.json").read_text())
    assert (record["raw"]["meteor"], record["scores"]["meteor"]) == (0.25, 25)
    assert record["definitions"]["meteor"] == meteor.METEOR
    assert pq.read_table("r.parquet")["meteor"].to_pylist()[-1] == 0.4


def test_meteor_that_is_not_there_stops_before_any_work(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.metrics import meteor

    def absent() -> list[str]:
        raise ConfigError("METEOR needs Java")

    monkeypatch.setattr(meteor, "require_meteor", absent)
    result = run(*SCORE, "none.json", "--meteor")
    assert (result.exit_code, result.stderr) == (2, "error: METEOR needs Java\n")


def test_a_real_process_imports_nothing_heavy(here: Path) -> None:
    script = (
        "import sys\nfrom flows.cli import main\ntry:\n    main(sys.argv[1:])\n"
        "except SystemExit as end:\n    assert not end.code, end.code\n"
        "heavy = {'torch', 'mlflow', 'prefect', 'webdataset', 'pycocoevalcap', 'pycocotools'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, *COMPARE, "--resamples", "20"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "gained most CIDEr with B:" in done.stdout


def test_text_of_strangers_is_spelt_out_on_one_line() -> None:
    assert printable(" a\tcat \n sits ") == "a cat sits"
    assert printable("\x9b31m\x00\u200b") == "\\x9b31m\\x00\\u200b"
    assert printable("café 猫 🐈") == "café 猫 🐈"
    assert printable("abcdef", 4) == "abc…"


def test_a_table_is_aligned() -> None:
    assert table([["x", "long"], ["name", "1"]]) == "x     long\nname     1"


@pytest.mark.parametrize("place", ["file_name", "id"])
def test_half_a_character_is_named(here: Path, place: str) -> None:
    image = {"id": 1, "file_name": "a.jpg", place: "b\ud83d"}
    annotation = {"image_id": image["id"], "caption": "a dog"}
    Path("captions.json").write_text(json.dumps({"images": [image], "annotations": [annotation]}))
    result = run(*SCORE, write(Path("one.json"), ["a dog"], [image["id"]]))
    assert result.exit_code == 3
    assert f"images[0].{place} holds \\ud83d, half of a character" in result.stderr


def test_a_name_that_is_not_utf8_is_spelt_out(here: Path) -> None:
    name = os.fsdecode(b"caf\xe9.json")
    write(Path(name), GOOD)
    result = run(*SCORE, name, "--out", "scores.json")
    assert result.exit_code == 0, result.stderr
    assert json.loads(Path("scores.json").read_text())["predictions"]["path"] == "caf\\xe9.json"


def test_no_escape_of_a_path_reaches_the_terminal(here: Path) -> None:
    result = run(*SCORE, "x\x1b]0;title\x07.json")
    assert result.exit_code == 3
    assert "\x1b" not in result.stderr
    assert "x\\x1b]0;title\\x07.json" in result.stderr


@pytest.mark.parametrize("out", ["x" * 300, "/proc/nowhere/scores.json"])
def test_an_output_that_cannot_be_is_a_line(here: Path, out: str) -> None:
    result = run(*SCORE, "good.json", "--out", out)
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) == 1


def test_a_full_disk_behind_the_output_is_a_line(here: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = [sys.executable, "-c", "from flows.cli import main; main()", *SCORE, "good.json"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            command,
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
    assert done.returncode == 2
    assert done.stderr == (
        "error: the output: No space left on device; make room and run the same command again to go on\n"
    )


def test_few_images_are_called_few(here: Path) -> None:
    assert "fewer than 30 images: intervals and p are rough" in run(*COMPARE).stdout
