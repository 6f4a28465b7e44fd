"""A lease on a registered model, for registries that several machines share.

MLflow sets aliases without asking what they were, so two promotions could both believe that they
won. What it does atomically is to make a registered model's name: whoever makes NAME.lease holds
it, and deletes it at the end. A lease that a killed process left is taken over after a while.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import uuid
from collections.abc import Iterator
from typing import Any

from pipeline.errors import BusyError

STALE_SECONDS = 120.0
"""A move takes a second; a lease this old belongs to nobody alive."""
WAIT_SECONDS = 20.0
SUFFIX = ".lease"


@contextlib.contextmanager
def lease(client: Any, name: str, wait: float = WAIT_SECONDS) -> Iterator[None]:
    """Hold `name`; waits for another holder to finish.

    Raises:
        BusyError: another process holds it still after `wait` seconds.
    """
    owner = f"{socket.gethostname()} process {os.getpid()} {uuid.uuid4().hex}"
    give_up = time.monotonic() + wait
    while not _taken(client, name, owner):
        if time.monotonic() >= give_up:
            raise BusyError(
                f"another promotion holds {name} in the registry ({_holder(client, name)}); wait for "
                f"it, or delete the registered model {name + SUFFIX} if nobody is there"
            )
        time.sleep(0.2)
    try:
        yield
    finally:
        if _holder(client, name) == owner:
            _delete(client, name)


def _taken(client: Any, name: str, owner: str) -> bool:
    from mlflow.exceptions import MlflowException

    try:
        client.create_registered_model(name + SUFFIX, description=owner)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        _remove_stale(client, name)
        return False
    return True


def _remove_stale(client: Any, name: str) -> None:
    found = registered_model(client, name + SUFFIX)
    if found is not None and time.time() - found.creation_timestamp / 1000 > STALE_SECONDS:
        _delete(client, name)


def _delete(client: Any, name: str) -> None:
    from mlflow.exceptions import MlflowException

    try:
        client.delete_registered_model(name + SUFFIX)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise  # else another that waits was quicker


def _holder(client: Any, name: str) -> str | None:
    found = registered_model(client, name + SUFFIX)
    return None if found is None else str(found.description)


def registered_model(client: Any, name: str) -> Any:
    """MLflow's registered model; None where nothing has that name."""
    from mlflow.exceptions import MlflowException

    try:
        return client.get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return None
