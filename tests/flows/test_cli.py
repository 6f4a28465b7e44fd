from __future__ import annotations

import importlib.util
import itertools
import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from flows import cli, direct
from pipeline.config import load_config
from pipeline.errors import BusyError

COMMANDS = sorted(cli.main.commands)
ROOT = Path(__file__).parents[2]


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli.main, [str(argument) for argument in arguments])


def examples(command: str | None = None) -> list[list[str]]:
    """The example lines of a command's help, without the leading `captionmill`."""
    result = run(*([command] if command else []), "--help")
    assert result.exit_code == 0
    lines = [line.split() for line in result.output.splitlines()]
    return [words[1:] for words in lines if words[:1] == ["captionmill"]]


def test_help_lists_every_command_and_exit_code() -> None:
    output = run("--help").output
    listed = [
        line.split()[0]
        for line in output.split("Commands:")[1].split("\n\n")[0].splitlines()
        if line
    ]
    assert listed == [
        "demo",
        "config",
        "shard",
        "train",
        "score",
        "score-captions",
        "compare",
        "document-frequencies",
        "promote",
        "models",
        "approve",
        "rollback",
        "retrain",
        "import-hf",
        "caption",
        "explain",
        "verify",
        "stale",
        "compact",
        "export",
        "gc",
        "deploy",
        "watch",
        "doctor",
    ]
    assert "..." not in output.split("Commands:")[1], "a summary is cut at 80 columns"
    for code in ("0", "1", "2", "3", "4", "5", "6", "7", "8", "130"):
        assert f"\n  {code:<4} " in output.split("Exit codes:")[1].replace("\n    ", "\n  ")


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_every_example_in_a_help_text_is_accepted_by_the_parser(command: str | None) -> None:
    found = examples(command)
    assert found
    for words in found:
        name, *arguments = words
        cli.main.commands[name].make_context(name, list(arguments))
        if "-c" in arguments:
            assert (ROOT / arguments[arguments.index("-c") + 1]).is_file()
        overrides = [b for a, b in itertools.pairwise(arguments) if a == "--set"]
        load_config(None, overrides)


def test_version() -> None:
    assert run("--version").output.startswith("captionmill, version ")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["config"], ["caption", "--help"], ["verify", "nowhere"]]
)
def test_light_commands_import_nothing_heavy(arguments: list[str], tmp_path: Path) -> None:
    script = (
        "import sys\nfrom flows.cli import main\ntry:\n    main(sys.argv[1:])\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'mlflow', 'prefect', 'webdataset', 'torchvision'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    command = [sys.executable, "-c", script, *arguments]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_config_prints_what_it_reads_back(tmp_path: Path) -> None:
    result = run("config", "--set", "train.epochs=3", "--set", "promote.name=writer")
    assert result.exit_code == 0
    path = tmp_path / "settings.yaml"
    path.write_text(result.output)
    assert load_config(path).train.epochs == 3
    assert run("config", "-c", path).output == result.output


def test_a_missing_config_is_named(tmp_path: Path) -> None:
    result = run("config", "-c", tmp_path / "none.yaml")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "none.yaml" in result.stderr


@pytest.mark.parametrize(
    "command", ["config", "shard", "train", "score", "promote", "retrain", "demo"]
)
def test_a_misspelt_key_names_the_nearest(command: str, tmp_path: Path) -> None:
    result = run(command, "--set", "train.epoch=3", "--work", tmp_path / "work")
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert result.stderr.endswith("unknown key train.epoch; did you mean train.epochs?\n")
    assert len(result.stderr.splitlines()) == 1
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["shrad"],
        ["caption"],
        ["caption", "photos"],
        ["verify"],
        ["train", "--epochs", "3"],
        ["caption", "--table", "t"],
    ],
)
def test_a_wrong_command_line_is_a_usage_error(arguments: list[str]) -> None:
    result = run(*arguments)
    assert result.exit_code == 2
    assert "Usage: " in result.stderr


def sources(tmp_path: Path, annotations: str) -> list[str]:
    source = json.dumps([{"annotations": annotations, "images": ".", "split": "train"}])
    return [
        "--set",
        f"data_root={tmp_path}",
        "--set",
        f"shard.sources={source}",
        "--work",
        str(tmp_path / "work"),
    ]


def test_a_missing_annotation_file_is_named(tmp_path: Path) -> None:
    result = run("shard", *sources(tmp_path, "captions.json"))
    assert result.exit_code == 3
    assert result.stderr.startswith("error: ")
    assert str(tmp_path / "captions.json") in result.stderr


def test_a_malformed_annotation_file_is_named_with_the_line(tmp_path: Path) -> None:
    (tmp_path / "captions.json").write_text('{"images": [\n{"id": 1,,}\n]}')
    result = run("shard", *sources(tmp_path, "captions.json"))
    assert result.exit_code == 3
    assert "captions.json" in result.stderr
    assert "line 2" in result.stderr


@pytest.mark.parametrize("command", ["train", "score", "promote"])
def test_a_stage_names_the_one_that_must_come_first(command: str, tmp_path: Path) -> None:
    result = run(command, "-c", ROOT / "configs" / "demo.yaml", "--work", tmp_path)
    assert result.exit_code == 3
    assert "run `captionmill shard`" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_no_champion_yet(tmp_path: Path) -> None:
    photos, table = tmp_path / "photos", tmp_path / "table"
    photos.mkdir()
    result = run("caption", photos, "--table", table, "--work", tmp_path / "work")
    assert result.exit_code == 4
    assert result.stderr.startswith("error: no champion yet: no model captioner@champion")
    assert "captionmill retrain" in result.stderr
    assert not table.exists()


def test_a_model_reference_that_is_none(tmp_path: Path) -> None:
    result = run(
        "caption",
        tmp_path,
        "--table",
        tmp_path / "t",
        "--model",
        "no such: thing",
        "--work",
        tmp_path,
    )
    assert result.exit_code == 4
    assert "'no such: thing'" in result.stderr


@pytest.fixture(scope="module")
def captioner(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a captioner with random weights."""
    import torch

    from pipeline.config_model import EncoderConfig, GenerationConfig, LSTMConfig
    from pipeline.images import Transform
    from pipeline.models.build import build
    from pipeline.models.saved import SavedCaptioner
    from pipeline.text import Tokenizer

    tokenizer = Tokenizer.train(["a red circle above a blue square"], 1, 100)
    decoder = LSTMConfig(width=8, embedding=8, attention=8)
    architecture = {
        "encoder": EncoderConfig(name="resnet18").model_dump(mode="json", exclude={"weights"}),
        "decoder": decoder.model_dump(mode="json"),
        "vocabulary": len(tokenizer),
        "size": 32,
    }
    torch.manual_seed(0)
    saved = SavedCaptioner(
        build(architecture, None),
        tokenizer,
        Transform(size=32, resize="squash", mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)),
        GenerationConfig(beam=1, max_len=5),
        architecture,
    )
    directory = tmp_path_factory.mktemp("captioner")
    saved.save(directory)
    return directory


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    from PIL import Image

    directory = tmp_path / "photos"
    directory.mkdir()
    for number in range(3):
        Image.new("RGB", (40, 30), (80 * number, 10, 10)).save(directory / f"{number}.jpg")
    (directory / "broken.jpg").write_bytes(b"")
    return directory


def test_caption_and_verify(captioner: Path, photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "table"
    arguments = [
        "caption",
        photos,
        "--table",
        table,
        "--model",
        captioner,
        "--work",
        tmp_path / "work",
    ]
    first = run(*arguments)
    assert first.exit_code == 0, first.stderr
    assert "pictures in   4\n" in first.stdout
    assert "captions out  3\n" in first.stdout
    assert "failed        1 zero_bytes\n" in first.stdout
    assert "profile" not in first.stdout
    again = run(*arguments, "--profile")
    assert again.exit_code == 0
    assert "nothing new" in again.stderr
    assert str(table / "_profile.svg") in again.stdout
    assert "0 pictures in" in (table / "_profile.svg").read_text()
    verified = run("verify", table)
    assert verified.exit_code == 0, verified.stderr
    assert "verified: " in verified.stdout
    next(table.glob("*.parquet")).write_bytes(b"PAR1")
    damaged = run("verify", table)
    assert damaged.exit_code == 5
    assert damaged.stderr.startswith("error: ")


def test_a_table_is_refreshed_rolled_back_compacted_and_exported(
    captioner: Path, photos: Path, tmp_path: Path, save_captioner: Callable[..., Path]
) -> None:
    table, work = tmp_path / "table", ["--work", tmp_path / "work"]
    other = save_captioner(tmp_path / "other", ["a cat"])
    assert run("caption", photos, "--table", table, "--model", captioner, *work).exit_code == 0
    before = {path.name: path.read_bytes() for path in table.glob("*.parquet")}
    fresh = run("stale", table, "--model", captioner, *work)
    assert fresh.exit_code == 0, fresh.stderr
    assert "stale       0 of 4 rows" in fresh.stdout
    old = run("stale", table, "--model", other, *work)
    assert "stale       4 of 4 rows (100%)" in old.stdout
    assert "pictures/s" in old.stdout
    assert "model: " in old.stdout
    refreshed = run(
        "caption", photos, "--table", table, "--model", other, "--refresh", "--prune", *work
    )
    assert refreshed.exit_code == 0, refreshed.stderr
    assert "captioned anew" in refreshed.stderr
    assert {path.name: path.read_bytes() for path in table.glob("*.parquet")} != before
    rolled = run("caption", "--table", table, "--rollback")
    assert rolled.exit_code == 0, rolled.stderr
    assert {path.name: path.read_bytes() for path in table.glob("*.parquet")} == before
    again = run("caption", "--table", table, "--rollback")
    assert (again.exit_code, "no refresh to roll back" in again.stderr) == (5, True)
    large = run("compact", table, "--to", tmp_path / "large")
    assert large.exit_code == 0, large.stderr
    assert run("verify", tmp_path / "large").exit_code == 0
    out = tmp_path / "t.csv"
    assert run("export", table, "--to", "csv", "--out", out).stdout.startswith("4 rows in ")
    assert len(out.read_text().splitlines()) == 5
    lines = run("export", table, "--to", "jsonl", "--columns", "member,status").stdout.splitlines()
    assert json.loads(lines[0]).keys() == {"member", "status"}
    assert run("export", table, "--to", "csv", "--columns", "what").exit_code == 2


def test_caption_needs_archives_or_a_rollback_alone(photos: Path, tmp_path: Path) -> None:
    table = tmp_path / "table"
    nothing = run("caption", "--table", table)
    assert (nothing.exit_code, "give the ARCHIVEs to caption" in nothing.stderr) == (2, True)
    for more in ([photos], ["--refresh"], ["--prune"], ["--model", "x"], ["--engine", "ray"]):
        both = run("caption", *more, "--table", table, "--rollback")
        assert (both.exit_code, "takes --table alone" in both.stderr) == (2, True)
    assert not table.exists()


def test_the_ray_engine_says_how_to_install_ray(
    captioner: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        "importlib.util.find_spec", lambda name, *a: None if name == "ray" else find(name, *a)
    )
    table = tmp_path / "table"
    found = run("caption", photos, "--table", table, "--model", captioner, "--engine", "ray")
    assert (found.exit_code, found.stdout) == (2, "")
    assert "pip install 'captionmill[ray]', or set caption.engine = local" in found.stderr
    assert not table.exists()


def test_explain_draws_and_prints_numbers(captioner: Path, photos: Path, tmp_path: Path) -> None:
    from PIL import Image

    out, numbers = tmp_path / "why.png", tmp_path / "why.json"
    common = ["--model", captioner, "--work", tmp_path / "work"]
    drawn = run("explain", photos / "1.jpg", "--out", out, "--json", numbers, *common)
    assert drawn.exit_code == 0, drawn.stderr
    with Image.open(out) as picture:
        assert picture.format == "PNG"
    found = json.loads(numbers.read_text())
    assert f"caption  {found['caption']}\n" in drawn.stdout
    assert len(found["words"]) == len(found["caption"].split())
    printed = run("explain", photos / "1.jpg", "--json", "-", "--beam", "2", *common)
    assert json.loads(printed.stdout)["model"] == str(captioner)


def test_explain_names_what_cannot_work(captioner: Path, photos: Path, tmp_path: Path) -> None:
    def refused(code: int, *arguments: object) -> str:
        result = run("explain", *arguments, "--model", captioner, "--work", tmp_path / "work")
        assert result.exit_code == code, result.stderr
        assert not list(tmp_path.glob("*.png"))
        return result.stderr

    photo, out = photos / "1.jpg", tmp_path / "why.png"
    assert "absent.jpg: No such file" in refused(2, tmp_path / "absent.jpg", "--out", out)
    assert "zero_bytes" in refused(3, photos / "broken.jpg", "--out", out)
    assert "create it first" in refused(2, photo, "--out", tmp_path / "nowhere" / "why.png")
    assert "is a directory" in refused(2, photo, "--json", photos)
    assert "why.png" in refused(2, photo, "--out", tmp_path / "why.jpg")
    assert "without --out" in refused(2, photo)


def test_a_table_directory_that_holds_something_else_is_left_alone(
    captioner: Path, photos: Path, tmp_path: Path
) -> None:
    table = tmp_path / "letters"
    table.mkdir()
    (table / "to_mother.txt").write_text("Dear")
    result = run(
        "caption", photos, "--table", table, "--model", captioner, "--work", tmp_path / "work"
    )
    assert result.exit_code == 5
    assert "letters" in result.stderr
    assert [path.name for path in table.iterdir()] == ["to_mother.txt"]
    assert run("verify", table).exit_code == 5


@pytest.mark.parametrize("kind", ["folder", "zip", "missing"])
def test_an_archive_without_pictures(captioner: Path, tmp_path: Path, kind: str) -> None:
    archive = tmp_path / f"archive.{kind}"
    if kind == "folder":
        archive.mkdir()
        (archive / "notes.txt").write_text("none")
    elif kind == "zip":
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("notes.txt", "none")
    result = run(
        "caption",
        archive,
        "--table",
        tmp_path / "t",
        "--model",
        captioner,
        "--work",
        tmp_path / "w",
    )
    assert result.exit_code == 3, result.stderr
    assert archive.name in result.stderr


def test_weights_that_do_not_fit_name_the_tensors(tmp_path: Path) -> None:
    import torch

    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    from pipeline.errors import WeightsError
    from pipeline.models.build import build

    architecture = {
        "encoder": {"name": "resnet18", "train": "none", "freeze_batch_norm": True},
        "decoder": {"kind": "lstm", "width": 8, "embedding": 8, "attention": 8, "dropout": 0.5},
        "vocabulary": 9,
        "size": 32,
    }
    with pytest.raises(WeightsError, match="conv1"):
        build(architecture, tmp_path / "weights.pth")
    assert WeightsError.exit_code == 4


def test_a_keyboard_interrupt_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "load_config", interrupt)
    result = run("config")
    assert result.exit_code == 130
    assert "run the same command again" in result.stderr


def test_another_run_ends_with_6_and_a_path_that_cannot_be_with_2(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    errors = [BusyError("another run"), NotADirectoryError(20, "Not a directory", str(tmp_path))]

    def fail(*_: object) -> None:
        raise errors.pop(0)

    monkeypatch.setattr(cli, "load_config", fail)
    assert run("config").exit_code == 6
    result = run("config")
    assert (result.exit_code, result.stderr) == (2, f"error: {tmp_path}: Not a directory\n")


def test_a_bug_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "load_config", lambda *_: 1 / 0)
    result = run("config")
    assert result.exit_code == 1
    assert isinstance(result.exception, ZeroDivisionError)


def test_the_packaged_demo_settings_are_those_of_the_configs_folder(tmp_path: Path) -> None:
    assert direct.DEMO_CONFIG.read_bytes() == (ROOT / "configs" / "demo.yaml").read_bytes()
    odd = tmp_path / "a: #b 'c'"
    settings = direct.demo_settings(odd, None, ["train.epochs=1"])
    assert settings.data_root == str(odd / "demo")
    assert settings.train.epochs == 1
    assert load_config(ROOT / "configs" / "demo.yaml").data_root == "captionmill-work/demo"


def test_ctrl_c_waits_for_an_import() -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), direct.uninterrupted():
        os.kill(os.getpid(), 2)
        reached.append(True)
    assert reached


def test_every_command_is_documented_with_examples_of_itself() -> None:
    for name, command in cli.main.commands.items():
        assert isinstance(command, click.Command)
        assert any(words[0] == name for words in examples(name)), name
