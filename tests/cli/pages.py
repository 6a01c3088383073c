"""The pages of README and docs: their commands, and the settings that a command line means."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import typer.main
from typer.testing import CliRunner

from nnslim.cli.main import app

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


def settings_said(line: str) -> str:
    """Return the table of settings that a command line means, without running it.

    Raises:
        NnslimError, AssertionError: No such flag or setting, or no such value of it.
    """
    done = CliRunner().invoke(app, [*shlex.split(line, comments=True), "--settings", "--json"])
    if isinstance(done.exception, Exception):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def flags() -> set[str]:
    """Return every flag of every command."""
    group = typer.main.get_command(app)
    known = [option for own in group.commands.values() for option in own.params]
    return {flag for option in known for flag in (*option.opts, *option.secondary_opts)}
