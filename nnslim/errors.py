"""The errors a user can meet, each with its exit code and, where there is one, the next step."""

from __future__ import annotations

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


class NnslimError(Exception):
    """Say in one sentence what is wrong and where, with the numbers, and what to do next.

    Attributes:
        message: What is wrong, in one sentence without a full stop at the end.
        hint: The next step for the user, or None.
        exit_code: What the command line exits with: 2 for the user's input, 3 for the rest.

    Example:
        >>> print(InputError("weights.pt: no such file", hint="check the path"))
        weights.pt: no such file; check the path
    """

    exit_code = 3

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message if self.hint is None else f"{self.message}; {self.hint}"


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
