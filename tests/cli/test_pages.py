"""What README and docs say exists: commands, flags, settings, links; and pages stay readable."""

from __future__ import annotations

import re
import tomllib

import pytest

from nnslim.settings.commands import settings_by_command
from tests.cli.pages import (
    DOCS,
    GUIDES,
    PAGES,
    ROOT,
    anchors,
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
            said = settings_said(f"{name} {arguments[name]}")
            assert said != settings_by_command()[name]()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_link_into_the_repository_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)\s]+)\)", text) + re.findall(r'(?:src|href)="([^"]+)"', text)
    for link in links:
        if "://" in link:
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{link}: no such file"
        if anchor:
            assert anchor in anchors(target), f"{link}: no such heading"


@pytest.mark.parametrize("page", GUIDES, ids=lambda page: page.stem)
def test_a_page_for_users_has_five_decimal_figures_at_most(page):
    code = r"^```(?:sh|python|toml|yaml|make)\n.*?^```|`[^`\n]+`"
    text = re.sub(code, "", page.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    figures = re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", text.replace("Python 3.11", ""))
    assert len(figures) <= 5, figures


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
    assert DOCS.is_dir()
