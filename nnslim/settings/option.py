"""What a setting is: a field of a frozen dataclass that says all there is to say of it, once.

From these facts come the flags and their help, the keys of ``nnslim.toml``, the ``NNSLIM_*``
variables, ``--set`` and ``--settings``, the tables of docs/reference, and the check of each value.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass, replace
from enum import Enum
from functools import cache
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from nnslim.errors import ConfigError

__all__ = [
    "AUTO",
    "PANELS",
    "Auto",
    "Option",
    "Setting",
    "check_fields",
    "is_auto",
    "option",
    "section",
    "settings_of",
    "value_at",
    "with_values",
]

Panel = Literal["Model and data", "Budget", "Method", "Training", "Output", "Expert"]
PANELS: tuple[str, ...] = get_args(Panel)


class Auto(Enum):
    """The value of a setting that ``nnslim.settings.resolved`` decides."""

    AUTO = "auto"

    def __repr__(self) -> str:
        return "AUTO"


AUTO: Any = Auto.AUTO


@dataclass(frozen=True)
class Option:
    """What a field says of itself, besides type and default.

    Attributes:
        help: One sentence that reads well alone.
        panel: Where the flag stands in ``--help``.
        flag: Without dashes; None for a setting that has none and is reached by ``--set``.
        short: One letter.
        metavar: What stands for the value in help; None takes it from the type.
        auto: With the default ``AUTO``: what decides, in words.
        low: Least value.
        high: Largest value.
        above: Values must be above this.
        below: Values must be below this.
        none: How None is written.
        read: Reads a text that the type alone does not explain; called with the text and with what
            names setting and text in an error.
        write: Writes a value as ``read`` reads it, where plain text does not.
        file: Whether a file or a variable may say it.
    """

    help: str
    panel: str = "Expert"
    flag: str | None = None
    short: str | None = None
    metavar: str | None = None
    auto: str | None = None
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    none: str = "none"
    read: Callable[[str, str], object] | None = None
    write: Callable[[Any], str] | None = None
    file: bool = True

    def problem(self, value: object) -> str | None:
        """Say what is wrong with a number; None where nothing is."""
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        if not math.isfinite(value):
            return "must be a finite number"
        least = self.low is None or value >= self.low
        above = self.above is None or value > self.above
        below = self.below is None or value < self.below
        if least and above and below and (self.high is None or value <= self.high):
            return None
        bounds = (
            (self.low, "at least"),
            (self.above, "above"),
            (self.high, "at most"),
            (self.below, "below"),
        )
        write = self.write or "{:g}".format
        return "must be " + " and ".join(
            f"{text} {write(b)}" for b, text in bounds if b is not None
        )


def option(default: object, help: str, **facts: Any) -> Any:  # noqa: ANN401 - as `field`
    """Declare a field that is a setting, with all that there is to say of it.

    Args:
        default: Of the field; a function makes one per instance.
        help: See ``Option``.
        **facts: Further fields of ``Option``.
    """
    metadata = {"option": Option(help, **facts)}
    if callable(default):
        return field(default_factory=default, metadata=metadata)
    return field(default=default, metadata=metadata)


def section(make: Callable[[], object], *, flat: bool = False) -> Any:  # noqa: ANN401 - as `field`
    """Declare a field that is itself settings; ``flat`` ones add nothing to the names in them."""
    return field(default_factory=make, metadata={"flat": flat})


@dataclass(frozen=True)
class Setting:
    """A setting in its place.

    Attributes:
        path: Its name, such as ``training.lr``.
        option: What the field says.
        kind: The field's type.
        default: Its default.
    """

    path: str
    option: Option
    kind: object
    default: object

    @property
    def key(self) -> str:
        """How files and variables name it: its flag's name, else its path."""
        return (self.option.flag or self.path).replace("-", "_")

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
            for kind in _members(self.kind)
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
            return ",".join(self.text(item) for item in value)  # pyright: ignore[reportUnknownVariableType]
        if isinstance(value, float):
            return f"{value:g}" if float(f"{value:g}") == value else str(value)
        return str(value)

    def read(self, text: str) -> object:
        """Read a value.

        Raises:
            ConfigError: It is none that this setting takes; says which it does.
        """
        said = f"[[{self.path}={text}]]"
        if text == "auto" and self.default is AUTO:
            return AUTO
        if text == self.option.none and {NoneType, object} & set(_members(self.kind)):
            return None
        if self.option.read is not None:
            value = self.option.read(text, said)
        else:
            value = _read(self.kind, text)
        if value is MISSING:
            raise ConfigError(f"{said}: must be {self._wanted()}")
        self.check(value)
        return value

    def check(self, value: object) -> None:
        """Refuse a number out of bounds, or a text that is none of the choices.

        Raises:
            ConfigError: Says what it may be.
        """
        if isinstance(value, str) and not _takes_text(self.kind, value):
            raise ConfigError(f"[[{self.path}={value}]]: must be {self._wanted()}")
        for item in value if isinstance(value, tuple) else (value,):  # pyright: ignore[reportUnknownVariableType]
            if problem := self.option.problem(item):
                raise ConfigError(f"[[{self.path}={self.text(value)}]]: {problem}")

    def _wanted(self) -> str:
        names = {
            int: "a whole number",
            float: "a number",
            bool: "true or false",
            NoneType: self.option.none,
        }
        wanted: list[str] = []
        for kind in _members(self.kind):
            if get_origin(kind) is Literal:
                wanted += map(str, get_args(kind))
            else:
                wanted.append(names.get(kind, self.metavar))
        if self.default is AUTO and "auto" not in wanted:
            wanted.append("auto")
        return f"{', '.join(wanted[:-1])} or {wanted[-1]}" if wanted[1:] else wanted[0]


def settings_of(cls: type, prefix: str = "") -> Iterator[Setting]:
    """Yield the settings of a dataclass in order, those of its sections in their places."""
    instance = cls()
    hints = _hints(cls)
    for own in fields(cls):
        default = getattr(instance, own.name)
        if (facts := own.metadata.get("option")) is not None:
            yield Setting(prefix + own.name, facts, hints[own.name], default)
        elif "entries" in own.metadata:
            for key, entry in own.metadata["entries"].items():
                yield Setting(prefix + key, entry, object, AUTO)
        elif "flat" in own.metadata:
            inner = prefix if own.metadata["flat"] else f"{prefix}{own.name}."
            for setting in settings_of(type(default), inner):
                yield replace(setting, default=value_at(default, setting.path.removeprefix(inner)))


def value_at(settings: object, path: str) -> object:
    """Return the value of a setting; flat sections are looked through."""
    head, _, rest = path.partition(".")
    for own in _fields(settings):
        if head in own.metadata.get("entries", ()):
            entries = getattr(settings, own.name)
            return AUTO if entries is AUTO else entries.get(head)
        if own.name == head and not own.metadata.get("flat"):
            value = getattr(settings, head)
            return value_at(value, rest) if rest else value
    for own in _fields(settings):
        if own.metadata.get("flat") and _has(getattr(settings, own.name), head):
            return value_at(getattr(settings, own.name), path)
    raise KeyError(path)


def with_values(settings: Any, values: Mapping[str, object]) -> Any:  # noqa: ANN401 - any settings
    """Return settings with other values, by path."""
    changes: dict[str, object] = {}
    for own in _fields(settings):
        inner = getattr(settings, own.name)
        if own.name in values:
            changes[own.name] = values[own.name]
        elif "entries" in own.metadata:
            said = {key: values[key] for key in own.metadata["entries"] if key in values}
            kept = {**({} if inner is AUTO else inner), **said}
            if said:
                changes[own.name] = {key: v for key, v in kept.items() if v is not None}
        elif "flat" in own.metadata:
            start = "" if own.metadata["flat"] else f"{own.name}."
            mine = {
                path.removeprefix(start): value
                for path, value in values.items()
                if path.startswith(start) and (start or _has(inner, path.partition(".")[0]))
            }
            if mine:
                changes[own.name] = with_values(inner, mine)
    return replace(settings, **changes)


def is_auto(settings: object, path: str) -> bool:
    """Whether a setting is still to be decided."""
    return value_at(settings, path) is AUTO


def check_fields(settings: object, like: type | None = None) -> None:
    """Check every value against its field's bounds and choices; for ``__post_init__``.

    Args:
        settings: An instance of a settings class.
        like: The class whose fields of the same names say the bounds; its own by default.

    Raises:
        ConfigError: Names the setting, its value and what it may be.
    """
    cls = like or type(settings)
    start, hints = getattr(cls, "SECTION", ""), _hints(cls)
    for own in fields(cls):
        facts, value = own.metadata.get("option"), getattr(settings, own.name, AUTO)
        if facts is not None and value is not AUTO:
            Setting(start + own.name, facts, hints[own.name], own.default).check(value)


@cache  # evaluating them takes most of the time that a settings object takes
def _hints(cls: type) -> Mapping[str, object]:
    return get_type_hints(cls)


def _fields(settings: object) -> tuple[Field[Any], ...]:
    return fields(settings) if is_dataclass(settings) else ()


def _has(settings: object, name: str) -> bool:
    return any(
        _has(getattr(settings, own.name), name)
        if own.metadata.get("flat")
        else name in {own.name, *own.metadata.get("entries", ())}
        for own in _fields(settings)
    )


def _members(kind: object) -> tuple[Any, ...]:
    """The types of a union, or the one type."""
    return get_args(kind) if get_origin(kind) not in {Literal, tuple, None} else (kind,)


def _member(kind: object, origin: type) -> object:
    return next((member for member in _members(kind) if get_origin(member) is origin), None)


def _takes_text(kind: object, value: str) -> bool:
    return (
        any(
            member is str or value in get_args(member)
            for member in _members(kind)
            if member is str or get_origin(member) is Literal
        )
        or kind is object
    )


def _read(kind: object, text: str) -> object:
    """Read a text as the first type of a union that takes it; MISSING where none does."""
    for member in _members(kind):
        value = _read_as(member, text)
        if value is not MISSING:
            return value
    return MISSING


def _read_as(kind: Any, text: str) -> object:  # noqa: ANN401 - a type
    if get_origin(kind) is Literal:
        return text if text in get_args(kind) else MISSING
    if kind is bool:
        return {
            "true": True,
            "1": True,
            "yes": True,
            "on": True,
            "false": False,
            "0": False,
            "no": False,
            "off": False,
        }.get(text.lower(), MISSING)
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
