"""The lease of a registry that several machines share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import BusyError
from pipeline.tracking import Tracker, lease


@pytest.fixture
def shared(work: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Tracker, Tracker]:
    """Two work directories with one registry."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{work / 'mlflow.db'}")
    return Tracker(work.parent / "one"), Tracker(work.parent / "other")


def test_one_holds_it_and_the_other_is_told(
    shared: tuple[Tracker, Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = shared
    with one.exclusively("captioner"):
        with (
            pytest.raises(BusyError, match=r"another promotion holds captioner .*captioner\.lease"),
            lease.lease(other.client, "captioner", wait=0.3),
        ):
            pass
        assert one.names() == []  # it is not shown as a model
        monkeypatch.setattr(lease, "STALE_SECONDS", 0.0)
        with lease.lease(other.client, "captioner", wait=5):
            pass  # of a process that was killed
        monkeypatch.setattr(lease, "STALE_SECONDS", 120.0)
    with other.exclusively("captioner"):
        pass
    assert one.client.search_registered_models() == []


def test_two_that_wait_may_both_remove_a_stale_lease(
    shared: tuple[Tracker, Tracker], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The quicker one has removed it between the other's look and its removal."""
    one, _ = shared
    one.client.create_registered_model(f"captioner{lease.SUFFIX}", description="nobody")
    monkeypatch.setattr(lease, "STALE_SECONDS", -1.0)
    original = one.client.delete_registered_model

    def twice(name: str) -> None:
        original(name)
        original(name)

    monkeypatch.setattr(one.client, "delete_registered_model", twice)
    with lease.lease(one.client, "captioner", wait=5):
        monkeypatch.undo()


def test_a_work_directorys_own_registry_needs_none(work: Path) -> None:
    with Tracker(work).exclusively("captioner"):
        assert Tracker(work).client.search_registered_models() == []
