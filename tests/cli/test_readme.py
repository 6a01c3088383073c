"""The README and docs say what is there: their commands parse, their targets and links exist."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main

from nnslim.cli.main import app

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, re.DOTALL)


def _commands(page):
    blocks = re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    lines = (line for block in blocks for line in block.replace("\\\n", " ").splitlines())
    return [line.strip() for line in lines if line.strip().startswith("nnslim ")]


COMMANDS = [command for page in PAGES for command in _commands(page)]


def _parse(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    _, name, *arguments = shlex.split(line, comments=True)
    group = typer.main.get_command(app)
    parent = group.make_context("nnslim", [name, *arguments])
    return group.commands[name].make_context(name, arguments, parent=parent)


@pytest.mark.parametrize("line", COMMANDS)
def test_command_parses(line, monkeypatch, tmp_path):
    assert _parse(line, monkeypatch, tmp_path).params


def test_configuration_example_is_accepted(monkeypatch, tmp_path):
    (block,) = (block for language, block in BLOCKS if language == "toml")
    (tmp_path / "nnslim.toml").write_text(block)
    for name in tomllib.loads(block):
        context = _parse(f"nnslim {name} model.onnx", monkeypatch, tmp_path)
        assert set(context.default_map) == set(tomllib.loads(block)[name])


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named
    assert named <= set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_into_the_repository_exists(page):
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8"))
    local = [link for link in links if "://" not in link]
    assert local or page.name != "README.md"
    assert [link for link in local if not (page.parent / link).exists()] == []
