"""For every setting a valid text that is not its default, made from its type and bounds."""

from __future__ import annotations

from functools import cache, partial
from pathlib import Path
from typing import Literal, get_args, get_origin

from nnslim.settings.commands import settings_by_command
from nnslim.settings.grow import GrowConfig
from nnslim.settings.option import AUTO
from nnslim.settings.prune import PruneConfig
from nnslim.settings.resolve import resolved
from nnslim.settings.tree import settings_of, value_at

CONFIGS = {"prune": PruneConfig, "grow": GrowConfig}
ALL = [
    (command, setting)
    for command, cls in settings_by_command().items()
    for setting in settings_of(cls)
]
IDS = [f"{command}-{setting.path}" for command, setting in ALL]

_READ = {
    "parse_limit": "37%",
    "parse_latency": "37%",
    "parse_share": "37%",
    "parse_count": "7",
    "parse_counts": "3,5",
    "parse_floats": "0.25,0.75",
    "parse_size": "5x7",
}
# A name of the right form: to their types, any text will do.
_NAMED = {"compute.device": "cpu", "session.device": "cpu"}
# What must be said too, where a setting has no meaning alone.
WITH = {"sparse.regularizer.strength": "sparse.regularizer.name=group_lasso"}


def another(command, setting):
    """Return a text that the setting takes, for another value than what holds without it."""
    facts, default = setting.option, setting.default
    if default is AUTO and command in CONFIGS and setting.path not in {"params", "macs", "size"}:
        default = value_at(_decided(command), setting.path)
    if setting.path in _NAMED:
        return _NAMED[setting.path]
    if facts.read is not None:
        reader = facts.read.func if isinstance(facts.read, partial) else facts.read
        return _READ[reader.__name__]
    return next(
        setting.text(value)
        for kind in get_args(_as_union(setting.kind))
        for value in _values(kind, facts, default)
        if value != default
    )


@cache
def _decided(command):
    return resolved(CONFIGS[command]())


def _as_union(kind):
    return kind | None if get_origin(kind) in {Literal, tuple} or isinstance(kind, type) else kind


def _values(kind, facts, default):
    """Some values of a type, within the bounds."""
    low = next((own for own in (facts.low, facts.above) if own is not None), 0)
    if get_origin(kind) is Literal:
        return reversed(get_args(kind))
    if kind is bool:
        return (True, False)
    if kind is int:
        return (
            (default + 1,)
            if isinstance(default, int) and default + 1 != facts.high
            else (low + 1, low + 2)
        )
    if kind is float:
        high = next((own for own in (facts.high, facts.below) if own is not None), low + 1)
        return (low + 0.25 * (high - low), low + 0.75 * (high - low))
    if kind in {str, Path}:
        return ("a/b",)
    return (("a/b",),) if kind == tuple[str, ...] else ()
