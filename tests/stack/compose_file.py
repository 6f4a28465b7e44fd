"""docker/compose.yaml as data: the services' commands, environments and what they wait for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker" / "compose.yaml"
VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::-(?P<default>[^}]*))?\}")


@dataclass(frozen=True)
class Service:
    """What of a service a process needs."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    needs: dict[str, str]
    """Service to the condition that is waited for."""


def document() -> dict[str, Any]:
    """The whole file, anchors resolved, variables as they are written."""
    loaded: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return loaded


def services(variables: dict[str, str] | None = None) -> dict[str, Service]:
    """All services by name, with `variables` (and the defaults) in their places."""
    found = document()["services"]
    return {name: _service(name, one, variables or {}) for name, one in found.items()}


def _service(name: str, found: dict[str, Any], variables: dict[str, str]) -> Service:
    return Service(
        name=name,
        command=tuple(interpolated(str(word), variables) for word in found.get("command", ())),
        environment={
            key: interpolated(str(value), variables)
            for key, value in found.get("environment", {}).items()
        },
        needs={other: need["condition"] for other, need in found.get("depends_on", {}).items()},
    )


def interpolated(text: str, variables: dict[str, str]) -> str:
    """`text` with ${NAME} and ${NAME:-default} replaced, as docker compose does."""
    return VARIABLE.sub(lambda m: variables.get(m["name"], "") or (m["default"] or ""), text)
