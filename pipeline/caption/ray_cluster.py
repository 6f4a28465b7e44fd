"""A Ray cluster as a run sees it, through the process that drives it, and the workers there.

This process never imports Ray: see `ray_driver.py`.
"""

from __future__ import annotations

import itertools
import queue
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any

from pipeline.caption import wire
from pipeline.caption.child import Child
from pipeline.caption.loader import Loader
from pipeline.caption.ray_paths import absolute, landmark
from pipeline.caption.room import cores, model_threads
from pipeline.caption.versions import versions
from pipeline.config import CaptionConfig
from pipeline.errors import CaptionmillError, ConfigError, WorkerError
from pipeline.progress import say

WAIT = 30.0
"""Seconds without any worker after which a line says what the run waits for."""

FAREWELL = 20.0
"""Seconds that a driver, and a cluster that it started, may take to end."""


class Cluster:
    """The cluster at an address (None: one that is started on this machine, and ends with the run)."""

    def __init__(self, config: CaptionConfig, loader: Loader, address: str | None) -> None:
        """Connect, or start one.

        Raises:
            ConfigError: there is no such cluster, or no node that has room for a worker.
            WorkerError: it was lost at once.
        """
        self.ours = address is None
        self.where = "on this machine" if address is None else f"at {address}"
        # The same on every node, and what the local engine takes on this machine.
        threads = loader.arguments.get("threads") or model_threads()
        workers = 1 if config.workers == "auto" else config.workers
        self._child = Child("pipeline.caption.ray_driver", _environment(self.ours))
        self._sending = threading.Lock()
        self._numbers = itertools.count()
        self._remotes: dict[int, Remote] = {}
        self._failed: Exception | None = None
        self._told = time.monotonic()
        connect = {
            "address": address,
            "cores": max(cores(), workers * threads),
            "device": loader.arguments.get("device"),
            "cpus": threads,
            "gpus": config.ray_gpus,
        }
        self._child.send("connect", connect)
        try:
            answer = self._child.receive()
            if answer is None:
                raise self._lost()
            self.needs: Mapping[str, float] = answer.head["needs"]
            self.room: int = answer.head["room"]
            if config.workers == "auto":
                self._require_room(answer.head["nodes"])
        except BaseException:
            self.close()
            raise
        root = absolute(config.root) if config.root is not None else None
        self._config = config.model_copy(update={"root": root})
        self._loader = _for_nodes(loader, threads, on_gpu=self.needs["GPU"] > 0)
        threading.Thread(target=self._listen, daemon=True).start()

    def _require_room(self, nodes: list[dict[str, float]]) -> None:
        if not self.room:
            raise ConfigError(
                f"no node of the Ray cluster {self.where} has room for a worker, which takes"
                f" {_amounts(self.needs)}; the nodes have {'; '.join(map(_amounts, nodes))}. Set"
                " `threads` or caption.ray_gpus lower, device = cpu, or caption.workers to a number,"
                " which waits for other nodes"
            )

    def open(self, number: int) -> Remote:
        """Ask for an actor that holds the worker of a number."""
        remote = Remote(self, next(self._numbers))
        self._remotes[remote.id] = remote
        start = wire.start_to_json(self._config, self._loader, number)
        self.send("open", remote.id, wire.to_bytes("start", start))
        if self._failed is not None:
            remote.inbox.put(self._failed)
        return remote

    def send(self, kind: str, worker: int, body: bytes = b"") -> None:
        """Tell the driver something about a worker."""
        with self._sending:
            self._child.send(kind, {"worker": worker}, body)

    def forget(self, worker: int) -> None:
        """Have a worker's actor killed, wherever it is."""
        if self._remotes.pop(worker, None) is not None:
            self.send("end", worker)

    def wait(self) -> None:
        """Say what the run waits for, now and then, while no worker has a place."""
        now = time.monotonic()
        if now - self._told >= WAIT and not any(r.node for r in [*self._remotes.values()]):
            self._told = now
            say(
                "caption",
                f"waiting for a place in the Ray cluster {self.where}: a worker takes"
                f" {_amounts(self.needs)}",
            )

    def close(self) -> None:
        """End all actors, and a cluster that was started for them."""
        self._remotes.clear()
        self._child.close(FAREWELL)

    def _listen(self) -> None:
        try:
            while (frame := self._child.receive()) is not None:
                remote = self._remotes.get(frame.head["worker"])
                if remote is not None:
                    remote.inbox.put(wire.from_bytes(frame.body))
            self._failed = self._lost()
        except Exception as error:  # noqa: BLE001  raised where the run waits
            self._failed = error
        for remote in [*self._remotes.values()]:
            remote.inbox.put(self._failed)

    def _lost(self) -> WorkerError:
        how, _ = self._child.autopsy()
        return WorkerError(
            f"the Ray cluster {self.where} was lost: its driver {how[:300]}. Run the same command"
            " again to go on"
        )


class Remote:
    """A worker on some node: a connection as `connection.py` has it."""

    def __init__(self, cluster: Cluster, identity: int) -> None:
        self.cluster, self.id = cluster, identity
        self.node: str | None = None
        """Once it has a place."""
        self.inbox: queue.SimpleQueue[wire.Frame | Exception | None] = queue.SimpleQueue()
        self._death = ("was ended", False)

    def send(self, kind: str, head: dict[str, Any]) -> None:
        """Send a frame; archives by paths that mean the same on every node."""
        if kind == "caption":
            path = absolute(head["archive"])
            head = {**head, "archive": path, "landmark": landmark(path, head["task"])}
        self.cluster.send("to", self.id, wire.to_bytes(kind, head))

    def receive(self) -> wire.Frame | None:
        """The next frame; None when the worker is gone.

        Raises:
            CaptionmillError: what it met, or the cluster was lost.
            ConfigError: its node has other software, or not the archives.
            RuntimeError: it met a bug.
        """
        while True:
            try:
                frame = self.inbox.get(timeout=WAIT)
            except queue.Empty:
                self.cluster.wait()
                continue
            if isinstance(frame, Exception):
                raise frame
            if frame is None:
                return None
            if frame.kind == "at":
                self.node = frame.head["node"]
                self._compare(frame.head["versions"])
            elif frame.kind == "error":
                raise self._located(wire.error_from_json(frame.head))
            elif frame.kind == "gone":
                self._death = (frame.head["how"], frame.head["crashed"])
                self.cluster.forget(self.id)
                return None
            else:
                if frame.kind == "ready":
                    frame.head["room"] = self.cluster.room
                return frame

    def end(self) -> None:
        """Have it killed; it holds nothing that could be lost."""
        self.cluster.forget(self.id)
        self.inbox.put(None)

    def autopsy(self) -> tuple[str, bool]:
        """How it ended, in words, and whether of its own doing or for want of memory."""
        how, crashed = self._death
        return (how if self.node is None else f"{how} (on node {self.node})"), crashed

    def _compare(self, theirs: Mapping[str, str | None]) -> None:
        for name, ours in versions().items():
            # What this machine does not have, it does not caption with.
            if ours is not None and theirs.get(name) != ours:
                raise ConfigError(
                    f"node {self.node} of the Ray cluster {self.cluster.where} has {name}"
                    f" {theirs.get(name) or 'not installed'}, this machine {ours}: rows could differ."
                    " Install the same versions on every node"
                )

    def _located(self, error: Exception) -> Exception:
        if self.cluster.ours or not isinstance(error, CaptionmillError) or self.node is None:
            return error
        return type(error)(
            f"on node {self.node} of the Ray cluster {self.cluster.where}: {error}. Archives and the"
            " captioner's files must be at the same path on every node, or in object storage"
        )


def _environment(ours: bool) -> dict[str, str]:
    """Of the driver: nothing is reported to anybody, and a cluster of ours is for this user alone."""
    quiet = {"RAY_USAGE_STATS_ENABLED": "0"}
    if not ours:
        return quiet
    # Ray's name for listening on loopback alone, which it does by itself on desktop systems.
    quiet["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    # As urgent as the processes of the local engine; Ray's default is 15.
    quiet["RAY_worker_niceness"] = "0"
    # The local engine leaves memory to the kernel too; deaths for want of it are told by `child.py`.
    quiet["RAY_memory_monitor_refresh_ms"] = "0"
    return {**quiet, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}


def _for_nodes(loader: Loader, threads: int, *, on_gpu: bool) -> Loader:
    """The loader, with what it would decide by the machine it runs on decided."""
    decided: dict[str, Any] = {"threads": threads}
    if loader.arguments.get("device") == "auto":
        decided["device"] = "cuda" if on_gpu else "cpu"
    known = {name: value for name, value in decided.items() if name in loader.arguments}
    return loader.model_copy(update={"arguments": {**loader.arguments, **known}})


def _amounts(node: Mapping[str, float]) -> str:
    return (
        " and ".join(f"{amount:g} {name}" for name, amount in node.items() if amount) or "nothing"
    )
