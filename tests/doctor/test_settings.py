"""What the settings name is looked for."""

from __future__ import annotations

from pathlib import Path

from pipeline.doctor import settings
from pipeline.doctor.finding import Finding, Inputs


def found(tmp_path: Path, *overrides: str) -> list[Finding]:
    base = [f"data_root={tmp_path}", *overrides]
    return list(settings.check(Inputs(work=str(tmp_path), overrides=base)))


def test_files_that_are_not_there_are_named(tmp_path: Path) -> None:
    named = {
        "train.encoder.weights=weights/some.pth": "weights/some.pth",
        "train.start=old/model": "old/model",
        "train.decoder={kind: gpt, weights: gpt2}": "gpt2",
        "shard.sources=[{annotations: captions.json, images: images, split: train}]": "captions.json",
    }
    for override, name in named.items():
        _, finding = found(tmp_path, override)
        assert (finding.status, finding.text) == ("warning", f"{tmp_path / name} is not there")
        (tmp_path / name).mkdir(parents=True)
        (fine,) = found(tmp_path, override)
        assert fine.status == "ok"


def test_names_of_weights_and_patterns_are_no_files(tmp_path: Path) -> None:
    pattern = "shard.sources=[{annotations: 'captions-*.parquet', split: train}]"
    assert [f.status for f in found(tmp_path, "train.encoder.weights=DEFAULT", pattern)] == ["ok"]
