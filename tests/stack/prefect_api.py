"""What a person or a script asks of a Prefect server, by its API alone."""

from __future__ import annotations

import time
from typing import Any

import httpx

ENDED = {"COMPLETED", "FAILED", "CRASHED", "CANCELLED"}


class PrefectApi:
    """Deployments are triggered, and runs watched."""

    def __init__(self, url: str, auth: str) -> None:
        self.url = url
        user, _, password = auth.partition(":")
        self.client = httpx.Client(base_url=url, auth=(user, password), timeout=30)

    def ask(self, method: str, path: str, **body: Any) -> Any:
        """One request; made again while the server is away."""
        give_up = time.monotonic() + 120
        while True:
            try:
                answer = self.client.request(method, path, json=body or None)
                if answer.status_code < 500 or time.monotonic() > give_up:
                    break
            except httpx.TransportError:
                if time.monotonic() > give_up:
                    raise
            time.sleep(0.5)
        assert answer.is_success, f"{method} {path}: {answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def trigger(self, deployment: str, **parameters: Any) -> str:
        """Start FLOW/DEPLOYMENT; the run's id."""
        found = self.ask("GET", f"deployments/name/{deployment}")
        path = f"deployments/{found['id']}/create_flow_run"
        run = self.ask("POST", path, parameters=parameters)
        return str(run["id"])

    def run(self, identity: str) -> dict[str, Any]:
        """A flow run."""
        found: dict[str, Any] = self.ask("GET", f"flow_runs/{identity}")
        return found

    def runs(self, flow: str) -> list[dict[str, Any]]:
        """The flow's runs that were not scheduled for later, oldest first."""
        found: list[dict[str, Any]] = self.ask(
            "POST",
            "flow_runs/filter",
            flows={"name": {"any_": [flow]}},
            flow_runs={"state": {"type": {"not_any_": ["SCHEDULED"]}}},
            sort="EXPECTED_START_TIME_ASC",
        )
        return found

    def tasks(self, identity: str) -> dict[str, list[dict[str, Any]]]:
        """A flow run's task runs by the tasks' names."""
        found = self.ask(
            "POST", "task_runs/filter", flow_runs={"id": {"any_": [identity]}}, sort="NAME_ASC"
        )
        by_name: dict[str, list[dict[str, Any]]] = {}
        for each in found:
            by_name.setdefault(each["name"].rpartition("-")[0], []).append(each)
        return by_name

    def ended(self, identity: str, seconds: float = 600) -> dict[str, Any]:
        """The run when it has ended."""
        give_up = time.monotonic() + seconds
        while (run := self.run(identity))["state_type"] not in ENDED:
            state = f"{run['name']} is {run['state_name']}"
            assert time.monotonic() < give_up, f"{state} after {seconds} s"
            time.sleep(0.5)
        return run
