"""Command lines as the commands' own parser reads them, without the commands' work."""

from __future__ import annotations

import os
from functools import cache
from unittest import mock

import typer.main

from nnslim.cli import eval as evaluating
from nnslim.cli import export as exporting
from nnslim.cli import grow as growing
from nnslim.cli import prune as pruning
from nnslim.cli.command import add_command

COMMANDS = {"prune": pruning, "grow": growing, "eval": evaluating, "export": exporting}


@cache
def _probed():
    """The real commands with a body that notes its call; building them takes 0.1 s."""
    app, calls = typer.Typer(), []

    def note(call):
        """Note the call."""
        calls.append(call)

    for name, module in COMMANDS.items():
        add_command(app, name, note, module.ARGUMENTS, module.EXAMPLES)
    return typer.main.get_command(app), calls


def run(command, *arguments, env=None):
    """Run a command with another body; return the calls that reached it, none under --settings."""
    group, calls = _probed()
    calls.clear()
    with mock.patch.dict(os.environ, env or {}):
        line = [command, *map(str, arguments)]
        group.main(args=line, prog_name="nnslim", standalone_mode=False)
    return list(calls)


def parsed(command, *arguments, env=None):
    """The settings that the body of a command gets for a command line."""
    (call,) = run(command, "model.pt", *arguments, env=env)
    return call.settings
