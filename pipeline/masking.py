"""Secrets in URLs, left out of whatever is written: errors, notes, tracebacks, reports.

Knows text alone.
"""

from __future__ import annotations

import re

_USER = re.compile(r"(?P<scheme>\b[A-Za-z][A-Za-z0-9+.\-]*://)(?P<info>[^/\s?#'\"]*)@")
_PARAMETER = re.compile(
    r"(?P<name>[?&;][\w.\-]*(?:password|passwd|pwd|secret|token|signature|credential|api[_-]?key)"
    r"[\w.\-]*=)[^&;\s'\"]+",
    re.IGNORECASE,
)
MASK = "***"


def masked(text: str) -> str:
    """`text` with the passwords of its URLs spelt `***`.

    Of `scheme://user:password@host` the password goes, of `scheme://token@host` the token, and the
    value of parameters such as `?token=`, a signed URL's `X-Amz-Signature` among them. A secret with
    a bare slash or space in it, which no URL may have, is not recognised.
    """
    return _PARAMETER.sub(rf"\g<name>{MASK}", _USER.sub(_without_password, text))


def _without_password(found: re.Match[str]) -> str:
    user, colon, _ = found["info"].partition(":")
    return f"{found['scheme']}{user}:{MASK}@" if colon else f"{found['scheme']}{MASK}@"
