"""A setting in its place: how its value is read from text, checked and written."""

from __future__ import annotations

from dataclasses import MISSING, dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin

from nnslim.errors import ConfigError
from nnslim.settings.option import AUTO, Auto, Option

__all__ = ["Setting", "members_of"]


@dataclass(frozen=True)
class Setting:
    """A setting in its place: its path, such as ``training.lr``, and what its field says of it."""

    path: str
    option: Option
    kind: object
    default: object

    @property
    def key(self) -> str:
        """How files and variables name it: its flag's name, else its path."""
        return str(self.option.flag or self.path).replace("-", "_")

    @property
    def switch(self) -> bool:
        """Whether it is true or false and nothing else."""
        return self.kind is bool

    @property
    def repeatable(self) -> bool:
        """Whether it is a list of texts, each given on its own."""
        return get_args(self.kind) == (str, ...) or _member(self.kind, tuple) == tuple[str, ...]

    @property
    def metavar(self) -> str:
        """What stands for its value in help."""
        if self.option.metavar:
            return self.option.metavar
        names = {int: "N", float: "X", str: "TEXT", bool: "true|false"}
        shown = [
            "|".join(map(str, get_args(kind))) if get_origin(kind) is Literal else names[kind]
            for kind in members_of(self.kind)
            if get_origin(kind) is Literal or kind in names
        ]
        return "|".join(shown) or "VALUE"

    def text(self, value: object) -> str:
        """Write a value as ``--set`` reads it."""
        if value is None or isinstance(value, (bool, Auto)):
            words = {None: self.option.none, AUTO: "auto"}
            return words.get(value, str(value).lower())
        if self.option.write is not None:
            return self.option.write(value)
        if isinstance(value, tuple):
            return ",".join(self.text(item) for item in value)
        if isinstance(value, float):
            return f"{value:g}" if float(f"{value:g}") == value else str(value)
        return str(value)

    def read(self, text: str) -> object:
        """Read a value.

        Raises:
            ConfigError: It is none that this setting takes; says which it does.
        """
        name = f"[[{self.path}={text}]]"
        if text == "auto" and self.default is AUTO:
            return AUTO
        if text == self.option.none and {NoneType, object} & set(members_of(self.kind)):
            return None
        read = self.option.read
        value = _read(self.kind, text) if read is None else read(text, name)
        if value is MISSING:
            raise ConfigError(f"{name}: must be {self._wanted()}")
        self.check(value)
        return value

    def check(self, value: object) -> None:
        """Refuse a number out of bounds, or a text that is none of the choices.

        Raises:
            ConfigError: Says what it may be.
        """
        if isinstance(value, str) and not _takes_text(self.kind, value):
            raise ConfigError(f"[[{self.path}={value}]]: must be {self._wanted()}")
        for item in value if isinstance(value, tuple) else (value,):
            if problem := self.option.problem(item):
                raise ConfigError(f"[[{self.path}={self.text(value)}]]: {problem}")

    def _wanted(self) -> str:
        names: dict[type, str] = {int: "a whole number", float: "a number", bool: "true or false"}
        names[NoneType] = self.option.none
        wanted: list[str] = []
        for kind in members_of(self.kind):
            if get_origin(kind) is Literal:
                wanted += map(str, get_args(kind))
            else:
                wanted.append(names.get(kind, self.metavar))
        if self.default is AUTO and "auto" not in wanted:
            wanted.append("auto")
        return f"{', '.join(wanted[:-1])} or {wanted[-1]}" if wanted[1:] else wanted[0]


def members_of(kind: object) -> tuple[Any, ...]:
    """Return the types of a union, or the one type."""
    return get_args(kind) if get_origin(kind) not in {Literal, tuple, None} else (kind,)


def _member(kind: object, origin: type) -> object:
    return next((member for member in members_of(kind) if get_origin(member) is origin), None)


def _takes_text(whole: object, value: str) -> bool:
    members = members_of(whole)
    choices = [
        own for member in members if get_origin(member) is Literal for own in get_args(member)
    ]
    return str in members or object in members or value in choices


def _read(kind: object, text: str) -> object:
    """Read a text as the first type of a union that takes it; MISSING where none does."""
    for member in members_of(kind):
        value = _read_as(member, text)
        if value is not MISSING:
            return value
    return MISSING


def _read_as(kind: Any, text: str) -> object:  # noqa: ANN401 - a type
    if get_origin(kind) is Literal:
        return text if text in get_args(kind) else MISSING
    if kind is bool:
        on, off = ("true", "1", "yes", "on"), ("false", "0", "no", "off")
        return text.lower() in on if text.lower() in on + off else MISSING
    if get_origin(kind) is tuple:
        item = get_args(kind)[0]
        parts = tuple(_read_as(item, part.strip()) for part in text.split(",")) if text else ()
        return MISSING if MISSING in parts else parts
    if kind is NoneType:
        return MISSING
    try:
        return kind(text)
    except (TypeError, ValueError):
        return MISSING
