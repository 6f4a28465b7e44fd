"""Secrets: files that others may read, passwords in addresses, passwords sent in the clear."""

from __future__ import annotations

import ipaddress
import os
import re
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from pipeline.doctor.finding import Finding, Inputs, ok, warning, wrong
from pipeline.doctor.http import split

SECRET = re.compile(r"(SECRET|PASSWORD|PASSWD|PASS|TOKEN|AUTH|KEY|WEBHOOK|DATABASE|_URI|_URL)")
MOUNTED = Path("/run/secrets")
"""Container runtimes put secrets there, readable inside the container alone."""
ADDRESSES = ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI", "PREFECT_API_URL", "AWS_ENDPOINT_URL")
INSTEAD = {
    "MLFLOW_TRACKING_URI": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_REGISTRY_URI": "MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    "PREFECT_API_URL": "PREFECT_API_AUTH_STRING",
    "AWS_ENDPOINT_URL": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
}
SENT = {
    "MLFLOW_TRACKING_URI": ("MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN"),
    "PREFECT_API_URL": ("PREFECT_API_AUTH_STRING", "PREFECT_API_KEY"),
}


def check(inputs: Inputs) -> Iterator[Finding]:
    """Look at the usual places and at what the environment names."""
    del inputs
    files = sorted(set(_files()))
    found = [finding for path in files for finding in _readable(path)]
    yield from found
    if not found:
        names = ", ".join(map(str, files)) or "none found"
        yield ok("secrets", f"files that hold some are their owner's alone ({names})")
    for name in ADDRESSES:
        yield from _address(name, os.environ.get(name, ""))


def _files() -> Iterator[Path]:
    home = Path.home()
    usual = {
        "AWS_SHARED_CREDENTIALS_FILE": home / ".aws" / "credentials",
        "PREFECT_PROFILES_PATH": home / ".prefect" / "profiles.toml",
        "PGPASSFILE": home / ".pgpass",
        "NETRC": home / ".netrc",
    }
    places = [Path(os.environ.get(name) or place) for name, place in usual.items()]
    places += [home / ".mlflow" / "credentials", Path(".env"), Path("docker/.env")]
    for name, value in os.environ.items():
        if name.endswith("_FILE") and SECRET.search(name.removesuffix("_FILE")) and value:
            places.append(Path(value))
    for path in places:
        if path.is_file() and not path.is_relative_to(MOUNTED) and _holds_secrets(path):
            yield path


def _holds_secrets(path: Path) -> bool:
    """Prefect's profiles are readable by everybody until one holds a secret."""
    if path.name != "profiles.toml":
        return True
    try:
        return re.search(r"AUTH_STRING|API_KEY|://[^/\s]*@", path.read_text()) is not None
    except OSError:
        return False


def _readable(path: Path) -> Iterator[Finding]:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o007:
        yield wrong("secrets", f"{path} may be read by everybody ({mode:03o})", f"chmod 600 {path}")
    elif mode & 0o070:
        yield warning(
            "secrets", f"{path} may be read by its group ({mode:03o})", f"chmod 600 {path}"
        )


def _address(name: str, url: str) -> Iterator[Finding]:
    try:
        parts = split(url)
    except OSError as error:
        yield wrong("secrets", f"{name}: {error}", f"mend {name}")
        return
    if parts.password or (parts.username and parts.scheme.startswith("http")):
        mend = f"{INSTEAD[name]} instead: an address is shown and logged by many tools"
        yield warning("secrets", f"{name} holds a password", mend)
    sends = [variable for variable in SENT.get(name, ()) if os.environ.get(variable)]
    if parts.scheme == "http" and (sends or parts.password) and _is_public(parts.hostname or ""):
        what = sends[0] if sends else "its password"
        mend = "use https://, or a tunnel to a server on loopback"
        yield warning("secrets", f"{what} goes to {name} ({url}) in the clear", mend)


def _is_public(host: str) -> bool:
    """Whether any address of `host` is outside this machine and private networks."""
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False  # what cannot be found is another check's to tell
    return any(ipaddress.ip_address(str(each[4][0]).partition("%")[0]).is_global for each in found)
