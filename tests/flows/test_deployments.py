"""What prefect.yaml says holds without a server: flows, parameters, bounds and descriptions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from flows.deployments import PREFECT_YAML, Deployment, read_deployments
from pipeline.errors import ConfigError

ROOT = Path(__file__).parents[2]


def deployments(**changes: Any) -> dict[str, Deployment]:
    return {each.name: each for each in read_deployments(PREFECT_YAML, changes)}


def test_the_graph_stands_at_the_root_and_in_the_package() -> None:
    assert (ROOT / "prefect.yaml").read_bytes() == PREFECT_YAML.read_bytes()
    found = deployments()
    assert {name: each.work_pool.name for name, each in found.items()} == {
        "shard": "cpu",
        "retrain": "gpu",
        "caption": "gpu",
        "score": "cpu",
    }
    assert {name: [s.slug for s in each.schedules] for name, each in found.items()} == {
        "shard": [],
        "retrain": ["weekly"],
        "caption": ["nightly"],
        "score": [],
    }
    assert found["retrain"].parameters["on_promotion"] == ["caption/caption"]
    assert all(each.tags == ["captionmill"] for each in found.values())


@pytest.mark.parametrize("name", ["shard", "retrain", "caption", "score"])
def test_a_deployment_would_start_and_its_form_explains_every_field(name: str) -> None:
    deployment = deployments()[name]
    deployment.check(ROOT)
    schema = deployment.flow().parameters
    undescribed = [key for key, value in schema.properties.items() if not value.get("description")]
    assert not undescribed
    assert name == deployment.flow().name


def test_the_forms_have_bounds() -> None:
    retrain = deployments()["retrain"].flow().parameters.properties
    assert (retrain["approval_days"]["minimum"], retrain["approval_days"]["maximum"]) == (1, 365)
    assert retrain["cause"]["maxLength"] == 200
    archives = deployments()["caption"].flow().parameters.properties["archives"]
    assert (archives["type"], archives["minItems"], archives["maxItems"]) == ("array", 1, 1000)
    assert "config" not in (deployments()["caption"].flow().parameters.required or [])


@pytest.mark.parametrize(
    ("name", "parameters", "told"),
    [
        ("retrain", {"approval_days": 0}, "approval_days"),
        ("retrain", {"overrides": ["train.epochs"]}, "overrides.0"),
        ("retrain", {"on_promotion": ["caption"]}, "on_promotion.0"),
        ("retrain", {"epochs": 3}, "no parameter epochs; known are config, "),
        ("retrain", {"cause": "a\nline"}, "cause"),
        ("retrain", {"cause": "\x1b[31m"}, "cause"),
        ("caption", {"table": ""}, "table"),
        ("caption", {"archives": []}, "archives"),
        ("shard", {"config": "configs/none.yaml"}, "none.yaml"),
        ("shard", {"overrides": ["train.epoch=3"]}, "did you mean train.epochs"),
        ("score", {"split": "a b"}, "split"),
    ],
)
def test_parameters_that_could_not_run_are_refused_before_they_are_registered(
    name: str, parameters: dict[str, Any], told: str
) -> None:
    deployment = deployments()[name]
    changed = deployment.model_copy(update={"parameters": {**deployment.parameters, **parameters}})
    with pytest.raises(ConfigError, match=told):
        changed.check(ROOT)


def test_the_commands_options_reach_the_deployments_that_have_them() -> None:
    found = deployments(work="/w", archives=["photos"], config="mine.yaml")
    assert {each.parameters["work"] for each in found.values()} == {"/w"}
    assert {each.parameters["config"] for each in found.values()} == {"mine.yaml"}
    assert found["caption"].parameters["archives"] == ["photos"]
    assert "archives" not in found["retrain"].parameters


def test_a_wrong_file_is_told_by_its_key(tmp_path: Path) -> None:
    file = tmp_path / "prefect.yaml"
    file.write_text(PREFECT_YAML.read_text().replace("work_pool:", "work_pol:"))
    with pytest.raises(ConfigError, match=r"did you mean deployments\.0\.work_pool"):
        read_deployments(file, {})
    file.write_text(PREFECT_YAML.read_text().replace("flows.shard.shard", "flows.shard.absent"))
    [shard, *_] = read_deployments(file, {})
    with pytest.raises(ConfigError, match=r"flows\.shard\.absent is not a flow"):
        shard.check(ROOT)
