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


def test_a_work_directorys_own_registry_needs_none(work: Path) -> None:
    with Tracker(work).exclusively("captioner"):
        assert Tracker(work).client.search_registered_models() == []
