"""The sections of the site, one folder each, in the order in which people need them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mkdocs.config.defaults import MkDocsConfig

SECTIONS = {
    "Tutorial": "tutorial",
    "How-to": "how-to",
    "Reference": "reference",
    "Explanation": "explanation",
    "Results": "results",
}


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """List the pages of every folder; a new page needs no entry."""
    docs = Path(config.docs_dir)
    config.nav = [{"Home": "index.md"}]
    for title, folder in SECTIONS.items():
        pages = sorted((docs / folder).glob("*.md"), key=lambda page: (page.stem != "index", page))
        if pages:
            config.nav.append({title: [page.relative_to(docs).as_posix() for page in pages]})
    return config
