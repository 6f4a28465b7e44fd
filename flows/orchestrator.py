"""The Prefect server that deployments live on: reached once, with errors that say what to do."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pipeline.errors import ConfigError, ServerError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

ANSWER_SECONDS = 10.0


def quiet_prefect() -> None:
    """Before prefect is imported: errors are told once, and by us."""
    os.environ.setdefault("PREFECT_LOGGING_LEVEL", "CRITICAL")
    # Outside of flows Prefect sets up no logging, and Python prints what its threads complain of.
    logging.getLogger("prefect").setLevel(logging.CRITICAL)


@contextlib.contextmanager
def server() -> Iterator[SyncPrefectClient]:
    """A client of the server that PREFECT_API_URL, or Prefect's profile, names.

    Raises:
        ConfigError: none is configured.
        ServerError: it does not answer, wants a password, refuses, or is of another version; also
            when that happens inside the block.
    """
    import httpx
    from prefect.client.orchestration import get_client
    from prefect.exceptions import PrefectHTTPStatusError
    from prefect.settings import PREFECT_API_URL

    url = PREFECT_API_URL.value()
    if not url:
        raise ConfigError(
            "no Prefect server is configured; start one with `prefect server start` and "
            "`export PREFECT_API_URL=http://127.0.0.1:4200/api`"
        )
    _require_answer(url)
    with get_client(sync_client=True) as client:
        try:
            _require_version(url, client.api_version())
            yield client
        except (httpx.HTTPStatusError, PrefectHTTPStatusError) as error:
            raise ServerError(_refusal(url, error.response.status_code, error)) from None
        except httpx.TransportError as error:
            raise ServerError(f"the Prefect server at {url} went away: {error!r}") from None


def _require_answer(url: str) -> None:
    import httpx

    hint = "is it running, and does PREFECT_API_URL end with /api?"
    try:
        answer = httpx.get(f"{url.rstrip('/')}/health", timeout=ANSWER_SECONDS)
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise ServerError(f"no Prefect server answers at {url} ({error}); {hint}") from None
    # A password may be asked for even here; what asks for one is there.
    healthy = answer.status_code == httpx.codes.OK and answer.text.strip() == "true"
    if not healthy and answer.status_code not in (401, 403):
        raise ServerError(
            f"what answers at {url} is no Prefect server (HTTP {answer.status_code}); {hint}"
        )


def _require_version(url: str, theirs: str) -> None:
    import prefect
    from packaging.version import Version

    there, here = Version(theirs), Version(prefect.__version__)
    if there.major != here.major or (there.major, there.minor) < (here.major, here.minor):
        raise ServerError(
            f"the server at {url} is Prefect {theirs}, and here is {here}: upgrade the server first, "
            f"or install its version here (pip install 'prefect=={theirs}')"
        )


def _refusal(url: str, status: int, error: Exception) -> str:
    if status in (401, 403):
        return (
            f"the Prefect server at {url} refuses (HTTP {status}): set PREFECT_API_AUTH_STRING to the "
            "user:password that the server was started with (PREFECT_SERVER_API_AUTH_STRING)"
        )
    first = str(error).splitlines()[0][:300]
    return f"the Prefect server at {url} refuses: {first}"
