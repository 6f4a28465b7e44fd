"""Questions to a server: one request, an answer within seconds, its clock beside ours."""

from __future__ import annotations

import base64
import http.client
import json
import os
import ssl
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple

from pipeline.doctor.finding import Finding, ok, warning, wrong

SECONDS = 15.0
"""For an answer; a busy server may take some."""
MOST_BYTES = 8 << 20
SKEW, LARGE_SKEW = 5.0, 300.0
"""Seconds; S3 refuses requests whose clock is 15 minutes off."""


class Answer(NamedTuple):
    """What a server said."""

    status: int
    text: str
    skew: float | None
    """Seconds by which its clock is ahead of this machine's; none if it did not say."""

    def json(self) -> Any:
        """The text as JSON; none where it is none."""
        try:
            return json.loads(self.text)
        except ValueError:
            return None


def ask(
    url: str,
    path: str,
    *,
    method: str = "GET",
    content: bytes | None = None,
    kind: str = "application/json",
    login: str | None = None,
) -> Answer:
    """The answer of `url` + `path`; `login` is NAME:PASSWORD, or `Bearer TOKEN`.

    Raises:
        OSError: nobody answers, or breaks off.
    """
    parts = split(url)
    if parts.username is not None:
        unquoted = urllib.parse.unquote
        login = login or f"{unquoted(parts.username)}:{unquoted(parts.password or '')}"
        parts = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    headers = {"Content-Type": kind, "Accept": "*/*"}
    if login is not None and login.startswith("Bearer "):
        headers["Authorization"] = login
    elif login is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"
    if parts.scheme not in ("http", "https"):
        raise OSError(f"{parts.scheme}:// is not asked")
    request = urllib.request.Request(  # noqa: S310  http and https alone
        urllib.parse.urlunsplit(parts).rstrip("/") + path, content, headers, method=method
    )
    asked = time.time()
    try:
        with urllib.request.urlopen(request, timeout=SECONDS, context=_trust()) as got:  # noqa: S310
            return _answer(got.status, got.read(MOST_BYTES), got.headers.get("Date"), asked)
    except urllib.error.HTTPError as error:
        with error:
            return _answer(error.code, error.read(MOST_BYTES), error.headers.get("Date"), asked)
    except (http.client.HTTPException, ValueError) as error:
        raise OSError(f"no answer in HTTP ({type(error).__name__})") from None


def split(url: str) -> urllib.parse.SplitResult:
    """The parts of an address.

    Raises:
        OSError: it is none.
    """
    try:
        return urllib.parse.urlsplit(url)
    except ValueError:
        raise OSError("this is no address") from None


def _trust() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=os.environ.get("REQUESTS_CA_BUNDLE") or None)


def _answer(status: int, data: bytes, date: str | None, asked: float) -> Answer:
    skew = None
    if date is not None:
        # The header has whole seconds, cut off; half of the way there and back is not its clock's.
        theirs = parsedate_to_datetime(date).timestamp() + 0.5
        skew = theirs - (asked + time.time()) / 2
    return Answer(status, data.decode("utf-8", errors="replace"), skew)


def reason(error: OSError) -> str:
    """Why nobody answers, in a few words."""
    inner = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(inner, TimeoutError):
        return f"no answer in {SECONDS:.0f} s"
    if isinstance(inner, ConnectionRefusedError):
        return "connection refused: nothing listens there"
    return getattr(inner, "strerror", None) or str(inner)


def clock(subject: str, skew: float | None) -> Iterator[Finding]:
    """What a server's clock says about this machine's."""
    if skew is None:
        return
    ahead = "ahead of" if skew > 0 else "behind"
    text = f"its clock is {abs(skew):,.0f} s {ahead} this machine's"
    mend = "synchronise both machines' clocks (chrony, systemd-timesyncd)"
    if abs(skew) > LARGE_SKEW:
        yield wrong(subject, text, mend)
    elif abs(skew) > SKEW:
        yield warning(subject, text, mend)
    else:
        yield ok(subject, "its clock agrees with this machine's")
