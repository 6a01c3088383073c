"""The ``nnslim`` command: which commands there are, and what the process exits with."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

import typer

from nnslim.cli.eval import eval_command
from nnslim.cli.export import export_command
from nnslim.cli.grow import grow_command
from nnslim.cli.options import COMMAND_SETTINGS, EPILOG, SETTINGS, Version
from nnslim.cli.prune import prune_command
from nnslim.errors import NnslimError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["app", "main"]

app = typer.Typer(
    name="nnslim",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings=SETTINGS,
    epilog=EPILOG,
)

for _name, _command, _summary in (
    ("prune", prune_command, "Remove channels to a budget, and fine-tune."),
    ("grow", grow_command, "Plant channels into a small network, taught by a large one."),
    ("eval", eval_command, "Measure accuracy, latency and size; gate on them."),
    ("export", export_command, "Write one verified ONNX file."),
):
    app.command(
        _name,
        short_help=_summary,
        context_settings=COMMAND_SETTINGS,
        epilog=EPILOG,
        no_args_is_help=True,
    )(_command)


@app.callback()
def _root(version: Version = False) -> None:
    """Change the channel widths of a convolutional network, and prove the result equal."""


def main() -> None:
    """Run the command line and exit with the code that the README documents."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run())


def _run() -> int:
    """Run the command; Typer itself exits for usage errors (2) and Ctrl-C (130)."""
    try:
        app(prog_name="nnslim")
    except NnslimError as error:
        return _report(error, error.message, error.hint, error.exit_code)
    except OSError as error:
        return _report(error, f"{error.filename or 'system'}: {error.strerror or error}", None, 3)
    except Exception as error:  # the outermost frame: a bug must not read as "a gate failed"
        text = " ".join(str(error).split()) or "no message"
        hint = "this is a bug in nnslim: set NNSLIM_DEBUG=1 for the traceback"
        return _report(error, f"{type(error).__name__}: {text}", hint, 3)
    return 0


def _report(error: Exception, message: str, hint: str | None, exit_code: int) -> int:
    from nnslim.cli.output import Output

    if os.environ.get("NNSLIM_DEBUG"):
        traceback.print_exception(error)
    if exit_code != 2 or not _is_helper():
        Output().error(message, hint)
    return exit_code


def _is_helper() -> bool:
    """Whether a launcher started this process beside a main one, which finds the same mistake."""
    return "MASTER_ADDR" in os.environ and os.environ.get("RANK", "0") != "0"


def _terminate(number: int, frame: FrameType | None) -> None:
    """Unwind as an exit, so that half-written files are removed on the way."""
    sys.exit(128 + number)
