"""The only module that prints: the result goes to stdout, everything else to stderr."""

from __future__ import annotations

import json
import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from rich.box import Box
from rich.console import Console
from rich.table import Table as RichTable
from rich.text import Text

from nnslim.cli.progress import LogProgress, TerminalProgress
from nnslim.report import Table
from nnslim.settings.commands import TalkSettings
from nnslim.sink import SILENT, Progress

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

__all__ = ["Output"]

_LOG_COLUMNS = 100
_RULED = Box("    \n    \n -- \n    \n    \n    \n    \n    \n", ascii=True)


class Output:
    """Write results to one stream and talk on the other; fulfils ``nnslim.report.Sink``.

    A reader that goes away (``nnslim eval ... | head``) is no error: what is left is dropped.

    Example:
        >>> out = Output(TalkSettings(json=True))
        >>> out.result({"top1_pct": 91.5})
        {
          "top1_pct": 91.5
        }
    """

    def __init__(
        self,
        talk: TalkSettings | None = None,
        *,
        stdout: TextIO | None = None,
        stderr: TextIO | None = None,
    ) -> None:
        self._talk = talk or TalkSettings()
        self.stdout = stdout or sys.stdout
        self._out = _console(self.stdout)
        self._err = _console(stderr or sys.stderr)

    def result(self, document: Mapping[str, object], *parts: Table | str) -> None:
        """Write the result once: the document under ``--json``, else the parts as text.

        Raises:
            ValueError: The document holds a number that JSON has not (NaN or infinity).
        """
        if self._talk.json:
            text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False)
            self._write(self._out, Text(text))
            return
        for index, part in enumerate(parts):
            if index and any(isinstance(p, Table) for p in parts[index - 1 : index + 1]):
                self._write(self._out, Text())
            if isinstance(part, Table):
                self._table(part)
            else:
                self._write(self._out, Text(_visible(part)))

    def info(self, message: str) -> None:
        """Say what was decided or done; silent under ``-q``."""
        if not self._talk.quiet:
            self._write(self._err, Text(_visible(message)))

    def detail(self, message: str) -> None:
        """Say what only ``-v`` shows."""
        if self._talk.verbose:
            self.info(message)

    def workflow(self, command: str) -> None:
        """Write a line for the CI system that runs this; said however quiet the rest is."""
        self._write(self._err, Text(_visible(command)))

    def warn(self, message: str) -> None:
        """Say what the user should look at, although the work goes on."""
        self._write(self._err, Text.assemble(("warning: ", "yellow"), _visible(message)))

    def error(self, message: str, hint: str | None = None) -> None:
        """Say why the work stopped and, where there is one, the next step."""
        self._write(self._err, Text.assemble(("error: ", "bold red"), _visible(message)))
        if hint is not None:
            self._write(self._err, Text.assemble(("hint: ", "cyan"), _visible(hint)))

    @contextmanager
    def progress(self, label: str, total: int, *, each: bool = False) -> Generator[Progress]:
        """Count ``total`` steps: a bar on a terminal, else now and then a line.

        ``each`` asks for a line per step where there is no terminal: for epochs, not for batches.
        """
        if self._talk.quiet or self._talk.no_progress:
            with SILENT.progress(label, total) as silent:
                yield silent
        elif self._err.is_terminal:
            bar = TerminalProgress(self._err, _visible(label), total)
            with bar.bars:
                yield bar
        else:
            yield LogProgress(self.info, label, total, interval_s=0.0 if each else 30.0)

    def _table(self, table: Table) -> None:
        grid = RichTable(box=_RULED, show_edge=False, pad_edge=False, padding=(0, 1, 0, 0))
        for column in table.columns:
            grid.add_column(Text(_visible(column.name)), justify=column.align, overflow="fold")
        for row in table.rows:
            grid.add_row(*(Text(_visible(cell)) for cell in row))
        if table.title:
            self._out.print(Text(_visible(table.title), style="bold", overflow="fold"))
        self._write(self._out, grid)

    @staticmethod
    def _write(console: Console, what: Text | RichTable) -> None:
        # Soft wrapping leaves long lines to the terminal: logs and JSON keep theirs whole.
        console.print(what, soft_wrap=isinstance(what, Text))


class _Console(Console):
    """A console that outlives its reader."""

    def on_broken_pipe(self) -> None:
        """Send the rest nowhere, so that neither we nor the interpreter's exit fails."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.file.fileno())
        os.close(nowhere)


def _console(stream: TextIO) -> Console:
    """Make a console that never reads markup and never writes what ``stream`` cannot encode."""
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")
    terminal = stream.isatty()
    columns = os.environ.get("COLUMNS", "")
    width = max(_LOG_COLUMNS, int(columns) if columns.isdecimal() else 0)
    return _Console(
        file=stream,
        force_terminal=terminal,  # not what FORCE_COLOR or a CI system says
        color_system="auto" if terminal and not os.environ.get("NO_COLOR") else None,
        width=None if terminal else width,
        markup=False,
        emoji=False,
        highlight=False,
    )


def _visible(text: str) -> str:
    """Escape control characters: a class name must not move the cursor or colour the terminal."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
