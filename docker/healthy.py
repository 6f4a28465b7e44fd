"""Health check of a container: whether $HEALTH_URL answers 200; without one, whether the program starts."""

from __future__ import annotations

import os
import subprocess
import sys
import urllib.request


def main() -> int:
    """0 if healthy, as Docker wants it."""
    url = os.environ.get("HEALTH_URL")
    if url is None:
        return subprocess.run(["captionmill", "--version"], check=False).returncode
    if not url.startswith("http://"):
        print(f"HEALTH_URL is {url!r}, not an http:// address", file=sys.stderr)
        return 1
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310 (checked above)
            return 0 if answer.status == 200 else 1
    except OSError as error:  # refused, timed out, or an answer like 503
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
