"""Ray's driver: `python -m pipeline.caption.ray_driver`, a process between a run and a cluster.

A process of its own, since Ray prints, takes over signals, and ends the process that lost its cluster.
It knows no table and no archive: it starts actors (`ray_actor.py`), and passes on what run and workers
say. It ends when its input does, and with it its actors, and a cluster that it started.

The run says `connect`, then `open`, `to` and `end` of a worker; it is told `cluster`, then `from`.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import tempfile
import threading
import time
from typing import IO, Any

import ray
from ray.exceptions import OutOfMemoryError, RayActorError, RayError

from pipeline.caption import wire
from pipeline.caption.ray_actor import CaptionWorker
from pipeline.caption.ray_session import clear
from pipeline.errors import ConfigError, WorkerError

OBJECT_STORE = 128 << 20
"""Bytes of shared memory, in a cluster of our own, for what is on its way: the rows of a few units."""

PATIENCE = 10.0
"""Seconds for what takes a moment where all is well."""

ANSWER = 60.0
"""Seconds that an existing cluster may take to let a driver in."""

SHORT = 30
"""Longest path that Ray's sockets may lie below: an address of theirs has 107 characters."""


class Driver:
    """One run's actors."""

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._sending = threading.Lock()
        self._said: queue.SimpleQueue[wire.Frame | None] = queue.SimpleQueue()
        """By the run; None: nothing more."""
        self._joined = threading.Event()
        """A cluster."""
        self._actors: dict[int, Any] = {}
        self._needs: dict[str, float] = {}

    def work(self) -> None:
        """Until the run closes its end.

        Raises:
            ConfigError: there is no such cluster.
            WorkerError: none can be started.
        """
        parent = tempfile.gettempdir()
        directory = tempfile.mkdtemp(
            prefix="cm-ray-",
            dir=parent if len(parent) <= SHORT else "/tmp",  # noqa: S108
        )
        # Ray has its workers look for modules where the driver is.
        os.chdir(directory)
        threading.Thread(target=self._listen, args=(directory,), daemon=True).start()
        try:
            frame = self._said.get()
            if frame is not None:
                self._connect(frame.head, directory)
            while frame is not None and (frame := self._said.get()) is not None:
                self._heed(frame)
        finally:
            ray.shutdown()
            clear(directory)

    def fail(self, error: BaseException) -> None:
        """Say that it ends, and why."""
        self._send("error", wire.error_to_json(error))

    def _listen(self, directory: str) -> None:
        while (frame := wire.receive(self._incoming)) is not None:
            self._said.put(frame)
        self._said.put(None)
        # Ray waits for minutes, in places that cannot be interrupted.
        if self._joined.is_set():
            time.sleep(PATIENCE)
        clear(directory)
        os._exit(1)

    def _expect_answer(self, address: str, directory: str) -> None:
        """End it if it is not let in: Ray asks for ever where something else listens."""
        if not self._joined.wait(ANSWER):
            self.fail(unusable(address, f"nothing that is a Ray cluster answered in {ANSWER:g} s"))
            clear(directory)
            os._exit(1)

    def _connect(self, head: dict[str, Any], directory: str) -> None:
        quiet = {"log_to_driver": False, "logging_level": "ERROR"}
        address = head["address"]
        try:
            if address is None:
                ray.init(
                    address="local",
                    num_cpus=head["cores"],
                    include_dashboard=False,
                    object_store_memory=OBJECT_STORE,
                    _node_ip_address="127.0.0.1",
                    _temp_dir=directory,
                    **quiet,
                )
            else:
                require_answer(address)
                expected = (address, directory)
                threading.Thread(target=self._expect_answer, args=expected, daemon=True).start()
                ray.init(address=address, **quiet)
            self._joined.set()
        except Exception as error:  # noqa: BLE001  Ray raises all kinds, that one too
            why = getattr(error, "strerror", None) or str(error).strip().rstrip(".")
            if address is None:
                raise WorkerError(
                    f"Ray cannot start a cluster on this machine: {why}. Run the same command again,"
                    " or set caption.engine = local"
                ) from None
            raise unusable(address, why) from None
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        self._needs = needs(nodes, head["device"], head["cpus"], head["gpus"])
        told = {"room": room(nodes, self._needs), "needs": self._needs}
        self._send("cluster", told | {"nodes": [_counted(node) for node in nodes]})

    def _heed(self, frame: wire.Frame) -> None:
        worker = frame.head["worker"]
        if frame.kind == "open":
            self._open(worker, frame.body)
            return
        actor = self._actors.get(worker)
        if actor is None:
            return  # the run said it before it heard that the worker is gone
        if frame.kind == "to":
            actor.send.options(concurrency_group="send").remote(frame.body)
        else:
            del self._actors[worker]
            ray.kill(actor)

    def _open(self, worker: int, start: bytes) -> None:
        remote = ray.remote(
            num_cpus=self._needs["CPU"],
            num_gpus=self._needs["GPU"],
            # Another is started by the run, which counts the deaths.
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy="SPREAD",
            concurrency_groups={"frames": 1, "send": 1},
        )(CaptionWorker)
        actor = remote.remote(start, int(self._needs["CPU"]))
        self._actors[worker] = actor
        threading.Thread(target=self._follow, args=(worker, actor), daemon=True).start()

    def _follow(self, worker: int, actor: Any) -> None:
        frames = actor.frames.options(num_returns="streaming", concurrency_group="frames")
        try:
            for reference in frames.remote():
                self._send("from", {"worker": worker}, ray.get(reference))
        except RayError as error:
            self._send("from", {"worker": worker}, last_frame(error))

    def _send(self, kind: str, head: dict[str, Any], body: bytes = b"") -> None:
        with self._sending:
            wire.send(self._outgoing, kind, head, body)


def unusable(address: str, why: str) -> ConfigError:
    """That there is no cluster at an address, and what to do about it."""
    return ConfigError(
        f"no Ray cluster can be used at {address!r} (caption.ray_address): {why}. Give the"
        " host:port that `ray start --head` printed, on a machine that is part of the"
        " cluster, or leave it out, to start one here"
    )


def require_answer(address: str) -> None:
    """Make sure that something listens at an address: Ray would look for it for minutes.

    Raises:
        OSError: nothing does, or there is no such host.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()


def needs(
    nodes: list[dict[str, float]], device: str | None, cpus: int, gpus: float
) -> dict[str, float]:
    """What one worker takes of a node.

    Args:
        nodes: what each has in all, as Ray names it.
        device: of the model: auto, cpu, cuda, mps; None: it does not matter.
        cpus: that a model takes that calculates on them.
        gpus: that one takes that calculates on GPUs; less than 1, where several share one.
    """
    with_gpu = [node for node in nodes if node.get("GPU", 0) > 0]
    if device != "cuda" and not (device == "auto" and with_gpu):
        return {"CPU": cpus, "GPU": 0}
    shares = [node.get("CPU", 0) * gpus // node["GPU"] for node in with_gpu]
    return {"CPU": max(1, min(shares, default=1)), "GPU": gpus}


def room(nodes: list[dict[str, float]], needed: dict[str, float]) -> int:
    """Workers that have a place on all nodes, if nobody else has."""
    return sum(
        min(int(node.get(name, 0) / amount) for name, amount in needed.items() if amount)
        for node in nodes
    )


def _counted(node: dict[str, float]) -> dict[str, float]:
    return {name: node.get(name, 0) for name in ("CPU", "GPU")}


def last_frame(error: RayError) -> bytes:
    """What became of an actor, as the last frame of its worker."""
    text = str(error)
    if isinstance(error, OutOfMemoryError):
        # Whoever's memory it was: Ray looks at that of the whole node.
        how = "was killed by Ray, since its node ran out of memory"
        return wire.to_bytes("gone", {"how": how, "crashed": False})
    if isinstance(error, RayActorError) and not error.actor_init_failed:
        return wire.to_bytes("gone", {"how": "was lost, or its node was", "crashed": False})
    if "ModuleNotFoundError" in text or "ImportError" in text:
        last = text.strip().splitlines()[-1]
        told = ConfigError(
            f"a node of the Ray cluster cannot import captionmill ({last}): install the same"
            " version of captionmill[ray] in the Python environment of every node"
        )
        return wire.to_bytes("error", wire.error_to_json(told))
    return wire.to_bytes("error", wire.error_to_json(error))


def main() -> None:
    """Work; what Ray prints goes to standard error, which is the run's to keep."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    incoming, outgoing = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    driver = Driver(incoming, outgoing)
    try:
        driver.work()
    except BrokenPipeError:
        pass
    except BaseException as error:  # noqa: BLE001  the run raises it
        driver.fail(error)
    finally:
        sys.stderr.flush()
        os._exit(0)


if __name__ == "__main__":
    main()
