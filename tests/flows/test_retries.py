"""Which failures of a stage's task are worth another try, and for whom."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from flows import runs
from pipeline.errors import BusyError, ConfigError, TrackingAwayError


def failed(error: Exception) -> SimpleNamespace:
    """A task's state that ended with `error`."""
    return SimpleNamespace(result=lambda raise_on_failure: error)


def run(count: int) -> SimpleNamespace:
    return SimpleNamespace(run_count=count)


@pytest.mark.parametrize("error", [BusyError("held"), TrackingAwayError("MLflow is restarted")])
def test_a_deployment_waits_for_what_passes_and_a_person_is_told_at_once(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    for unattended in (True, False):
        monkeypatch.setattr(runs, "is_unattended", lambda told=unattended: told)
        assert runs.may_pass(None, run(5), failed(error)) is unattended
        assert runs.worth_retrying(None, run(5), failed(error)) is unattended


def test_a_wrong_setting_is_never_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "is_unattended", lambda: True)
    assert not runs.may_pass(None, run(1), failed(ConfigError("no such split")))
    assert not runs.worth_retrying(None, run(1), failed(ConfigError("no such split")))


def test_an_unknown_error_of_a_server_is_tried_twice_more() -> None:
    error = ConnectionError("broken pipe")
    tried = [runs.worth_retrying(None, run(count), failed(error)) for count in (1, 2, 3)]
    assert tried == [True, True, False]
    assert not runs.may_pass(None, run(1), failed(error)), "of a stage it is a bug"


def test_a_minute_without_a_server_is_bridged() -> None:
    for options in (runs.STAGE, runs.REMOTE):
        assert options["retries"] == len(options["retry_delay_seconds"])
        assert sum(options["retry_delay_seconds"]) >= 180
