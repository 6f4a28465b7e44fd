"""The stack, once for all tests here: servers, deployments, workers and the watcher."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from demo_project import Project
from postgres_cluster import INSTALL, binaries
from running_stack import Stack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Everything that compose.yaml starts, on a machine without a GPU."""
    if binaries() is None:
        pytest.fail(INSTALL)
    running = Stack(tmp_path_factory.mktemp("stack"))
    # A test run that is stopped leaves no server behind.
    signal.signal(signal.SIGTERM, lambda *_: pytest.exit("stopped by SIGTERM", 143))
    try:
        running.up("worker-cpu", "worker-gpu-runs-on-cpu", "watch")
        yield running
    finally:
        running.down()


@pytest.fixture(scope="session")
def project(stack: Stack) -> Project:
    """The demo's data in the stack's work directory, and what is asked of it there."""
    return Project(stack)
