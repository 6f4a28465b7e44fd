"""What a failed request means: something missing, something that passes, or an error in our words.

Knows the shapes that s3fs, botocore and aiohttp give to failures, and imports none of them. What
the store itself wrote is never quoted but for its error code: it may hold keys and addresses.
"""

from __future__ import annotations

from typing import Any

from pipeline.errors import StorageError

_PASSING = frozenset(
    {
        *("EndpointConnectionError", "ConnectionClosedError", "ConnectTimeoutError"),
        *("ReadTimeoutError", "HTTPClientError", "IncompleteReadError", "ResponseStreamingError"),
        *("IncompleteRead", "ResponseParserError", "ClientPayloadError", "FSTimeoutError"),
        *("ClientConnectionError", "ConnectionError", "TimeoutError", "AioReadTimeoutError"),
    }
)
"""Exceptions' names, their bases' included: the network, or an answer that was cut."""
_PASSING_CODES = frozenset(
    {
        *("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "Throttling"),
        *("ThrottlingException", "TooManyRequests", "RequestLimitExceeded", "OperationAborted"),
        "ConditionalRequestConflict",
    }
)
_REFUSED = {
    "InvalidAccessKeyId": "does not know the access key",
    "SignatureDoesNotMatch": "says the secret key is wrong",
    "ExpiredToken": "says the credentials have expired",
    "InvalidToken": "says the session token is not valid",
    "RequestTimeTooSkewed": "says this machine's clock is wrong",
    "AuthorizationHeaderMalformed": "has this bucket in another region",
    "PermanentRedirect": "has this bucket in another region",
    "301": "has this bucket in another region",
}
_HINTS = {
    "NoCredentialsError": (
        "there are no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, "
        "or run under a role that has them (FSSPEC_S3_ANON=true reads a public bucket without any)"
    ),
    "PartialCredentialsError": (
        "the credentials are not complete; set both AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    ),
    "ProfileNotFound": "AWS_PROFILE names no profile of the AWS configuration files",
    "NoRegionError": "no region is set; set AWS_DEFAULT_REGION",
    "SSLError": "the endpoint's certificate is not trusted; AWS_CA_BUNDLE names another bundle",
}


def _chain(error: BaseException) -> list[BaseException]:
    """The error and what s3fs made it from."""
    return [error, *([error.__cause__] if error.__cause__ is not None else [])]


def _answer(error: BaseException) -> dict[str, Any]:
    for one in _chain(error):
        response = getattr(one, "response", None)
        if isinstance(response, dict):
            return response
    return {}


def error_code(error: BaseException) -> str:
    """The store's own code; empty where it did not answer."""
    return str(_answer(error).get("Error", {}).get("Code", ""))


def _status(error: BaseException) -> int:
    return int(_answer(error).get("ResponseMetadata", {}).get("HTTPStatusCode", 0))


def _names(error: BaseException) -> set[str]:
    return {base.__name__ for one in _chain(error) for base in type(one).__mro__}


def is_missing(error: BaseException) -> bool:
    """Whether the store says that there is no such object or bucket."""
    return error_code(error) in ("NoSuchKey", "NoSuchBucket", "404", "NotFound")


def is_precondition(error: BaseException) -> bool:
    """Whether the condition of a conditional request does not hold."""
    return error_code(error) == "PreconditionFailed" or _status(error) == 412


def is_passing(error: BaseException) -> bool:
    """Whether another attempt may succeed."""
    if _answer(error):
        return error_code(error) in _PASSING_CODES or _status(error) in (429, 500, 502, 503, 504)
    if "SSLError" in _names(error):
        return False
    return bool(_names(error) & _PASSING)


def explain(error: BaseException, url: str, attempts: int) -> StorageError:
    """The error that a user sees."""
    tried = f" ({attempts} attempts; AWS_MAX_ATTEMPTS allows more)" if attempts > 1 else ""
    return StorageError(f"{url}: {_words(error, url, tried)}")


def _words(error: BaseException, url: str, tried: str) -> str:
    code, status, names = error_code(error), _status(error), _names(error)
    hints = [hint for name, hint in _HINTS.items() if name in names]
    if hints:
        return hints[0]
    if is_missing(error):
        return f"there is no bucket {'/'.join(url.split('/')[:3])}; create it, or mend the URL"
    if code in _REFUSED:
        return (
            f"the store {_REFUSED[code]}; check the AWS_* variables (AWS_DEFAULT_REGION among them)"
        )
    if status == 403 or isinstance(error, PermissionError):
        return (
            "the store refuses access; the credentials need s3:GetObject, s3:PutObject, "
            "s3:DeleteObject and s3:ListBucket here"
        )
    if code:
        return f"the store answers {code} (HTTP {status}){tried}"
    what, check = (
        "the request cannot be made",
        "the URL and the AWS_* variables, AWS_ENDPOINT_URL first",
    )
    if is_passing(error):
        what, check = (
            "the store cannot be reached or breaks off",
            "the network and AWS_ENDPOINT_URL",
        )
    return f"{what} ({type(error).__name__}){tried}; check {check}"
