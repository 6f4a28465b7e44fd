"""`prefect.yaml` read strictly, and its deployments registered with a server.

Registered twice is registered once: pools and deployments are found by name, and what a person
paused stays paused. Code is not cloned: a worker imports the installed package.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field, ValidationError

from pipeline.config import load_config
from pipeline.config_file import Strict, explain, read_yaml
from pipeline.errors import ConfigError

if TYPE_CHECKING:
    from prefect import Flow
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.responses import DeploymentResponse

PREFECT_YAML = Path(__file__).with_name("prefect.yaml")
TAG = "captionmill"
"""Of every deployment and its runs; notifications and `captionmill watch` go by it."""


class Pool(Strict):
    """The work pool that runs a deployment."""

    name: str = Field(min_length=1)


class Schedule(Strict):
    """When a deployment runs by itself."""

    slug: str = Field(min_length=1, description="Its name; a schedule is known by it.")
    cron: str
    timezone: str = "UTC"
    parameters: dict[str, Any] = Field(default_factory=dict)
    active: bool = True


class Deployment(Strict):
    """A flow with parameters, a pool and schedules."""

    name: str = Field(min_length=1)
    description: str = ""
    entrypoint: str = Field(pattern=r"^[A-Za-z_][\w.]*\.\w+$", description="module.flow")
    parameters: dict[str, Any] = Field(default_factory=dict)
    tags: list[str] = Field(default_factory=list)
    work_pool: Pool
    schedules: list[Schedule] = Field(default_factory=list)

    def flow(self) -> Flow[..., Any]:
        """The flow that `entrypoint` names.

        Raises:
            ConfigError: it names none.
        """
        from prefect import Flow

        module, _, name = self.entrypoint.rpartition(".")
        try:
            found = getattr(importlib.import_module(module), name)
        except (ModuleNotFoundError, AttributeError):
            found = None
        if not isinstance(found, Flow):
            raise ConfigError(f"deployment {self.name}: {self.entrypoint} is not a flow")
        return found

    def form(self) -> dict[str, Any]:
        """The JSON schema of the flow's parameters; a run with another is refused when it is asked for.

        Prefect itself takes unknown ones, and the run then crashes, again and again.
        """
        return {**self.flow().parameters.model_dump_for_openapi(), "additionalProperties": False}

    def check(self, directory: Path) -> None:
        """Nothing, if a run with these parameters would start.

        Raises:
            ConfigError: it would not; names the parameter or the setting.
        """
        from prefect.exceptions import ParameterTypeError, SignatureMismatchError

        flow = self.flow()
        unknown = sorted(set(self.parameters) - set(flow.parameters.properties))
        if unknown:
            known = ", ".join(flow.parameters.properties)
            raise ConfigError(
                f"deployment {self.name}: no parameter {unknown[0]}; known are {known}"
            )
        try:
            flow.validate_parameters(self.parameters)
        except (ParameterTypeError, SignatureMismatchError, TypeError) as error:
            text = " ".join(str(error).split())
            raise ConfigError(f"deployment {self.name}: {text}") from None
        config = self.parameters.get("config")
        path = None if config is None else directory / Path(config).expanduser()
        load_config(path, self.parameters.get("overrides"))


class Deployments(Strict):
    """The whole of prefect.yaml."""

    name: str
    prefect_version: str = Field("", alias="prefect-version")
    deployments: list[Deployment] = Field(min_length=1)


def read_deployments(file: Path, changes: dict[str, Any]) -> list[Deployment]:
    """The deployments of `file`; of `changes`, each takes the parameters that it has.

    Raises:
        ConfigError: the file cannot be read, or a key or value in it is not allowed.
    """
    try:
        found = Deployments.model_validate(read_yaml(file)).deployments
    except ValidationError as error:
        raise ConfigError(explain(error, Deployments, str(file))) from None
    return [
        each.model_copy(
            update={
                "parameters": {
                    **each.parameters,
                    **{key: value for key, value in changes.items() if key in each.parameters},
                },
                "tags": sorted({*each.tags, TAG}),
            }
        )
        for each in found
    ]


def as_registered(client: SyncPrefectClient, deployment: Deployment, given: set[str]) -> Deployment:
    """With the parameters that it was registered with before, where none are `given`.

    So the same command without options, after an upgrade say, does not bring the demo's back.
    """
    former = find(client, deployment)
    if former is None:
        return deployment
    known = set(deployment.flow().parameters.properties) - given
    kept = {key: value for key, value in former.parameters.items() if key in known}
    return deployment.model_copy(update={"parameters": {**deployment.parameters, **kept}})


def find(client: SyncPrefectClient, deployment: Deployment) -> DeploymentResponse | None:
    """What the server knows by that name."""
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_deployment_by_name(f"{deployment.flow().name}/{deployment.name}")
    except ObjectNotFound:
        return None


def register_pool(client: SyncPrefectClient, name: str) -> bool:
    """Make a work pool of processes; False where it is there already.

    Raises:
        ConfigError: one of another type has that name.
    """
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound
    from prefect.workers.process import ProcessWorker

    try:
        pool = client.read_work_pool(name)
    except ObjectNotFound:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=name, type=ProcessWorker.type, base_job_template=template)
        )
        return True
    if pool.type != ProcessWorker.type:
        raise ConfigError(
            f"the work pool {name} is of type {pool.type}, not {ProcessWorker.type}; delete it, or "
            "name another in a copy of prefect.yaml (--file)"
        )
    return False


def register(
    client: SyncPrefectClient, deployment: Deployment, directory: Path, *, keep: bool
) -> bool:
    """Register one deployment, run in `directory`; False where it was there, and is updated.

    Paused deployments and schedules stay paused. With `keep` all schedules stay that the server
    knows, as they were changed there.
    """
    flow, former = deployment.flow(), find(client, deployment)
    step = {"prefect.deployments.steps.set_working_directory": {"directory": str(directory)}}
    client.create_deployment(
        flow_id=client.create_flow(flow),
        name=deployment.name,
        description=deployment.description,
        entrypoint=deployment.entrypoint,
        # A step of our own, since without one Prefect copies the worker's whole directory.
        pull_steps=[step],
        parameters=deployment.parameters,
        parameter_openapi_schema=deployment.form(),
        enforce_parameter_schema=True,
        tags=deployment.tags,
        work_pool_name=deployment.work_pool.name,
        schedules=_schedules(deployment, former, keep),
        paused=former.paused if former is not None else False,
    )
    return former is None


def _schedules(
    deployment: Deployment, former: DeploymentResponse | None, keep: bool
) -> list[DeploymentScheduleCreate]:
    from prefect.client.schemas.actions import DeploymentScheduleCreate

    fields = {"slug", "schedule", "parameters", "active", "max_scheduled_runs"}
    kept = [
        DeploymentScheduleCreate.model_validate(each.model_dump(include=fields))
        for each in (former.schedules if former is not None and keep else [])
    ]
    known = {each.slug for each in kept}
    return [*kept, *(_schedule(s, former) for s in deployment.schedules if s.slug not in known)]


def _schedule(schedule: Schedule, former: DeploymentResponse | None) -> DeploymentScheduleCreate:
    from prefect.client.schemas.actions import DeploymentScheduleCreate
    from prefect.client.schemas.schedules import CronSchedule

    known = {each.slug: each.active for each in former.schedules} if former is not None else {}
    return DeploymentScheduleCreate(
        slug=schedule.slug,
        schedule=CronSchedule(cron=schedule.cron, timezone=schedule.timezone),
        parameters=schedule.parameters,
        active=schedule.active and known.get(schedule.slug, True),
    )
