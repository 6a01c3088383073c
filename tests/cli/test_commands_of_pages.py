"""The commands, flags, settings and make targets that README and docs show exist."""

from __future__ import annotations

import re
import tomllib

import pytest

from tests.cli.pages import (
    GUIDES,
    PAGES,
    ROOT,
    blocks,
    commands,
    flags,
    prose,
    settings_said,
)

LANGUAGES = ("sh", "yaml", "make")
LINES = sorted({line for page in PAGES for line in commands(page, *LANGUAGES)})
# Flags of other programs that the pages show.
OTHERS = frozenset(
    {"--standalone", "--multi_gpu", "--num_processes", "--nproc-per-node", "--nnodes"}
)


@pytest.mark.parametrize("line", LINES)
def test_a_command_is_accepted(line, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert settings_said(line)


def test_a_command_with_a_name_that_is_not_there_is_not_accepted(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for line in ("prune net.pt --sparse-lr 1", "prune net.pt --set training.lrr=1"):
        with pytest.raises(Exception, match=r"No such option|no such setting"):
            settings_said(line)


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_flag_in_the_text_exists(page):
    spans = re.findall(r"`([^`\n]+)`", prose(page))
    said = {flag for span in spans for flag in re.findall(r"--[a-z][\w-]*", span)}
    assert said - flags() - OTHERS == set()


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_every_configuration_is_accepted(page, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    arguments = {"eval": "new.onnx", "prune": "model.pt", "grow": "", "export": "model.pt"}
    for block in blocks(page, "toml"):
        (tmp_path / "nnslim.toml").write_text(block)
        for name in tomllib.loads(block):
            assert f"[{name}" in settings_said(f"{name} {arguments[name]}")


def test_the_readme_shows_pictures_that_exist_and_few_figures():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    pictures = re.findall(r'src="([^"]+)"', text)
    assert pictures
    assert [picture for picture in pictures if not (ROOT / picture).is_file()] == []
    plain = re.sub(r"`[^`\n]+`", "", prose(ROOT / "README.md"))
    assert len(re.findall(r"\d\.\d", plain)) <= 5


def test_every_make_target_exists():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, re.MULTILINE))
    pattern = r"(?:^|`)make ([a-z-]+)"
    named = {
        name
        for page in GUIDES
        for name in re.findall(pattern, page.read_text(encoding="utf-8"), re.MULTILINE)
    }
    assert {"demo", "test"} <= named
    assert named <= targets


def test_the_readme_lists_every_guide():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert [page.name for page in GUIDES[1:] if str(page.relative_to(ROOT)) not in readme] == []
