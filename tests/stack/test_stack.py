"""The stack of docker/compose.yaml, as processes: deployed, triggered, and looked at."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import boto3
import httpx
import pyarrow.dataset as ds
import pytest
from demo_project import Project
from running_stack import BIN, Stack

from pipeline import demo
from pipeline.caption.verify import verify

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def retrained(project: Project) -> dict[str, object]:
    """The first retraining, and the captioning that follows a promotion."""
    run = project.completed(project.retrain(on_promotion=["caption/caption"], cause="first"))
    (caption,) = project.until(lambda: project.api.runs("caption"), "a caption run")
    return {"retrain": run, "caption": project.completed(caption["id"])}


def test_a_retraining_makes_the_first_champion(project: Project, retrained: dict) -> None:
    assert project.champion() == 1
    (line,) = project.audit()
    assert line["event"] == "promoted"
    assert line["asked_by"].startswith("flow run retrain-demo-")
    assert line["why"] == "first; there is no champion yet"
    tasks = project.api.tasks(retrained["retrain"]["id"])
    for name in ("shard-dataset", "train-captioner", "score-captioner", "promote-captioner"):
        assert [task["state_type"] for task in tasks[name]] == ["COMPLETED"]


def test_the_registry_keeps_its_files_in_object_storage(
    project: Project, stack: Stack, retrained: dict
) -> None:
    registry = project.registry()
    version = registry.get_model_version_by_alias("captioner", "champion")
    assert version.source.startswith("mlflow-artifacts:/"), "through the server, not around it"
    store = boto3.client(
        "s3",
        endpoint_url=stack.storage_url,
        region_name="us-east-1",
        aws_access_key_id=stack.secrets["storage_key"],
        aws_secret_access_key=stack.secrets["storage_secret"],
    )
    keys = [o["Key"] for o in store.list_objects_v2(Bucket="mlflow")["Contents"]]
    (weights,) = (k for k in keys if k.endswith("artifacts/captioner/model.safetensors"))
    stored = store.get_object(Bucket="mlflow", Key=weights)["Body"].read()
    (training,) = project.trainings().values()
    made = (training / "model" / "model.safetensors").read_bytes()
    assert hashlib.sha256(stored).digest() == hashlib.sha256(made).digest()
    assert any(key.endswith(".whl") for key in keys), "the program that made it"
    assert any(key.endswith("evidence/decision.json") for key in keys)
    run = registry.get_run(version.run_id)
    assert run.info.status == "FINISHED"
    assert registry.get_metric_history(version.run_id, "val_cider")


def test_the_champion_captions_every_picture(project: Project, retrained: dict) -> None:
    assert retrained["caption"]["parameters"]["refresh"] is True, "as a promotion asks"
    report = verify(project.table)
    files = [path for path in (project.work / "demo" / "archive").rglob("*") if path.is_file()]
    assert report.discovered == len(files)
    rows = ds.dataset(project.table, exclude_invalid_files=True).to_table().to_pylist()
    captioned = [row for row in rows if row["status"] == "captioned"]
    assert len(captioned) == report.captioned >= demo_pictures(project)
    assert {(row["model_name"], row["model_version"]) for row in captioned} == {("captioner", "1")}
    # Fetched once by alias from the registry, into the work directory.
    assert (project.work / "models" / "captioner" / "1").is_dir()


def demo_pictures(project: Project) -> int:
    from demo_project import SMALL

    assert (project.work / "demo" / demo.MARKER).is_file()
    return SMALL.archive_images


def test_again_nothing_is_new(project: Project, retrained: dict) -> None:
    before = {
        path: path.stat().st_mtime_ns for path in (project.work / "train").rglob("*.safetensors")
    }
    project.completed(project.retrain(cause="again"))
    after = {
        path: path.stat().st_mtime_ns for path in (project.work / "train").rglob("*.safetensors")
    }
    assert after == before
    assert len(project.audit()) == 1
    parts = {path: path.stat().st_mtime_ns for path in project.table.glob("*.parquet")}
    project.completed(project.caption())
    assert {path: path.stat().st_mtime_ns for path in project.table.glob("*.parquet")} == parts


def test_deploying_again_changes_nothing(project: Project, stack: Stack, retrained: dict) -> None:
    def known() -> object:
        found = project.api.ask("POST", "deployments/filter")
        return sorted((d["name"], str(d["parameters"]), len(d["schedules"])) for d in found)

    before = known()
    stack.start("deploy")
    assert known() == before


def test_prefect_asks_for_its_password(stack: Stack, retrained: dict) -> None:
    url = f"{stack.prefect_url}/flow_runs/filter"
    assert httpx.post(url, json={}).status_code == 401
    assert httpx.post(url, json={}, auth=("captionmill", "wrong")).status_code == 401
    refused = subprocess.run(
        [str(BIN / "captionmill"), "deploy"],
        env={**stack.client(), "PREFECT_API_AUTH_STRING": "captionmill:wrong"},
        cwd=stack.work,
        capture_output=True,
        text=True,
        check=False,
    )
    assert refused.returncode == 8
    assert "PREFECT_API_AUTH_STRING" in refused.stderr


def test_mlflow_answers_to_its_own_names_alone(stack: Stack) -> None:
    url = f"{stack.mlflow_url}/api/2.0/mlflow/experiments/search"
    body = {"max_results": 1}
    assert httpx.post(url, json=body).status_code == 200
    assert httpx.post(url, json=body, headers={"Host": "evil.example"}).status_code == 403


def test_no_secret_is_in_a_log_or_the_work_directory(stack: Stack, retrained: dict) -> None:
    words = [value.rpartition(":")[2].encode() for value in stack.secrets.values() if value]
    files = [
        p for folder in (stack.logs, stack.work) for p in Path(folder).rglob("*") if p.is_file()
    ]
    for path in set(files) - {stack.log("storage")}:  # moto's own, of requests and their keys
        if path.suffix not in {".jpg", ".safetensors", ".tar"} and not path.is_symlink():
            data = path.read_bytes()
            assert not any(word in data for word in words), path
