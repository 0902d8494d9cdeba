"""The command `chop`: its commands by name, and how errors leave it.

Exit status 0 when the job was done, 2 with one line on standard error when the input was at fault;
any other exception is a bug of ours and keeps its traceback.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import typer

from chop.cli import compressing, jobs, listing, reporting
from chop.cli.search import search
from chop.errors import ChopError

__all__ = ["main", "run"]

app = typer.Typer(
    name="chop",
    help="From a PyTorch model to a dataflow accelerator that provably computes it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

for command in (
    jobs.transform,
    jobs.train,
    jobs.evaluate,
    jobs.emit,
    jobs.simulate,
    jobs.synthesize,
    search,
    compressing.compress,
    compressing.decompress,
    reporting.report,
    listing.list_names,
    listing.doctor,
):
    app.command({"evaluate": "eval", "list_names": "list"}.get(command.__name__))(command)


def main(arguments: Sequence[str]) -> int:
    """Runs one command line and returns its exit status; prints at most one line of error."""
    try:
        status = app(args=list(arguments), prog_name="chop", standalone_mode=False)
        sys.stdout.flush()
    except typer.TyperException as error:
        rule = error.format_message().removesuffix(".").replace("Value error, ", "")
        return _fail(f"{rule}; see 'chop --help'")
    except ChopError as error:
        return _fail(str(error))
    except typer.Abort:
        return _fail("interrupted")
    except BrokenPipeError:
        # The reader of a pipe has left: nothing more can be said, and Python's own flush at exit
        # must not say it either.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return status if isinstance(status, int) else 0


def _fail(message: str) -> int:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return 2


def run() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))
