"""Read ``nnslim.toml`` or ``[tool.nnslim]``: flag > ``NNSLIM_*`` > file > default."""

from __future__ import annotations

import tomllib
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, cast

import typer

from nnslim.errors import ConfigError, InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FLAG_ONLY", "apply_config", "config_path"]

# A file that comes with a repository must not decide to run code, and cannot name itself.
FLAG_ONLY = frozenset({"trust_pickle", "config", "help", "version"})
_PATH_KEY = "nnslim.config_path"


def apply_config(context: typer.Context, value: Path | None) -> Path | None:
    """Make the values of the configuration file the defaults of the command's options.

    The callback of the eager option ``--config``: it runs before the other options are read, so
    that Typer itself applies the precedence.

    Raises:
        InputError: The file cannot be read or is not TOML.
        ConfigError: A table, key or value is not one that a command takes.
    """
    if context.resilient_parsing:
        return value
    path, tables = _find(value)
    if path is not None:
        commands = _options_by_command(context)
        _reject_unknown(tables, commands, path, "table")
        settings: dict[str, dict[str, _Setting]] = {}
        for command, table in tables.items():
            own = _table(table, path, command)
            known = {*commands[command], *_inner_tables(command)}
            _reject_unknown(own, known, path, f"[{command}]")
            settings[command] = _flat(own, command, path)
        chosen = settings.get(str(context.info_name), {})
        context.default_map = {
            key: _as_typed(context, key, setting.value, f"{path}: {setting.where} {key}")
            for key, setting in chosen.items()
        }
        context.meta[_PATH_KEY] = path
    return path


def config_path(context: typer.Context) -> Path | None:
    """Return the file that ``apply_config`` used, if any."""
    return context.meta.get(_PATH_KEY)


class _Setting(NamedTuple):
    """A value, and the table that it stands in."""

    value: object
    where: str


def _inner_tables(command: str) -> dict[str, set[str]]:
    """Return the tables that a command's table may hold, with their keys: options, too."""
    if command != "eval":
        return {}
    # Lazy: only a file with [eval] needs to know what can be a gate.
    from nnslim.measure.gates import Gates

    return {"gates": {field.name for field in fields(Gates)}}


def _flat(table: Mapping[str, object], command: str, path: Path) -> dict[str, _Setting]:
    """Take the keys of inner tables for the command's own; one key in two tables is refused."""
    inner = _inner_tables(command)
    found = {key: _Setting(v, f"[{command}]") for key, v in table.items() if key not in inner}
    for name, known in inner.items():
        where = f"[{command}.{name}]"
        own = _table(table.get(name, {}), path, f"{command}.{name}")
        _reject_unknown(own, known, path, where)
        for key, value in own.items():
            if key in found:
                message = f"{path}: {key} stands in [{command}] and in {where}"
                raise ConfigError(message, hint="keep one of the two")
            found[key] = _Setting(value, where)
    return found


def _find(named: Path | None) -> tuple[Path | None, Mapping[str, object]]:
    """Return the named file, or the nearest one upwards that configures nnslim, and its tables."""
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


def _options_by_command(context: typer.Context) -> dict[str, set[str]]:
    """Return what each command's table may hold."""
    group = context.find_root().command
    commands = getattr(group, "commands", {})
    return {
        name: {p.name for p in command.params if p.param_type_name == "option"} - FLAG_ONLY
        for name, command in commands.items()
    }


def _reject_unknown(keys: Iterable[str], known: Iterable[str], path: Path, where: str) -> None:
    for key in keys:
        if key in known:
            continue
        if key in FLAG_ONLY:
            flag = "--" + key.replace("_", "-")
            raise ConfigError(f"{path}: {where} {key} can only be given as the flag {flag}")
        nearest = get_close_matches(key.replace("-", "_"), list(known), n=1)
        hint = f"did you mean {nearest[0]}?" if nearest else f"known: {', '.join(sorted(known))}"
        raise ConfigError(f"{path}: {where} has no key {key}", hint=hint)


def _as_typed(context: typer.Context, key: str, value: object, where: str) -> object:
    """Turn a TOML value into what the command line would have carried, and check it there."""
    option = next(p for p in context.command.params if p.name == key)
    is_flag = bool(getattr(option, "is_flag", False))
    if isinstance(value, bool) != is_flag:
        wanted = "true or false" if is_flag else "not true or false"
        raise ConfigError(f"{where} = {value!r}: must be {wanted}")
    items = value if isinstance(value, list) else [value]
    texts = [str(item) for item in cast("list[object]", items)]
    given = value if is_flag else texts if getattr(option, "multiple", False) else ",".join(texts)
    try:
        option.process_value(context, given)
    except typer.BadParameter as error:
        raise ConfigError(f"{where} = {value!r}: {error.message}") from error
    return given
