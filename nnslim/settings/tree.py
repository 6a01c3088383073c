"""Settings within settings: what there is, by path, and the base class that checks its fields."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import Field, fields, is_dataclass, replace
from difflib import get_close_matches
from functools import cache
from typing import Any, ClassVar, TypeVar, get_type_hints

from nnslim.errors import ConfigError
from nnslim.settings.budget import LatencyBudget, Limit
from nnslim.settings.option import AUTO, Option
from nnslim.settings.parse import (
    parse_counts,
    parse_floats,
    parse_latency,
    parse_limit,
    parse_size,
    write_size,
)
from nnslim.settings.setting import Setting, members_of

__all__ = ["Checked", "check_fields", "settings_from", "settings_of", "value_at", "with_values"]

Settings = TypeVar("Settings")

# What an option of these types need not say.
_BY_TYPE: Mapping[object, Option] = {
    Limit: Option("", metavar="LIMIT", read=parse_limit),
    LatencyBudget: Option("", metavar="LIMIT", read=parse_latency),
    tuple[int, ...]: Option("", metavar="N,...", read=parse_counts),
    tuple[float, ...]: Option("", metavar="X,X,X", read=parse_floats),
    tuple[int, int]: Option("", metavar="N|HxW", read=parse_size, write=write_size),
}


class Checked:
    """Base of the settings: every value is checked against its field's bounds and choices.

    A subclass says in which panel of ``--help`` its flags stand, and how the paths of its settings
    begin in errors: ``class TrainConfig(Checked, panel="Training", section="training.")``.

    Raises:
        ConfigError: Names the setting, its value and what it may be.
    """

    panel: ClassVar[str] = "Expert"
    section: ClassVar[str] = ""

    def __init_subclass__(cls, *, panel: str | None = None, section: str | None = None) -> None:
        cls.panel, cls.section = panel or cls.panel, section or cls.section

    def __post_init__(self) -> None:
        check_fields(self)


def settings_of(cls: type, prefix: str = "") -> Iterator[Setting]:
    """Yield the settings of a dataclass in order, those of its sections in their places."""
    instance = cls()
    for item in fields(cls):
        default = getattr(instance, item.name)
        if (setting := _own_settings(cls).get(item.name)) is not None:
            yield replace(setting, path=prefix + item.name, default=default)
        elif "entries" in item.metadata:
            for key, entry in item.metadata["entries"].items():
                yield Setting(prefix + key, entry, object, AUTO)
        elif "flat" in item.metadata:
            inner = prefix if item.metadata["flat"] else f"{prefix}{item.name}."
            for setting in settings_of(type(default), inner):
                yield replace(setting, default=value_at(default, setting.path.removeprefix(inner)))


def value_at(settings: object, path: str) -> object:
    """Return the value of a setting; flat sections are looked through."""
    head, _, rest = path.partition(".")
    for item in _fields(settings):
        if head in item.metadata.get("entries", ()):
            entries = getattr(settings, item.name)
            return AUTO if entries is AUTO else entries.get(head)
        if item.name == head and not item.metadata.get("flat"):
            value = getattr(settings, head)
            return value_at(value, rest) if rest else value
    for item in _fields(settings):
        if item.metadata.get("flat") and _has(getattr(settings, item.name), head):
            return value_at(getattr(settings, item.name), path)
    raise KeyError(path)


def with_values(settings: Any, values: Mapping[str, object]) -> Any:  # noqa: ANN401 - any settings
    """Return settings with other values, by path."""
    changes: dict[str, object] = {}
    for item in _fields(settings):
        inner = getattr(settings, item.name)
        if item.name in values:
            changes[item.name] = values[item.name]
        elif "entries" in item.metadata:
            given = {key: values[key] for key in item.metadata["entries"] if key in values}
            kept = {**({} if inner is AUTO else inner), **given}
            if given:
                changes[item.name] = {key: v for key, v in kept.items() if v is not None}
        elif "flat" in item.metadata:
            start = "" if item.metadata["flat"] else f"{item.name}."
            mine = {
                path.removeprefix(start): value
                for path, value in values.items()
                if path.startswith(start) and (start or _has(inner, path.partition(".")[0]))
            }
            if mine:
                changes[item.name] = with_values(inner, mine)
    return replace(settings, **changes)


def settings_from(settings: Settings, keywords: Mapping[str, Any]) -> Settings:
    """Return settings in which keywords say otherwise.

    Args:
        settings: What holds for the rest.
        keywords: By name as the command line has them, ``sparse_epochs`` or ``max_drop``, or by
            path with two underscores for each dot, ``training__grad_clip``. A text is read as on
            the command line, such as ``"50%"``; other values are taken as they are.

    Raises:
        ConfigError: A name that there is not, or a value that its setting does not take.

    Example:
        >>> from nnslim.settings.prune import PruneConfig
        >>> config = settings_from(PruneConfig(), {"params": "40%", "training__ema": 0.99})
        >>> config.limits["params"].amount, config.training.ema
        (0.4, 0.99)
    """
    known = list(settings_of(type(settings)))
    by_name = {item.path: item for item in known} | {item.key: item for item in known}
    values: dict[str, object] = {}
    for keyword, value in keywords.items():
        name = keyword.replace("__", ".")
        if name not in by_name:
            near = get_close_matches(name, by_name, n=1, cutoff=0.5)
            hint = f"did you mean {near[0].replace('.', '__')}?" if near else None
            raise ConfigError(f"there is no setting {keyword}", hint=hint)
        setting = by_name[name]
        if isinstance(value, str):
            values[setting.path] = (value,) if setting.repeatable else setting.read(value)
        else:
            plain = tuple(value) if isinstance(value, list) else value
            setting.check(plain)
            values[setting.path] = plain
    return with_values(settings, values)


def check_fields(settings: object, like: type | None = None) -> None:
    """Check every value against its field's bounds and choices; for ``__post_init__``.

    Args:
        settings: An instance of a settings class.
        like: The class whose fields of the same names say the bounds; its own by default.

    Raises:
        ConfigError: Names the setting, its value and what it may be.
    """
    for name, setting in _own_settings(like or type(settings)).items():
        if (value := getattr(settings, name, AUTO)) is not AUTO:
            setting.check(value)


@cache  # evaluating type hints takes most of the time that a settings object takes
def _own_settings(cls: Any) -> Mapping[str, Setting]:  # noqa: ANN401 - a class of settings
    """The settings that are a class's own fields, with what class, name and type say of them."""
    hints, result = get_type_hints(cls), dict[str, Setting]()
    for item in fields(cls):
        if (given := item.metadata.get("option")) is not None:
            kind = hints[item.name]
            known = (_BY_TYPE[member] for member in members_of(kind) if member in _BY_TYPE)
            by_type = next(known, given)
            option = replace(
                given,
                panel=given.panel or cls.panel,
                flag=item.name.replace("_", "-") if given.flag is True else given.flag,
                metavar=given.metavar or by_type.metavar,
                read=given.read or by_type.read,
                write=given.write or by_type.write,
            )
            result[item.name] = Setting(cls.section + item.name, option, kind, item.default)
    return result


def _fields(settings: object) -> tuple[Field[Any], ...]:
    return fields(settings) if is_dataclass(settings) else ()


def _has(settings: object, name: str) -> bool:
    return any(
        _has(getattr(settings, item.name), name)
        if item.metadata.get("flat")
        else name in {item.name, *item.metadata.get("entries", ())}
        for item in _fields(settings)
    )
