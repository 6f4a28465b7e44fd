"""Requests to a store that speaks S3, made through fsspec's s3fs; errors in our own words.

Credentials, region and endpoint come from the environment, as every AWS tool takes them. A request
that fails for a passing reason is made again, up to AWS_MAX_ATTEMPTS times (8 if not set) with
growing pauses; then, as for what does not pass, a `StorageError` says what to do.
"""

from __future__ import annotations

import asyncio
import errno
import functools
import os
import random
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import IO, Any, NamedTuple, TypeVar

from pipeline.errors import ConfigError, StorageError
from pipeline.remote.failures import error_code, explain, is_missing, is_passing, is_precondition
from pipeline.remote.path import SCHEME, Stat

ATTEMPTS = 8
"""Of a request, if AWS_MAX_ATTEMPTS does not say otherwise: half a minute of pauses."""
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 16.0
"""Seconds; doubled from one attempt to the next."""
TIMEOUTS = {"connect_timeout": 5, "read_timeout": 30}
"""Seconds without an answer, after which an attempt has failed."""
CONNECTIONS = 32
"""Requests of one process that are under way at once."""
PART = 32 << 20
"""Bytes of a large object's part; S3 takes 10,000 of them."""

_T = TypeVar("_T")
_ANSWERED: set[str] = set()
"""Buckets that have answered a request: they need not be asked for again."""


@functools.lru_cache(maxsize=1)
def _store(process: int) -> Any:
    """The process's one file system; a forked child makes its own."""
    del process
    try:
        from s3fs import S3FileSystem
    except ImportError:
        raise ConfigError(
            "s3:// needs s3fs, which is not installed; pip install 'captionmill[s3]'"
        ) from None
    # One attempt: pauses and their number are decided here, and nowhere else as well.
    once = {"max_attempts": 0, "mode": "legacy"}
    config = {"retries": once, "max_pool_connections": CONNECTIONS, **TIMEOUTS}
    store = S3FileSystem(config_kwargs=config, use_listings_cache=False, skip_instance_cache=True)
    store.retries = 1
    return store


def _attempts() -> int:
    text = os.environ.get("AWS_MAX_ATTEMPTS", str(ATTEMPTS))
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ConfigError(f"AWS_MAX_ATTEMPTS = {text!r} must be a whole number from 1 on")
    return int(text)


async def _again(request: Callable[[], Awaitable[_T]], bucket: str, key: str) -> _T:
    """What `request` returns, at the attempt that succeeds.

    Raises:
        FileNotFoundError: the object is not there. (A missing bucket is a StorageError.)
        FileExistsError: the condition of a conditional request does not hold.
        StorageError: everything else, when attempts are of no more use.
    """
    attempts, url = _attempts(), f"{SCHEME}{bucket}/{key}"
    for attempt in range(1, attempts + 1):
        try:
            result = await request()
            _ANSWERED.add(bucket)
            return result
        except Exception as error:  # s3fs, botocore, aiohttp and sockets have no common one
            if is_precondition(error):
                raise FileExistsError(errno.EEXIST, "it is another", url) from None
            if is_missing(error) and await _has_bucket(bucket):
                raise FileNotFoundError(errno.ENOENT, "no such object", url) from None
            if error_code(error) == "InvalidObjectState":
                what = "the object lies in an archive class; restore it first"
                raise PermissionError(errno.EACCES, what, url) from None
            if attempt == attempts or not is_passing(error):
                raise explain(error, url, attempt) from error
        pause = min(FIRST_PAUSE * 2 ** (attempt - 1), LONGEST_PAUSE)
        await asyncio.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311  ranks spread out
    raise AssertionError("the last attempt returns or raises")


async def _has_bucket(bucket: str) -> bool:
    """False only if the store says so; without the permission to ask it is taken to be there."""
    if bucket in _ANSWERED:
        return True
    try:
        await _store(os.getpid())._call_s3("head_bucket", Bucket=bucket)
    except Exception as error:  # noqa: BLE001  as above
        return not is_missing(error)
    return True


def _run(requests: Sequence[tuple[str, str, Callable[[], Awaitable[_T]]]]) -> list[_T]:
    """The results of requests (bucket, key, what to do), side by side on fsspec's event loop."""
    store = _store(os.getpid())

    async def everything() -> list[_T]:
        free = asyncio.Semaphore(CONNECTIONS)

        async def one(bucket: str, key: str, request: Callable[[], Awaitable[_T]]) -> _T:
            async with free:
                return await _again(request, bucket, key)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(*request)) for request in requests]
        return [task.result() for task in tasks]

    from fsspec.asyn import sync

    try:
        results: list[_T] = sync(store.loop, everything)
    except ExceptionGroup as failed:
        raise failed.exceptions[0] from None
    return results


def _call(method: str, bucket: str, key: str, **parameters: Any) -> dict[str, Any]:
    store = _store(os.getpid())
    parameters = {"Bucket": bucket, **({"Key": key} if key else {}), **parameters}
    request = functools.partial(store._call_s3, method, **parameters)
    answer: dict[str, Any] = _run([(bucket, key, request)])[0]
    return answer


class Ask(NamedTuple):
    """An object, or bytes of it."""

    bucket: str
    key: str
    span: tuple[int, int] | None = None
    """[start, stop); fewer come where the object ends before."""
    etag: str | None = None
    """Of the object as it must be."""


def get_some(asks: Sequence[Ask]) -> list[bytes | None]:
    """As `get_all`, and None for what is not there."""

    async def found(ask: Ask) -> bytes | None:
        try:
            return await _again(functools.partial(_body, ask), ask.bucket, ask.key)
        except FileNotFoundError:
            return None

    return _run([(ask.bucket, ask.key, functools.partial(found, ask)) for ask in asks])


def get_all(asks: Sequence[Ask]) -> list[bytes]:
    """What is asked for, side by side.

    Raises:
        FileNotFoundError: an object is not there.
        StorageError: as `_again`; or an object is no longer the one of its `etag`.
    """
    try:
        return _run([(ask.bucket, ask.key, functools.partial(_body, ask)) for ask in asks])
    except FileExistsError as changed:
        raise StorageError(
            f"{changed.filename} was replaced while it was read; run the same command again"
        ) from None


async def _body(ask: Ask) -> bytes:
    span, parameters = ask.span, {"Bucket": ask.bucket, "Key": ask.key}
    if span is not None:
        if span[0] >= span[1]:
            return b""
        parameters["Range"] = f"bytes={span[0]}-{span[1] - 1}"
    if ask.etag is not None:
        parameters["IfMatch"] = ask.etag
    try:
        answer = await _store(os.getpid())._call_s3("get_object", **parameters)
    except OSError as error:
        if error_code(error) in ("InvalidRange", "416"):
            return b""  # the object ends before the range begins
        raise
    body = answer["Body"]
    try:
        data: bytes = await body.read()
    finally:
        body.close()
    # A store that does not know ranges answers with everything.
    return data if span is None or len(data) <= span[1] - span[0] else data[slice(*span)]


def head(bucket: str, key: str) -> Stat:
    """What is known of an object without reading it."""
    return _stat(_call("head_object", bucket, key), "ContentLength")


def _stat(answer: dict[str, Any], size: str) -> Stat:
    moment = answer["LastModified"]
    return Stat(int(answer[size]), int(moment.timestamp()) * 10**9, answer["ETag"].strip('"'))


def now(bucket: str, key: str) -> float:
    """The store's clock, in seconds since 1970: when it answered a question about an object."""
    from email.utils import parsedate_to_datetime

    headers = _call("head_object", bucket, key)["ResponseMetadata"]["HTTPHeaders"]
    return parsedate_to_datetime(headers["date"]).timestamp()


def put(bucket: str, key: str, data: bytes, **conditions: str) -> str:
    """Put an object by one request; its tag.

    `IfNoneMatch="*"` puts it only where there is none, `IfMatch=<tag>` only over that one.

    Raises:
        FileExistsError: the condition does not hold.
    """
    return str(_call("put_object", bucket, key, Body=data, **conditions)["ETag"].strip('"'))


def upload(bucket: str, key: str, file: IO[bytes]) -> None:
    """Put the rest of `file`: by one request, or by parts that become an object at the end."""
    first = file.read(PART)
    second = file.read(PART) if len(first) == PART else b""
    if not second:
        put(bucket, key, first)
        return
    started = _call("create_multipart_upload", bucket, key)["UploadId"]
    try:
        tags: list[dict[str, Any]] = []
        data = first
        while data:
            number = len(tags) + 1
            known = {"UploadId": started, "PartNumber": number}
            answer = _call("upload_part", bucket, key, Body=data, **known)
            tags.append({"PartNumber": number, "ETag": answer["ETag"]})
            data, second = second, file.read(PART)
        parts = {"Parts": tags}
        _call("complete_multipart_upload", bucket, key, UploadId=started, MultipartUpload=parts)
    except BaseException:
        _call("abort_multipart_upload", bucket, key, UploadId=started)
        raise


def delete(bucket: str, key: str) -> None:
    """Delete an object, whether it is there or not."""
    _call("delete_object", bucket, key)


class Page(NamedTuple):
    """A part of a listing."""

    rows: list[tuple[str, Stat]]
    """Up to a thousand keys, in the order of their UTF-8, and what is known of each."""
    token: str | None
    """With which the next page is asked for; None if this is the last one."""


def page(bucket: str, **parameters: str) -> Page:
    """One page of a listing; `parameters` as S3's ListObjectsV2 calls them."""
    found = _call("list_objects_v2", bucket, "", **parameters)
    rows = [(str(row["Key"]), _stat(row, "Size")) for row in found.get("Contents", [])]
    return Page(rows, found["NextContinuationToken"] if found.get("IsTruncated") else None)


def listing(bucket: str, prefix: str, *, deep: bool) -> Iterator[tuple[str, Stat]]:
    """(key, what is known) of the objects that begin with `prefix`, by key, a page at a time.

    Without `deep`, keys with a slash behind the prefix are left out.

    Raises:
        StorageError: see `_again`; or the store lists its keys in no order.
    """
    parameters = {"Prefix": prefix} if deep else {"Prefix": prefix, "Delimiter": "/"}
    last = ""
    token: str | None = ""
    while token is not None:
        rows, token = page(bucket, **parameters, **({"ContinuationToken": token} if token else {}))
        for key, stat in rows:
            if last and key.encode() <= last.encode():
                raise StorageError(
                    f"{SCHEME}{bucket} lists its keys in no order ({key!r} late); directory buckets "
                    "are not read: use a general purpose bucket"
                )
            last = key
            yield key, stat
