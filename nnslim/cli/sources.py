"""Where the value of a setting comes from: flag or --set > ``NNSLIM_*`` > file > default."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import takewhile
from typing import TYPE_CHECKING, Any, Literal, cast

from nnslim.cli.config import Entry, find_file
from nnslim.errors import ConfigError
from nnslim.settings.commands import settings_by_command
from nnslim.settings.moved import moved_names
from nnslim.settings.tree import settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.settings.setting import Setting

__all__ = ["Origin", "Sources", "refuse_moved_flags"]

Kind = Literal["flag", "set", "variable", "file"]

# What a command line has and no setting is.
_NO_SETTINGS = frozenset({"config", "help", "set", "settings", "version"})


@dataclass(frozen=True)
class Origin:
    """Where a value was written, in words such as ``nnslim.toml: [prune] epochs``."""

    kind: Kind
    where: str


class Sources:
    """The settings of one call of a command, and where each was said.

    Attributes:
        settings: All that the command has.
        file: The configuration file that was used, if any.
        origins: By path, for what was said at all.
    """

    def __init__(self, command: str) -> None:
        self.command = command
        self.settings = settings = list(settings_of(settings_by_command()[command]))
        self.file: Path | None = None
        self.origins: dict[str, Origin] = {}
        self._by_name = {own.path: own for own in settings} | {own.key: own for own in settings}

    def values(
        self, given: dict[str, Any], assignments: Iterable[str], config: Path | None
    ) -> dict[str, object]:
        """Read every value that somebody gave, by path; what was read is taken out of ``given``.

        Raises:
            ConfigError: A name that is not known, or a value that its setting does not take.
        """
        values: dict[str, object] = {}
        self.file, tables = find_file(config)
        for command, entries in tables.items():
            reader = self if command == self.command else Sources(command)
            for entry in entries:
                setting = reader._in_file(entry)  # a mistake in any table is one
                if reader is self:
                    self._note(values, setting, entry.value, Origin("file", entry.where))
        self._read_variables(values)
        said: dict[str, object] = {}
        for setting in self.settings:
            value = given.pop(setting.key, None) if setting.option.flag else None
            if value is not None:
                origin = Origin("flag", f"--{setting.option.flag}")
                self._note(said, setting, value, origin)
        for name, value in self._assigned(assignments):
            setting = self._named(name, f"--set {name}")
            if setting.path in said:
                message = f"[[{setting.path}]] and --set {name} say the same"
                raise ConfigError(message, hint="give one")
            self._note(said, setting, value, Origin("set", f"--set {setting.path}"))
        return values | said

    def name(self, path: str, value: str | None) -> str:
        """Name a setting as its user does; see ``NnslimError.named``."""
        setting = self._by_name.get(path)
        if setting is None:
            return path if value is None else f"{path}={value}"
        origin = self.origins.get(setting.path)
        if origin is None:
            flag = setting.option.flag
            origin = Origin("flag", f"--{flag}") if flag else Origin("set", f"--set {setting.path}")
        if value is None or (setting.switch and value == "true" and origin.kind == "flag"):
            return origin.where
        between = {"flag": " ", "set": "=", "variable": "=", "file": " = "}[origin.kind]
        return f"{origin.where}{between}{value}"

    def _note(
        self, values: dict[str, object], setting: Setting, value: object, origin: Origin
    ) -> None:
        """Read a value, whose errors then name where it was written."""
        self.origins[setting.path] = origin
        values[setting.path] = _read(setting, value)

    def _read_variables(self, values: dict[str, object]) -> None:
        known = {_variable(own.key) for own in self.settings}
        for old, path in moved_names(self.command).items():
            variable = _variable(old)
            if variable in os.environ and variable not in known:
                hint = f"set {_variable(path)}"
                raise ConfigError(f"{variable} is {_variable(path)} now", hint=hint)
        for setting in self.settings:
            variable = _variable(setting.key)
            if setting.option.file and (text := os.environ.get(variable)):
                value = text.split() if setting.repeatable else text
                self._note(values, setting, value, Origin("variable", variable))

    def _in_file(self, entry: Entry) -> Setting:
        known = self._by_name.get(entry.name)
        if entry.name in _NO_SETTINGS or (known is not None and not known.option.file):
            flag = f"--{entry.name if known is None else known.option.flag}"
            raise ConfigError(f"{entry.where} can only be given as the flag {flag}")
        setting = self._named(entry.name, entry.where, in_file=True)
        if isinstance(entry.value, bool) != setting.switch and not (
            isinstance(entry.value, bool) and "true" in setting.metavar
        ):
            wanted = "true or false" if setting.switch else "not true or false"
            raise ConfigError(f"{entry.where} = {entry.value!r}: must be {wanted}")
        if isinstance(entry.value, dict):
            raise ConfigError(f"{entry.where} = {entry.value!r}: must not be a table")
        if setting.path in self.origins:
            message = f"{entry.where} and {self.origins[setting.path].where} say the same"
            raise ConfigError(message, hint="keep one of the two")
        return setting

    def _assigned(self, assignments: Iterable[str]) -> Iterator[tuple[str, object]]:
        repeated: dict[str, list[str]] = {}
        for assignment in assignments:
            name, equals, value = assignment.partition("=")
            name = name.strip().replace("-", "_")
            if not equals:
                raise ConfigError(f"--set {assignment}: expected NAME=VALUE")
            setting = self._named(name, f"--set {name}")
            if setting.repeatable:
                repeated.setdefault(name, []).extend(value.split(",") if value else [])
            else:
                yield name, value.strip()
        yield from repeated.items()

    def _named(self, name: str, where: str, *, in_file: bool = False) -> Setting:
        """Return the setting of a name, or say which is the nearest, or where it went."""
        if (setting := self._by_name.get(name)) is not None:
            return setting
        moved = moved_names(self.command).get(name)
        if moved is not None:
            table, _, key = f"{self.command}.{moved}".rpartition(".")
            hint = f"write {key} in [{table}]" if in_file else f"write {moved}"
            raise ConfigError(f"{where}: {name} is {moved} now", hint=hint)
        tables = {own.path.rpartition(".")[0] for own in self.settings} if in_file else set[str]()
        if name in tables:
            raise ConfigError(f"{where}: must be a table, written as [{self.command}.{name}]")
        known = [*self._by_name, *tables]
        names = {own.rpartition(".")[2]: own for own in reversed(known)} | {
            own: own for own in known
        }
        near = get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {names[near[0]]}?" if near else "--settings lists them all"
        raise ConfigError(f"{where}: there is no such setting", hint=hint)


def refuse_moved_flags(arguments: Sequence[str]) -> None:
    """Refuse a flag that went, before the command line is read.

    Raises:
        ConfigError: Names what to write instead.
    """
    moved = moved_names(arguments[0]) if arguments else {}
    for argument in takewhile(lambda text: text != "--", arguments[1:]):
        flag, _, value = argument.partition("=")
        name = flag.removeprefix("--").removeprefix("no-").replace("-", "_")
        if flag.startswith("--") and name in moved:
            if flag.startswith("--no-"):
                value = "0" if name == "distill" else "false"
            raise ConfigError(
                f"{flag} is a setting without a flag now",
                hint=f"write --set {moved[name]}={value or 'VALUE'}",
            )


def _read(setting: Setting, value: object) -> object:
    """Read a text, a switch or a list of texts."""
    if setting.repeatable:
        items = value if isinstance(value, (list, tuple)) else [value]
        return tuple(str(item) for item in cast("Sequence[object]", items))
    if isinstance(value, bool):
        return value
    if isinstance(value, list):
        value = ",".join(str(item) for item in cast("list[object]", value))
    return setting.read(str(value))


def _variable(name: str) -> str:
    return f"NNSLIM_{name.replace('.', '_').upper()}"
