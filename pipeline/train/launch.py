"""Several ranks on this machine: torchrun is started, its first rank's lines shown, its end explained.

The ranks live as long as the stage does: standard input of all of them is a pipe from it. A byte in
it asks them to stop with a checkpoint; when it closes, however the stage ended, they end at once.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from pipeline import errors, storage
from pipeline.config import Config
from pipeline.errors import CaptionmillError, ConfigError, RankError, StoppedError
from pipeline.log_lines import pass_on
from pipeline.predict import choose_device
from pipeline.progress import say
from pipeline.records import ShardSet
from pipeline.train.checks import require_settings
from pipeline.train.distributed import available_cores
from pipeline.train.rank import LOGS

TAIL = 10
"""Lines of a log that an error quotes."""


def devices_asked_for(config: Config) -> int:
    """How many ranks `train.devices` means on this machine.

    Raises:
        ConfigError: there are no such devices.
    """
    wanted, name = config.train.devices, config.device
    if wanted == 1:
        return 1
    kind = choose_device(name).type
    present = torch.cuda.device_count()
    if wanted == "auto":
        return present if kind == "cuda" and ":" not in name else 1
    if ":" in name or kind == "mps":
        raise ConfigError(
            f"train.devices = {wanted} and device = {name!r} contradict each other; set "
            "train.devices = 1, or device to cuda or cpu"
        )
    if kind == "cuda" and wanted > present:
        raise ConfigError(
            f"train.devices = {wanted}: this machine has {present} CUDA devices; take so many, or auto"
        )
    if kind == "cpu" and name != "cpu":
        raise ConfigError(
            f"train.devices = {wanted}: this machine has no CUDA device; set train.devices = 1, or "
            "device = cpu to share its cores among ranks"
        )
    return wanted


def launch(config: Config, work: Path, shard_set: ShardSet, directory: Path, ranks: int) -> None:
    """Train in `directory` on so many ranks of this machine; the result is there when it returns.

    Raises:
        ConfigError: settings that cannot work; nothing was started.
        BusyError: another run is training the same thing.
        StoppedError: SIGTERM came; a checkpoint was written.
        RankError: a rank died; says how, and quotes its log.
        CaptionmillError: what a rank met, as `pipeline.train.train`.
    """
    require_settings(config, shard_set, ranks)
    with storage.lock(directory):  # rank 0 takes it again: it may outlive this process
        shutil.rmtree(directory / LOGS, ignore_errors=True)
    logs = directory / LOGS
    job = {"work": str(work.absolute()), "directory": str(directory)}
    parts = {"config": config, "shard_set": shard_set}
    dumped = {name: part.model_dump(mode="json") for name, part in parts.items()}
    storage.commit_json(logs / "job.json", {**job, **dumped})
    say("train", f"{ranks} ranks, logs in {logs}")
    code, asked = _run(_command(logs, ranks), _environment(config, ranks), logs)
    if code != 0:
        raise _explain(logs, asked, code)


def _command(logs: Path, ranks: int) -> list[str]:
    return [
        *(sys.executable, "-m", "pipeline.train.torchrun", str(logs / "failures.json")),
        *("--nnodes=1", f"--nproc-per-node={ranks}", "--max-restarts=0"),
        *("--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0", "--local-addr=127.0.0.1"),
        *("-m", "pipeline.train", str(logs / "job.json")),
    ]


def _environment(config: Config, ranks: int) -> dict[str, str]:
    """This process's own, and: this package, loopback, an equal share of the cores."""
    threads = config.threads or max(1, available_cores() // ranks)
    ours = {
        "OMP_NUM_THREADS": str(threads),
        "PYTHONSAFEPATH": "1",  # the user's folder may have a `pipeline` too
        "TORCHELASTIC_SIGNALS_TO_HANDLE": "SIGINT",
        # torch's advice on unused parameters, once a rank; those of a frozen stage are meant.
        "TORCH_CPP_LOG_LEVEL": "ERROR",
    }
    loopback = [name for _, name in socket.if_nameindex() if name.startswith("lo")]
    if loopback:
        ours["GLOO_SOCKET_IFNAME"] = loopback[0]
    source = Path(__file__).parents[2]
    if not source.name.endswith("-packages"):  # a checkout; what is installed is found anyway
        paths = [str(source), *filter(None, [os.environ.get("PYTHONPATH")])]
        ours["PYTHONPATH"] = os.pathsep.join(paths)
    return {**os.environ, **ours}


def _run(command: list[str], environment: dict[str, str], logs: Path) -> tuple[int, bool]:
    """The exit code, and whether SIGTERM came; shows what rank 0 says meanwhile."""
    with open(logs / "torchrun.log", "wb") as noise:
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=noise,
            # Ctrl-C reaches the stage alone, which ends the ranks.
            start_new_session=True,
        )
    assert process.stdin is not None
    assert process.stdout is not None
    asked: list[int] = []
    with _stops_ranks(process.stdin.fileno(), asked):
        try:
            with open(logs / "0.log", "ab") as log:
                for line in process.stdout:
                    pass_on(line.decode(errors="replace"))
                    log.write(line)
                    log.flush()
            return process.wait(), bool(asked)
        finally:
            with contextlib.suppress(BrokenPipeError):
                process.stdin.close()
            _end(process)


@contextlib.contextmanager
def _stops_ranks(lifeline: int, asked: list[int]) -> Iterator[None]:
    """While it lasts SIGTERM asks the ranks to stop; signals belong to the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(number: int, _frame: Any) -> None:
        asked.append(number)
        with contextlib.suppress(BrokenPipeError):
            os.write(lifeline, b".")

    former = signal.signal(signal.SIGTERM, ask)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _end(process: subprocess.Popen[bytes]) -> None:
    """Return when the ranks have ended, which their closed pipe tells them to."""
    try:
        process.wait(timeout=60)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _explain(logs: Path, asked: bool, code: int) -> CaptionmillError:
    """Which rank ended it and how: what a rank says of itself first, then signals, then the rest."""
    said = {int(path.stem): storage.read_json(path) for path in logs.glob("[0-9]*.json")}
    order = sorted(said, key=lambda rank: said[rank]["time"])
    for rank in order:
        kind = getattr(errors, said[rank]["kind"], None) if said[rank]["known"] else None
        if kind is not None and kind is not RankError:
            found: CaptionmillError = kind(said[rank]["message"])
            return found
    written = logs / "failures.json"
    failures = storage.read_json(written) if written.exists() else []
    killed = [f for f in failures if f["exit_code"] < 0]
    if asked and (not failures or any(f["exit_code"] == -signal.SIGTERM for f in killed)):
        return StoppedError("stopped by SIGTERM before training began; run the same command again")
    if killed:
        rank, number = killed[0]["rank"], -killed[0]["exit_code"]
        name = signal.Signals(number).name
        why = " (the system does so when memory runs out)" if number == signal.SIGKILL else ""
        return _rank_error(logs, rank, f"was killed by {name}{why}")
    for rank in order:
        if not said[rank]["known"]:
            return _rank_error(logs, rank, f"failed: {said[rank]['kind']}: {said[rank]['message']}")
    for failure in failures:
        return _rank_error(logs, failure["rank"], f"ended with exit code {failure['exit_code']}")
    return RankError(f"torchrun ended with exit code {code}{_quoted(logs / 'torchrun.log')}")


def _rank_error(logs: Path, rank: int, how: str) -> RankError:
    return RankError(
        f"rank {rank} {how}; run the same command again to go on from the last checkpoint"
        f"{_quoted(logs / f'{rank}.log')}"
    )


def _quoted(log: Path) -> str:
    """Where a log is, and its last lines."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    last = [f"  {line}" for line in text.splitlines()[-TAIL:]]
    return "\n".join([f". {log}" + (" ends:" if last else " is empty"), *last])
