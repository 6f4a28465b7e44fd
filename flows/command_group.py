"""How commands are listed and how they end: one line for a user's error, and an exit code."""

from __future__ import annotations

import errno
import os
import sys
import traceback
import warnings
from types import TracebackType
from typing import Any

import click

from flows import report
from pipeline import log_lines
from pipeline.errors import CaptionmillError, StoppedError
from pipeline.masking import masked

EXIT_CODES = """\b
Exit codes:
  0    done
  1    a bug, or an error of no other kind
  2    a setting, an option or a path that cannot work
  3    input data: annotations, pictures, shards or archives
  4    a model that cannot be found, loaded or used
  5    a caption table that is not ours, or fails verification
  6    another run is writing the same directory
  7    object storage that cannot be reached, or refuses
  8    a Prefect server that cannot be reached, or refuses
  130  interrupted from the keyboard; run the same command again to go on
  143  stopped by SIGTERM with a checkpoint written; run the same command again to go on
"""


FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
"""A disk, a quota or a limit that is used up."""

# What a path or its disk may refuse; any other OSError is a bug.
UNWRITABLE = {
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    *FULL,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.ELOOP,
    errno.EEXIST,
    errno.ENOENT,
    errno.ENAMETOOLONG,
}


class Commands(click.Group):
    """Ends commands with one line and the documented exit code."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the work, not of the alphabet."""
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; errors that a user can mend become a line, not a traceback."""
        sys.excepthook = _traceback_without_secrets
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # the libraries' deprecations are ours to follow
        try:
            log_lines.is_json()  # a wrong choice stops before any work
            return super().invoke(ctx)
        except StoppedError as stopped:
            complain(report.escaped(str(stopped)), "warning")
            ctx.exit(stopped.exit_code)
        except click.UsageError as error:
            if not log_lines.is_json():
                raise  # with the usage, and a hint at --help
            complain(f"error: {report.escaped(error.format_message())}")
            ctx.exit(error.exit_code)
        except CaptionmillError as error:
            complain(f"error: {report.escaped(str(error))}")
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            where = "the output" if error.filename is None else report.escaped(str(error.filename))
            hint = "; make room and run the same command again to go on"
            complain(f"error: {where}: {error.strerror}{hint if error.errno in FULL else ''}")
            ctx.exit(2)
        except KeyboardInterrupt:
            if not log_lines.is_json():
                click.echo(err=True)  # the terminal shows ^C
            complain("interrupted; run the same command again to go on", "warning")
            ctx.exit(130)


def complain(text: str, level: str = "error") -> None:
    """How a command ends: a line of standard error, or an object with the others' fields."""
    if os.environ.get(log_lines.FORMAT) == "json":
        text = log_lines.as_json(log_lines.Line("command", text.removeprefix("error: "), level))
    click.echo(text, err=True)


def _traceback_without_secrets(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """What a bug prints: libraries quote the addresses they failed at, password and all."""
    complain(masked("".join(traceback.format_exception(kind, error, trace))).rstrip("\n"))
