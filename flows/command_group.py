"""How commands are listed and how they end: one line for a user's error, and an exit code."""

from __future__ import annotations

import errno
import sys
import warnings
from typing import Any

import click

from flows import report
from pipeline.errors import CaptionmillError, StoppedError

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
        if not sys.warnoptions:
            warnings.simplefilter("ignore")  # the libraries' deprecations are ours to follow
        try:
            return super().invoke(ctx)
        except StoppedError as stopped:
            click.echo(report.escaped(str(stopped)), err=True)
            ctx.exit(stopped.exit_code)
        except CaptionmillError as error:
            click.echo(f"error: {report.escaped(str(error))}", err=True)
            ctx.exit(error.exit_code)
        except OSError as error:
            if error.errno not in UNWRITABLE:
                raise
            where = "the output" if error.filename is None else report.escaped(str(error.filename))
            hint = "; make room and run the same command again to go on"
            click.echo(
                f"error: {where}: {error.strerror}{hint if error.errno in FULL else ''}", err=True
            )
            ctx.exit(2)
        except Exception as error:
            if "mlflow" not in sys.modules:
                raise
            from pipeline.tracking.store import went_away

            if (lost := went_away(error)) is None:
                raise
            click.echo(f"error: {report.escaped(str(lost))}", err=True)
            ctx.exit(lost.exit_code)
        except KeyboardInterrupt:
            click.echo("\ninterrupted; run the same command again to go on", err=True)
            ctx.exit(130)
