"""Deployments on a real server, a real worker that is killed, and what looks after its runs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import DeploymentUpdate
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.schedules import IntervalSchedule
from prefect.events import emit_event
from prefect.exceptions import PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL, temporary_settings
from prefect.states import Cancelling, Crashed, Pending, Running
from prefect_server import Receiver, Site, children, kill_tree, until

from flows import dead_runs
from flows.dead_runs import Policy, look_after, unserved_pools
from flows.deployments import PREFECT_YAML
from flows.notifications import PROMOTED
from flows.runs import run_file
from flows.turns import take

pytestmark = pytest.mark.slow

PATIENT = """
name: patient
deployments:
  - name: patient
    entrypoint: patient_flow.patient
    parameters: {name: nobody, work: .}
    work_pool: {name: lone}
"""
AT_ONCE = Policy(attempts=2, delay=timedelta(0), pending=timedelta(0))


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    one = Receiver()
    yield one
    one.stop()


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, receiver: Receiver) -> Iterator[Site]:
    """A server that knows the deployments of prefect.yaml and one of a patient flow."""
    directory = tmp_path_factory.mktemp("site")
    (directory / "patient.yaml").write_text(PATIENT)
    one = Site(directory)
    try:
        done = one.captionmill(
            "deploy", "--file", "patient.yaml", CAPTIONMILL_WEBHOOK_URL=receiver.url
        )
        assert done.returncode == 0, done.stderr
        yield one
    finally:
        one.stop()


@pytest.fixture
def client(site: Site) -> Iterator[SyncPrefectClient]:
    with temporary_settings({PREFECT_API_URL: site.url}), get_client(sync_client=True) as one:
        yield one


@pytest.fixture
def work(site: Site) -> Path:
    directory = site.directory / "captionmill-work"
    directory.mkdir(exist_ok=True)
    return directory


def trigger(client: SyncPrefectClient, name: str) -> FlowRun:
    deployment = client.read_deployment_by_name("patient/patient")
    return client.create_flow_run_from_deployment(
        deployment.id, parameters={"name": name}, name=f"patient-{name}"
    )


def state(client: SyncPrefectClient, run: FlowRun) -> str:
    found = client.read_flow_run(run.id).state
    assert found is not None and found.name is not None
    return found.name


def began(work: Path, name: str) -> int:
    file = work / f"{name}.began"
    return len(file.read_text().split()) if file.exists() else 0


def test_deployed_twice_is_deployed_once_and_what_was_paused_stays_paused(
    site: Site, client: SyncPrefectClient, receiver: Receiver
) -> None:
    config = Path(__file__).parents[2] / "configs" / "demo.yaml"
    words = ["deploy", "-c", str(config)]
    told = {"CAPTIONMILL_WEBHOOK_URL": receiver.url}
    first = site.captionmill(*words, **told)
    assert first.returncode == 0, first.stderr
    assert first.stderr == ""
    assert "prefect worker start --pool gpu" in first.stdout
    assert receiver.url not in first.stdout
    weekly = client.read_deployment_by_name("retrain/retrain")
    (schedule,) = weekly.schedules
    # The server would forget the parameters that it is not told again.
    client.update_deployment_schedule(
        weekly.id, schedule.id, active=False, parameters=schedule.parameters
    )

    def known() -> str:
        changing = {"updated", "created", "last_polled", "status", "id", "deployment_id"}
        dumped = [
            *(each.model_dump(mode="json") for each in client.read_deployments()),
            *(each.model_dump(mode="json") for each in client.read_work_pools()),
            *(each.model_dump(mode="json") for each in client.read_automations()),
        ]

        def without(value: Any) -> Any:
            if isinstance(value, dict):
                return {k: without(v) for k, v in sorted(value.items()) if k not in changing}
            return [without(each) for each in value] if isinstance(value, list) else value

        return json.dumps(sorted(json.dumps(without(each)) for each in dumped), indent=1)

    before = known()
    for again in (words, ["deploy"]):  # what is not named stays
        repeated = site.captionmill(*again, **told)
        assert repeated.returncode == 0, repeated.stderr
        assert "registered" not in repeated.stdout
        assert known() == before
    assert [s.active for s in client.read_deployment_by_name("retrain/retrain").schedules] == [
        False
    ]
    schema = client.read_deployment_by_name("retrain/retrain").parameter_openapi_schema
    assert schema is not None
    days = schema["properties"]["approval_days"]
    assert (days["minimum"], days["maximum"], bool(days["description"])) == (1, 365, True)
    # Else the server takes it, and the run crashes, is started again and crashes.
    with pytest.raises(PrefectHTTPStatusError, match="409"):
        client.create_flow_run_from_deployment(weekly.id, parameters={"epochs": 3})


def test_what_was_changed_on_the_server_stays_when_it_is_deployed_again(
    site: Site, client: SyncPrefectClient
) -> None:
    score = client.read_deployment_by_name("score/score")
    every = IntervalSchedule(interval=timedelta(days=9))
    client.create_deployment_schedules(score.id, [(every, False)])
    parameters = {**score.parameters, "split": "val"}
    client.update_deployment(score.id, DeploymentUpdate(parameters=parameters))
    assert site.captionmill("deploy").returncode == 0
    again = client.read_deployment_by_name("score/score")
    assert again.parameters == parameters
    assert [(s.schedule.interval, s.active) for s in again.schedules] == [(every.interval, False)]

    # A file says what it is to be.
    words = ["--file", PREFECT_YAML, "-c", parameters["config"]]
    assert site.captionmill("deploy", *words).returncode == 0
    again = client.read_deployment_by_name("score/score")
    assert "split" not in again.parameters
    assert again.schedules == []


def test_a_server_that_is_not_there_or_is_another_is_told(site: Site) -> None:
    cases = {
        "": (2, "no Prefect server is configured"),
        "http://127.0.0.1:9/api": (8, "no Prefect server answers at http://127.0.0.1:9/api"),
        site.url.removesuffix("/api"): (8, "does PREFECT_API_URL end with /api?"),
    }
    for url, (code, told) in cases.items():
        done = site.captionmill("deploy", "--file", "patient.yaml", PREFECT_API_URL=url)
        assert (done.returncode, len(done.stderr.splitlines())) == (code, 1), done.stderr
        assert told in done.stderr


def test_a_pool_without_a_worker_is_told(client: SyncPrefectClient, monkeypatch: Any) -> None:
    monkeypatch.setattr(dead_runs, "STARTING", timedelta(0))
    run = trigger(client, "unserved")
    until(lambda: unserved_pools(client), "the pool is told")
    (line,) = unserved_pools(client)
    assert line.startswith("work pool lone: 1 run due and no worker online; start one: prefect")
    client.delete_flow_run(run.id)


def test_a_killed_workers_run_is_started_again_and_a_live_one_never(
    site: Site, client: SyncPrefectClient, work: Path, receiver: Receiver
) -> None:
    watcher = site.start(
        "captionmill", "watch", "--every", "0.5", "--delay", "0", "--attempts", "1"
    )
    worker = site.start("prefect", "worker", "start", "--pool", "lone", "--name", "first")
    dies, lives = trigger(client, "dies"), trigger(client, "lives")
    until(lambda: began(work, "dies") and began(work, "lives"), "both runs began")
    (dead,) = (pid for pid in descendants(worker.pid) if holds(pid, run_file(work, dies.id)))
    until(lambda: tasks(client, dies) == ["Running"], "its task has begun")
    worker.kill()  # its children live on
    worker.wait()
    kill_tree(dead)
    second = site.start("prefect", "worker", "start", "--pool", "lone", "--name", "second")
    until(lambda: began(work, "dies") == 2, "the dead run began again")
    until(lambda: receiver.of("restart", "patient-dies"), "the restart is told")
    assert began(work, "lives") == 1
    (work / "dies.end").touch()
    (work / "lives.end").touch()
    until(lambda: state(client, dies) == "Completed", "the dead run ends")
    until(lambda: state(client, lives) == "Completed", "the live run ends")
    assert (began(work, "dies"), began(work, "lives")) == (2, 1)
    until(lambda: tasks(client, dies) == ["Crashed", "Completed"], "no task seems to run on")
    until(lambda: tasks(client, lives) == ["Completed"], "the live run's task ends")
    assert client.read_flow_run(lives.id).run_count == 1
    said = {"patient: lives begins", "patient: lives ends"}
    until(lambda: said <= set(logs(client, lives)), "what it says is in the run's logs")
    kill_tree(second.pid)
    watcher.terminate()
    watcher.wait()


def tasks(client: SyncPrefectClient, run: FlowRun) -> list[str]:
    only = FlowRunFilter(id=FlowRunFilterId(any_=[run.id]))
    found = client.read_task_runs(flow_run_filter=only)
    return [
        each.state_name or ""
        for each in sorted(found, key=lambda each: str(each.expected_start_time))
    ]


def logs(client: SyncPrefectClient, run: FlowRun) -> list[str]:
    only = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[run.id]))
    return [log.message for log in client.read_logs(only)]


def test_a_run_that_is_ended_by_sigterm_has_crashed_and_goes_on(
    site: Site, client: SyncPrefectClient, work: Path
) -> None:
    worker = site.start("prefect", "worker", "start", "--pool", "lone", "--name", "third")
    run = trigger(client, "stopped")
    until(lambda: began(work, "stopped"), "the run began")
    (process,) = (pid for pid in descendants(worker.pid) if holds(pid, run_file(work, run.id)))
    os.kill(process, signal.SIGTERM)
    until(lambda: state(client, run) == "Crashed", "the run has crashed")

    def again() -> bool:
        look_after(client, work, AT_ONCE)
        return began(work, "stopped") == 2

    until(again, "the run began again")
    (work / "stopped.end").touch()
    until(lambda: state(client, run) == "Completed", "the run ends")
    kill_tree(worker.pid)


@pytest.mark.usefixtures("client")
def test_a_promotion_is_told(receiver: Receiver) -> None:
    emit_event(
        PROMOTED,
        resource={"prefect.resource.id": "captionmill.model.captioner"},
        payload={"champion": "captioner/7", "reason": 'it is "better"', "asked_by": "ann"},
    )
    until(lambda: receiver.of("promotion", "captioner/7"), "the promotion is told")
    (notice,) = receiver.of("promotion", "captioner/7")
    assert notice["text"] == 'captioner/7 is champion: it is "better"'


def descendants(pid: int) -> list[int]:
    return [pid, *(each for child in children(pid) for each in descendants(child))]


def holds(pid: int, file: Path) -> bool:
    return any(
        link.readlink() == file for link in Path(f"/proc/{pid}/fd").iterdir() if link.is_symlink()
    )


def in_state(client: SyncPrefectClient, name: str, made: Any) -> FlowRun:
    run = trigger(client, name)
    client.set_flow_run_state(run.id, made, force=True)
    return run


@pytest.fixture
def _no_patience(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_runs, "STARTING", timedelta(0))


@pytest.fixture
def _paused(client: SyncPrefectClient) -> Iterator[None]:
    """No worker takes anything up meanwhile."""
    from prefect.client.schemas.actions import WorkPoolUpdate

    client.update_work_pool("lone", WorkPoolUpdate(is_paused=True))
    yield
    client.update_work_pool("lone", WorkPoolUpdate(is_paused=False))


@pytest.mark.usefixtures("_no_patience", "_paused")
def test_a_run_is_started_again_so_often_and_then_has_failed(
    client: SyncPrefectClient, work: Path, receiver: Receiver
) -> None:
    run = in_state(client, "often", Running())
    file = run_file(work, run.id)
    with take(file, "its process", "this test"):
        assert look_after(client, work, AT_ONCE) == []
        assert state(client, run) == "Running"
    for number in (1, 2):
        (line,) = look_after(client, work, AT_ONCE)
        assert f"restart {number} of 2" in line
        assert state(client, run) == "Restarting"
        client.set_flow_run_state(run.id, Running(), force=True)
    (line,) = look_after(client, work, AT_ONCE)
    assert "given up after 2 restarts" in line
    assert state(client, run) == "Failed"
    until(lambda: receiver.of("failure", "patient-often"), "the failure is told")
    (notice,) = receiver.of("failure", "patient-often")
    assert notice["path"] == "/hook/secret-path"
    assert notice["text"].startswith("captionmill: patient-often is failed: Given up: its process")
    assert look_after(client, work, AT_ONCE) == []


@pytest.mark.usefixtures("_no_patience", "_paused")
@pytest.mark.parametrize(
    ("made", "becomes"),
    [
        (Crashed(message="killed"), "Restarting"),
        (Pending(), "Restarting"),
        (Cancelling(), "Cancelled"),
    ],
)
def test_what_became_of_a_run_whose_process_is_gone(
    client: SyncPrefectClient, work: Path, made: Any, becomes: str
) -> None:
    run = in_state(client, f"was-{made.name}", Running())
    client.set_flow_run_state(run.id, made, force=True)
    (line,) = look_after(client, work, AT_ONCE)
    assert run.name in line
    assert state(client, run) == becomes
    client.delete_flow_run(run.id)


@pytest.mark.usefixtures("_no_patience", "_paused")
def test_a_run_that_this_disk_knows_nothing_of_is_told_and_left_alone(
    client: SyncPrefectClient, work: Path, tmp_path: Path
) -> None:
    run = in_state(client, "elsewhere", Running())
    assert not run_file(work, run.id).exists()
    (line,) = look_after(client, work, AT_ONCE)
    assert "another disk" in line
    (line,) = look_after(client, tmp_path, AT_ONCE)
    assert f"works in {work}, not here" in line
    assert state(client, run) == "Running"
    client.delete_flow_run(run.id)


def test_restarts_wait_longer_and_longer() -> None:
    policy = Policy(attempts=9, delay=timedelta(seconds=10))
    waits = [policy.after(n).total_seconds() for n in range(9)]
    assert waits[:4] == [10, 20, 40, 80]
    assert waits[-1] == 900
