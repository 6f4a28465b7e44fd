"""torchrun, its failures written down: `python -m pipeline.train.torchrun FAILURES ...`.

`torch.distributed.run` itself, with all of its options, tells how its ranks ended in a banner for
people alone. Here FAILURES becomes a JSON list of {rank, exit_code}, for those that failed first.
"""

from __future__ import annotations

import signal
import sys
from pathlib import Path

from pipeline import storage


def main(failures: Path, arguments: list[str]) -> int:
    """Run it; the exit code."""
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    # Where a whole group of processes is told to stop, the ranks are: they need their time, and
    # torchrun would kill them after 30 seconds (TORCHELASTIC_SIGNALS_TO_HANDLE leaves it out).
    signal.signal(signal.SIGTERM, lambda _number, _frame: None)
    try:
        run(parse_args(arguments))
    except ChildFailedError as error:
        found = [
            {"rank": rank, "exit_code": failure.exitcode}
            for rank, failure in sorted(error.failures.items())
        ]
        storage.commit_json(failures, found)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2:]))
