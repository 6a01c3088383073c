"""Settings from keyword arguments: the names and values of the command line, in Python."""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from nnslim.errors import ConfigError
from nnslim.settings.tree import settings_of, with_values

__all__ = ["settings_from"]

Settings = TypeVar("Settings")


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
    by_name = {own.path: own for own in known} | {own.key: own for own in known}
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
