"""The process of a temporary Prefect server: `python -m flows.server`.

Prints the port that it listens on, serves, and ends when its standard input is closed. So it
outlives the command that started it by no more than a moment, however that command ends.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time

STOP_SECONDS = 5.0


def main() -> None:
    """Serve Prefect's API on a free port of this machine alone."""
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    os.dup2(2, 1)  # whatever is printed from here on belongs to the log

    import uvicorn
    from prefect.server.api.server import create_app

    app = create_app(ephemeral=True, final=True)
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))

    def watch() -> None:
        sys.stdin.buffer.read()
        server.should_exit = True
        time.sleep(STOP_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()
    server.run(sockets=[listener])


if __name__ == "__main__":
    main()
