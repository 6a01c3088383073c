"""The pages hang together: tables as they are generated, links that lead somewhere, few figures."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
GENERATE = runpy.run_path(str(DOCS / "reference" / "generate.py"))
# Pages that are all figures, and one that a sweep writes.
FIGURES = {*(DOCS / "results").iterdir(), DOCS / "reference" / "coverage.md"}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", sorted((DOCS / "reference").glob("*.md")), ids=name)
def test_the_tables_are_those_of_the_settings(page):
    """Where this fails: ``make docs-tables``."""
    text = page.read_text(encoding="utf-8")
    assert GENERATE["with_tables"](text) == text


def test_every_setting_stands_in_a_table():
    for command, settings in GENERATE["settings_by_command"]().items():
        page = (DOCS / "reference" / f"{command}.md").read_text(encoding="utf-8")
        assert f"<!-- begin settings {command} -->" in page
        for setting in GENERATE["settings_of"](settings):
            assert f"| `{setting.path}` |" in page


@pytest.mark.parametrize("page", [page for page in PAGES if page not in FIGURES], ids=name)
def test_a_page_for_users_has_few_figures(page):
    """They belong into docs/results, with the command that gives them."""
    text = GENERATE["without_tables"](page.read_text(encoding="utf-8"))
    assert len(re.findall(r"\d\.\d", text)) <= 5


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=name)
def test_links_lead_somewhere(page):
    for target in links(page):
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), target
        if anchor and linked.suffix == ".md":
            assert anchor in anchors(linked), target


def links(page: Path) -> list[str]:
    text = re.sub(r"```.*?```|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", text)
    return [target for target in targets if not re.match(r"https?:|mailto:", target)]


def anchors(page: Path) -> set[str]:
    """The headings as they are addressed: small letters, hyphens for spaces, nothing else."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    plain = (re.sub(r"[^\w\s-]", "", heading).strip().lower() for heading in headings)
    return {re.sub(r"[-\s]+", "-", heading) for heading in plain}
