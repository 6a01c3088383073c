"""The ``nnslim`` command: which commands there are, and what the process exits with."""

from __future__ import annotations

import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from nnslim.cli import eval as evaluating
from nnslim.cli import export as exporting
from nnslim.cli import grow as growing
from nnslim.cli import prune as pruning
from nnslim.cli.command import EPILOG, NO_VALUE, Version, add_command
from nnslim.cli.sources import refuse_moved_flags
from nnslim.errors import NnslimError

if TYPE_CHECKING:
    from types import FrameType

__all__ = ["app", "main"]


class _Group(TyperGroup):
    """Switches without a value are false: to read None, Typer imports pydantic (0.1 s)."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - Typer's own
        for switch in self.get_params(ctx):
            switch.default, switch.metavar = switch.default or False, NO_VALUE
        return super().parse_args(ctx, args)


app = typer.Typer(
    name="nnslim",
    cls=_Group,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)

for _name, _module, _body in (
    ("prune", pruning, pruning.prune_command),
    ("grow", growing, growing.grow_command),
    ("eval", evaluating, evaluating.eval_command),
    ("export", exporting, exporting.export_command),
):
    add_command(app, _name, _body, _module.ARGUMENTS, _module.EXAMPLES)


@app.callback()
def _root(version: Version = False) -> None:
    """Change the channel widths of a vision network, and prove the result equal."""


def main() -> None:
    """Run the command line and exit with the code that the README documents."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_run())


def _run() -> int:
    """Run the command; Typer itself exits for usage errors (2) and Ctrl-C (130)."""
    try:
        refuse_moved_flags(sys.argv[1:])
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
