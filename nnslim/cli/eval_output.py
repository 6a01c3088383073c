"""Where the result of ``nnslim eval`` goes beside the terminal: files, and GitHub's own."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from nnslim.cli.output import Output

__all__ = ["check_reports", "publish", "write_reports"]

_KINDS = (".json", ".md", ".xml", ".html")


def check_reports(paths: Sequence[Path], *, overwrite: bool) -> tuple[Path, ...]:
    """Refuse a report that could not be written, before hours are spent on it.

    Raises:
        ConfigError: An unknown kind, a folder that is not there, or a file that is.
    """
    for path in paths:
        if path.suffix.lower() not in _KINDS:
            kinds = ", ".join(_KINDS)
            raise ConfigError(f"--report {path}: the kind is told by the suffix, one of {kinds}")
        if not path.parent.is_dir():
            raise ConfigError(f"--report {path}: there is no folder {path.parent}")
        if path.exists() and not overwrite:
            raise ConfigError(f"--report {path} is there already", hint="give --overwrite")
    return tuple(paths)


def write_reports(
    paths: Sequence[Path], document: Mapping[str, object], *, overwrite: bool
) -> None:
    """Write the result in the kind that each suffix names."""
    from nnslim.artifact import write_page
    from nnslim.report.eval_ci import eval_html, junit, markdown

    for path in paths:
        match path.suffix.lower():
            case ".json":
                text = json.dumps(document, indent=2, sort_keys=True, allow_nan=False) + "\n"
            case ".md":
                text = markdown(document)
            case ".xml":
                text = junit(document)
            case _:
                text = eval_html(document)
        write_page(path, text, overwrite=overwrite)


def publish(document: Mapping[str, object], sink: Output) -> None:
    """In a GitHub job: annotations to stderr, a summary and outputs to the files it names.

    Raises:
        ConfigError: GitHub names a file that cannot be written.
    """
    from nnslim.report.eval_ci import github_annotations, markdown, outputs

    if os.environ.get("GITHUB_ACTIONS") != "true":
        return
    for line in github_annotations(document):
        sink.workflow(line)
    _append("GITHUB_STEP_SUMMARY", markdown(document))
    lines = [f"{key}={value}\n" for key, value in outputs(document).items()]
    _append("GITHUB_OUTPUT", "".join(lines))


def _append(variable: str, text: str) -> None:
    place = os.environ.get(variable)
    if not place:
        return
    try:
        with Path(place).open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ConfigError(f"{variable} names {place}, which cannot be written: {error}") from error
