"""A tracking server that does not answer is an error of its own, which a retry may mend."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE, TEMPORARILY_UNAVAILABLE
from requests.exceptions import ConnectionError as Refused

from pipeline.errors import ConfigError, TrackingAwayError
from pipeline.tracking import Tracker
from pipeline.tracking.away import RETRIES, RemoteClient, answering


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> str:
    """An address that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    monkeypatch.setenv(RETRIES, "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://me:secret@127.0.0.1:{port}")
    return f"http://me:***@127.0.0.1:{port}"


def test_first_contact_names_the_address_and_the_way_out(nobody: str, tmp_path: Path) -> None:
    with (
        pytest.raises(TrackingAwayError, match="start it, or unset MLFLOW_TRACKING_URI") as caught,
        Tracker(tmp_path).run("train", "x", "f"),
    ):
        pass
    assert f"MLflow at {nobody} cannot be used: Connection refused; start it" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert issubclass(TrackingAwayError, ConfigError)


class Client:
    """Answers, or raises what it was given."""

    def __init__(self, error: Exception | None = None) -> None:
        self.error = error

    def set_tag(self, key: str, value: str = "") -> str:
        if self.error is not None:
            raise self.error
        return key + value


@pytest.mark.parametrize(
    "error",
    [
        Refused("Connection refused"),
        MlflowException("API request to http://me:secret@here failed"),
        MlflowException("try later", error_code=TEMPORARILY_UNAVAILABLE),
    ],
)
def test_a_request_that_was_given_up_says_to_go_on_later(error: Exception) -> None:
    client = RemoteClient(Client(error), "http://here")
    with pytest.raises(
        TrackingAwayError, match=r"MLflow at http://here does not answer: .*run the"
    ) as it:
        client.set_tag("a")
    assert "secret" not in str(it.value)
    with answering() as answer:
        client.set_tag("a")
    assert not answer.given


def test_what_is_refused_for_good_stays_what_it_is() -> None:
    client = RemoteClient(
        Client(MlflowException("no", error_code=INVALID_PARAMETER_VALUE)), "http://here"
    )
    with pytest.raises(MlflowException, match="no"):
        client.set_tag("a")
    with pytest.raises(MlflowException), answering():
        client.set_tag("a")
    assert RemoteClient(Client(), "http://here").set_tag("a", value="b") == "ab"
