"""The pages of README and docs: their commands, and the settings that a command line means."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import typer.main

from nnslim.cli.main import app
from nnslim.cli.sources import Sources
from nnslim.settings.commands import settings_by_command
from nnslim.settings.tree import settings_of, with_values

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = (ROOT / "README.md", *sorted(DOCS.rglob("*.md")))
GUIDES = (PAGES[0], *(page for page in PAGES if page.parent.name in {"tutorial", "how-to"}))
_COMMAND = re.compile(r"(?:^|[\s`(])nnslim ((?:prune|grow|eval|export) [^`)]*)")


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a language."""
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def prose(page: Path) -> str:
    """Return a page without its fenced blocks."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def commands(page: Path, *languages: str) -> Iterator[str]:
    """Yield the arguments of every `nnslim` command in blocks of these languages."""
    for language in languages:
        for block in blocks(page, language):
            for line in block.replace("\\\n", " ").splitlines():
                if (found := _COMMAND.search(line)) is not None:
                    yield " ".join(found[1].partition("||")[0].split())


def settings_said(line: str) -> object:
    """Return the settings that a command line means, without running it.

    Raises:
        typer.Exit, ConfigError: A flag or setting that does not exist or does not take its value.
    """
    name, *arguments = shlex.split(line, comments=True)
    group = typer.main.get_command(app)
    parent = group.make_context("nnslim", [name, *arguments])
    given = dict(group.commands[name].make_context(name, arguments, parent=parent).params)
    cls = settings_by_command()[name]
    sources = Sources(name, list(settings_of(cls)))
    values = sources.values(given, given.pop("set_") or (), given.pop("config"))
    return with_values(cls(), values)


def flags() -> set[str]:
    """Return every flag of every command."""
    group = typer.main.get_command(app)
    known = [option for own in group.commands.values() for option in own.params]
    return {flag for option in known for flag in (*option.opts, *option.secondary_opts)}
