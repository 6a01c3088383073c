"""The errors a user can meet, each with its exit code and, where there is one, the next step."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Self

__all__ = [
    "ConfigError",
    "DeviceError",
    "ExportMismatchError",
    "GateFailedError",
    "InputError",
    "NnslimError",
    "NotFiniteError",
    "UnsupportedModelError",
    "VerificationError",
]

_SETTING = re.compile(r"\[\[([a-z]\w*(?:\.\w+)*)(?:=(.*?))?\]\]")


class NnslimError(Exception):
    """Say in one sentence what is wrong and where, with the numbers, and what to do next.

    A text names a setting as ``[[training.lr]]`` or, with a value, ``[[training.lr=0.1]]``: Python
    shows the field, the command line what its user writes (a flag, a variable, a key of a file).

    Attributes:
        raw: Message and hint with the settings still in brackets.
        exit_code: What the command line exits with: 2 for the user's input, 3 for the rest.

    Example:
        >>> print(InputError("[[data=x.npz]]: no such file", hint="check the path"))
        data=x.npz: no such file; check the path
    """

    exit_code = 3

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.raw = (message, hint)

    @property
    def message(self) -> str:
        """What is wrong, in one sentence without a full stop at the end."""
        return self.named(_as_field)[0]

    @property
    def hint(self) -> str | None:
        """The next step for the user, or None."""
        return self.named(_as_field)[1]

    @property
    def field(self) -> str | None:
        """Path of the setting that the message is about, or None."""
        mentioned = _SETTING.search(self.raw[0])
        return mentioned[1] if mentioned else None

    def named(self, name: Callable[[str, str | None], str]) -> tuple[str, str | None]:
        """Return message and hint, every setting written as ``name(path, value)`` writes it."""
        message, hint = self.raw
        return _render(message, name), None if hint is None else _render(hint, name)

    def at(self, place: str) -> Self:
        """Return the same error with the place where it happened before its message."""
        return type(self)(f"{place}: {self.raw[0]}", self.raw[1])

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


def _as_field(path: str, value: str | None) -> str:
    return path if value is None else f"{path}={value}"


def _render(text: str, name: Callable[[str, str | None], str]) -> str:
    return _SETTING.sub(lambda match: name(match[1], match[2]), text)


class ConfigError(NnslimError):
    """A flag, a configuration value or a combination of them cannot be used."""

    exit_code = 2


class InputError(NnslimError):
    """An input file, data set or model is missing, damaged or of the wrong kind."""

    exit_code = 2


class UnsupportedModelError(InputError):
    """The model does something that nnslim cannot represent; names the operator and its place."""


class DeviceError(NnslimError):
    """The device or execution provider that was asked for is not there."""


class ExportMismatchError(NnslimError):
    """The exported file does not compute what the network computes; no file is left behind."""


class VerificationError(NnslimError):
    """An edit failed the check "cut = masked"; nothing is written."""


class NotFiniteError(NnslimError):
    """A training met a loss or a weight that is NaN or infinite."""


class GateFailedError(NnslimError):
    """A limit that the user set was not met."""

    exit_code = 1
