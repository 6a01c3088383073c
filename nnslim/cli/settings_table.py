"""``--settings``: every setting of a command, its value, and where that comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from nnslim.report.table import Table
from nnslim.settings.budget import Metric
from nnslim.settings.option import AUTO, PANELS
from nnslim.settings.resolve import decisions
from nnslim.settings.tree import value_at

if TYPE_CHECKING:
    from nnslim.cli.output import Output
    from nnslim.cli.sources import Sources
    from nnslim.settings.setting import Setting

__all__ = ["option_table", "show_settings"]


def show_settings(settings: Any, sources: Sources, sink: Output) -> None:  # noqa: ANN401 - any command's
    """Write every setting with its value, its origin and what it means."""
    config = getattr(settings, "config", None)
    decided = {} if config is None else decisions(config, has_images=True)
    rows = [_row(own, settings, sources, decided) for own in sources.settings]
    headings = ("setting", "value", "from", "what it says")
    tables = [
        Table.of(panel, headings, [_cells(row, sources) for row in rows if row["panel"] == panel])
        for panel in PANELS
    ]
    document = {"schema": "nnslim.settings/1", "command": sources.command, "settings": rows}
    sink.result(document, *(table for table in tables if table.rows))


def _cells(row: dict[str, str], sources: Sources) -> tuple[str, ...]:
    default = f" (default {row['default']})" if row["setting"] in sources.origins else ""
    return row["setting"], row["value"] + default, row["from"], row["help"]


def _row(
    setting: Setting, settings: object, sources: Sources, decided: dict[str, tuple[object, str]]
) -> dict[str, str]:
    value, origin = value_at(settings, setting.path), sources.origins.get(setting.path)
    came_from = "default" if origin is None else origin.where
    entry = decided.get(setting.path) or decided.get("limits", (AUTO, ""))
    if value is AUTO and setting.path in get_args(Metric):
        limits = entry[0] if isinstance(entry[0], dict) else {}
        value = limits.get(setting.path)
    elif value is AUTO and setting.path in decided:
        value, came_from = entry
    return {
        "setting": setting.path,
        "flag": f"--{setting.option.flag}" if setting.option.flag else "",
        "value": setting.text(value),
        "default": setting.option.auto or setting.text(setting.default),
        "from": came_from,
        "help": setting.option.help,
        "panel": setting.option.panel,
    }


def option_table(settings: list[Setting]) -> str:
    """Return the settings of a command as Markdown, one table a panel.

    Example:
        >>> from nnslim.settings.tree import settings_of
        >>> from nnslim.settings.commands import TalkSettings
        >>> print(option_table(list(settings_of(TalkSettings))[:1]))
        ## Output
        <BLANKLINE>
        | setting | flag | default | what it says |
        | --- | --- | --- | --- |
        | `json` | `--json` | `false` | Write the result as one JSON document. |
        <BLANKLINE>
    """
    parts: list[str] = []
    for panel in PANELS:
        rows = [own for own in settings if own.option.panel == panel]
        if not rows:
            continue
        parts += [f"## {panel}", "", "| setting | flag | default | what it says |"]
        parts.append("| --- | --- | --- | --- |")
        parts += [_markdown(own) for own in rows]
        parts.append("")
    return "\n".join(parts)


def _markdown(setting: Setting) -> str:
    facts = setting.option
    flag = "" if facts.flag is None else f"`--{facts.flag}`"
    if flag and not setting.switch:
        metavar = setting.metavar.replace("|", "\\|")
        flag = f"`--{facts.flag} {metavar}`"
    text = facts.none if setting.default is AUTO else setting.text(setting.default)
    default = facts.auto or (f"`{text}`" if text else "none")
    return f"| `{setting.path}` | {flag} | {default} | {facts.help} |"
