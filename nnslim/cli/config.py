"""Find and read ``nnslim.toml``, or ``[tool.nnslim]`` in ``pyproject.toml``."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple, cast

from nnslim.errors import ConfigError, InputError
from nnslim.settings.commands import settings_by_command
from nnslim.settings.tree import settings_of

__all__ = ["Entry", "find_file"]


class Entry(NamedTuple):
    """A value as TOML has it: its setting by tables and key, and its place in words."""

    name: str
    value: object
    where: str


def find_file(named: Path | None) -> tuple[Path | None, dict[str, list[Entry]]]:
    """Return the configuration file in force and what it says, by command.

    Args:
        named: What ``--config`` says; None takes the nearest file, from the working directory
            upwards.

    Raises:
        InputError: The file cannot be read or is not TOML.
        ConfigError: It holds a table that no command has.
    """
    path, tables = _find(named)
    if path is None:
        return None, {}
    commands = settings_by_command()
    _check_tables(tables, commands, path)
    return path, {
        name: list(_flat(_table(table, path, name), path, (name,), _sections(commands[name])))
        for name, table in tables.items()
    }


def _sections(cls: type) -> set[str]:
    """Names of the tables within a command's, such as ``training``."""
    paths = (setting.path.split(".")[:-1] for setting in settings_of(cls))
    return {".".join(parts[:n]) for parts in paths for n in range(1, len(parts) + 1)}


def _flat(
    table: Mapping[str, object], path: Path, place: tuple[str, ...], sections: set[str]
) -> Iterator[Entry]:
    """Yield the entries of a table and of the tables in it that are sections of settings."""
    for key, value in table.items():
        name = ".".join((*place[1:], key))
        if isinstance(value, dict) and name in sections:
            inner = cast("dict[str, object]", value)
            yield from _flat(inner, path, (*place, key), sections)
        else:
            yield Entry(name, value, f"{path}: [{'.'.join(place)}] {key}")


def _find(named: Path | None) -> tuple[Path | None, Mapping[str, object]]:
    """Return the file that applies and its tables, by command."""
    if named is not None:
        return named, _tables(named, _read(named))
    here = Path.cwd()
    for folder in (here, *here.parents):
        own, shared = folder / "nnslim.toml", folder / "pyproject.toml"
        if own.is_file():
            return own, _tables(own, _read(own))
        if shared.is_file():
            content = _read(shared)
            if "nnslim" in cast("dict[str, object]", content.get("tool", {})):
                return shared, _tables(shared, content)
    return None, {}


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: is not TOML: {error}") from error


def _tables(path: Path, content: Mapping[str, object]) -> Mapping[str, object]:
    if path.name != "pyproject.toml":
        return content
    tool = _table(content.get("tool", {}), path, "tool")
    return _table(tool.get("nnslim", {}), path, "tool.nnslim")


def _table(value: object, path: Path, name: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: {name} must be a table, written as [{name}]")
    return cast("dict[str, object]", value)


def _check_tables(tables: Iterable[str], commands: Iterable[str], path: Path) -> None:
    for name in tables:
        if name not in commands:
            nearest = get_close_matches(name, list(commands), n=1)
            hint = (
                f"did you mean {nearest[0]}?"
                if nearest
                else f"known: {', '.join(sorted(commands))}"
            )
            raise ConfigError(f"{path}: there is no table {name}", hint=hint)
