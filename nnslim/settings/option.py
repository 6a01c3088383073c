"""What a setting is: a field of a frozen dataclass that says all there is to say of it, once.

From these facts come the flags and their help, the keys of ``nnslim.toml``, the ``NNSLIM_*``
variables, ``--set`` and ``--settings``, the tables of docs/reference, and the check of each value.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Literal, get_args

__all__ = ["AUTO", "PANELS", "Auto", "Option", "flag", "option", "section"]

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
        panel: Where the flag stands in ``--help``; without it the class's ``panel``, or Expert.
        flag: Without dashes; True is the field's name, None is reached by ``--set`` only.
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
    panel: str = ""
    flag: str | Literal[True] | None = None
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


def flag(default: object, help: str, name: str | None = None, **facts: Any) -> Any:  # noqa: ANN401 - as `field`
    """Declare a setting that has a flag of its own, named as the field or otherwise."""
    return option(default, help, flag=name or True, **facts)


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
