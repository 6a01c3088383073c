"""Write the tables of the reference pages: settings, profiles, names that went, report schemas.

``make docs-tables`` runs it. What stands between ``<!-- begin PART -->`` and ``<!-- end -->`` is
written here; everything else on a page is written by hand and stays.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from nnslim.cli.settings_table import option_table
from nnslim.settings.commands import settings_by_command
from nnslim.settings.moved import moved_names
from nnslim.settings.resolve import PROFILES
from nnslim.settings.tree import settings_of

PAGES = Path(__file__).parent
PART = re.compile(r"(<!-- begin (\w+) ?(\w*) -->\n).*?(<!-- end -->)", re.DOTALL)


def with_tables(page: str) -> str:
    """Return a page with its generated parts written anew."""

    def part(match: re.Match[str]) -> str:
        return f"{match[1]}\n{_PARTS[match[2]](match[3]).strip()}\n\n{match[4]}"

    return PART.sub(part, page)


def without_tables(page: str) -> str:
    """Return what is written by hand."""
    return PART.sub("", page)


def _settings(command: str) -> str:
    table = option_table(list(settings_of(settings_by_command()[command])))
    return re.sub(r"^## ", "### ", table, flags=re.MULTILINE)


def _profiles(_: str) -> str:
    rows = [
        (f"`{path}`", *(_text(profile[path]) for profile in PROFILES.values()))
        for path in PROFILES["balanced"]
    ]
    return "\n".join(_table(("setting", *map(_text, PROFILES)), rows))


def _moved(command: str) -> str:
    rows = [
        (f"`--{name.replace('_', '-')}`", f"`--set {path}=...`")
        for name, path in sorted(moved_names(command).items())
    ]
    return "\n".join(_table(("was", "is"), rows))


def _schema(command: str) -> str:
    document = files("nnslim.report").joinpath(f"{command}.schema.json").read_text("utf-8")
    schema = json.loads(document)
    parts = _object(schema, schema["$defs"])
    for name, part in schema["$defs"].items():
        if "properties" in part:
            parts += ["", f"#### `{name}`", "", *_object(part, schema["$defs"])]
    return "\n".join(parts)


def _object(node: Mapping[str, Any], parts: Mapping[str, Any]) -> list[str]:
    head = [node["description"], ""] if "description" in node else []
    rows = [(f"`{key}`", kind, text) for key, kind, text in _keys(node, parts, "")]
    if "$ref" in node:
        rows.insert(0, ("", f"and all keys of `{_name(node)}`", ""))
    return [*head, *_table(("key", "type", "meaning"), rows)]


def _keys(
    node: Mapping[str, Any], parts: Mapping[str, Any], prefix: str
) -> Iterator[tuple[str, str, str]]:
    """Yield name, type and meaning of every key; objects without a name follow their key."""
    for key, value in node.get("properties", {}).items():
        name = prefix + key
        kind = _kind(value, parts)
        if key not in node.get("required", ()):
            kind += ", optional"
        yield name, kind, value.get("description", "")
        yield from _keys(value, parts, f"{name}.")
        yield from _keys(value.get("items", {}), parts, f"{name}[].")


def _kind(node: Mapping[str, Any], parts: Mapping[str, Any]) -> str:
    """Say in words what a value is."""
    if "$ref" in node:
        named = parts[_name(node)]
        return f"`{_name(node)}`" if "properties" in named else _kind(named, parts)
    if "const" in node:
        return _text(node["const"])
    if "enum" in node:
        return " or ".join(map(_text, node["enum"]))
    if "anyOf" in node:
        return " or ".join(_kind(member, parts) for member in node["anyOf"])
    kinds = node.get("type", [])
    return " or ".join(
        f"array of {_kind(node['items'], parts)}" if kind == "array" else kind
        for kind in ([kinds] if isinstance(kinds, str) else kinds)
    )


def _name(node: Mapping[str, Any]) -> str:
    return node["$ref"].rpartition("/")[2]


def _text(value: object) -> str:
    return f"`{value}`" if isinstance(value, str) else json.dumps(value)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [f"| {' | '.join(cells)} |" for cells in (head, ["---"] * len(head), *rows)]


_PARTS: Mapping[str, Callable[[str], str]] = {
    "settings": _settings,
    "profiles": _profiles,
    "moved": _moved,
    "schema": _schema,
}


def main() -> None:
    """Write every page of this folder."""
    for path in PAGES.glob("*.md"):
        page = path.read_text(encoding="utf-8")
        if (written := with_tables(page)) != page:
            path.write_text(written, encoding="utf-8")


if __name__ == "__main__":
    main()
