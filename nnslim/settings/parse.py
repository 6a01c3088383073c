"""Read values that are written as text: budgets, lists of numbers and sizes.

Every reader takes the text, and what names the setting and the text in an error.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation

from nnslim.errors import ConfigError
from nnslim.settings.budget import LatencyBudget, Limit

__all__ = [
    "parse_count",
    "parse_counts",
    "parse_floats",
    "parse_latency",
    "parse_limit",
    "parse_share",
    "parse_size",
    "write_share",
    "write_size",
]

_SUFFIXES = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}
_NUMBER = re.compile(r"(\d[\d_]*(?:\.\d+)?)\s*(%|[kKMG]?)")


def parse_limit(text: str, name: str, *, most: int = 100) -> Limit:
    """Read ``50%``, ``130k``, ``1.5M`` or ``271098``; a share is at most ``most`` percent.

    Raises:
        ConfigError: The text is none of these, or outside ``0% < x <= most`` or ``1 <= x``.

    Example:
        >>> parse_limit("1.5M", "--params 1.5M")
        Limit(amount=1500000, relative=False)
    """
    match = _NUMBER.fullmatch(text.strip())
    if match is None:
        raise ConfigError(
            f"{name}: neither a share nor a number",
            hint="write a share such as 50% or a number such as 271098, 130k or 1.5M",
        )
    number, unit = Decimal(match[1]), match[2]
    if unit == "%":
        if not 0 < number <= most:
            raise ConfigError(f"{name}: the share must be above 0% and at most {most}%")
        return Limit(float(number / 100), relative=True)
    amount = number * _SUFFIXES[unit]
    if amount < 1 or amount != int(amount):
        raise ConfigError(
            f"{name}: what is no share must be a whole number of at least 1",
            hint=f"write {100 * number}% for that share" if 0 < number <= 1 else None,
        )
    return Limit(int(amount), relative=False)


def parse_latency(text: str, name: str) -> LatencyBudget:
    """Read ``60%`` or ``1.5ms``.

    Raises:
        ConfigError: The text is neither, or not above 0.

    Example:
        >>> str(parse_latency("1.5ms", "--latency 1.5ms"))
        '1.5ms'
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(%|ms)", text.strip())
    if match is None:
        raise ConfigError(f"{name}: not a latency", hint="write a share such as 60% or 1.5ms")
    number = float(match[1])
    relative = match[2] == "%"
    return LatencyBudget(number / 100 if relative else number, relative)


def parse_share(text: str, name: str) -> float:
    """Read a share such as ``60%``.

    Raises:
        ConfigError: The text is none, or not above 0% and at most 100%.

    Example:
        >>> parse_share("60%", "seed_network.share=60%")
        0.6
    """
    limit = parse_limit(text, name)
    if not limit.relative:
        raise ConfigError(f"{name}: not a share", hint="write one such as 60%")
    return limit.amount


def write_share(share: float) -> str:
    """Write a share as ``parse_share`` reads it.

    Example:
        >>> write_share(0.6)
        '60%'
    """
    return str(Limit(share, relative=True))


def parse_count(text: str, name: str) -> int:
    """Read a number such as ``140k``, not a share.

    Raises:
        ConfigError: The text is no whole number of at least 1.

    Example:
        >>> parse_count("140k", "--max-params 140k")
        140000
    """
    match = _NUMBER.fullmatch(text.strip())
    amount = Decimal(match[1]) * _SUFFIXES[match[2]] if match and match[2] != "%" else Decimal(0)
    if amount < 1 or amount != int(amount):
        raise ConfigError(f"{name}: must be a whole number of at least 1, such as 140k")
    return int(amount)


def parse_counts(text: str, name: str) -> tuple[int, ...]:
    """Read whole numbers of at least 1, separated by commas, such as ``1,32``.

    Raises:
        ConfigError: A part is not such a number.

    Example:
        >>> parse_counts("1,32", "--batch-size 1,32")
        (1, 32)
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isascii() and part.isdecimal() and int(part) > 0 for part in parts):
        raise ConfigError(f"{name}: must be whole numbers of at least 1, such as 1,32")
    return tuple(int(part) for part in parts)


def parse_floats(text: str, name: str) -> tuple[float, ...]:
    """Read finite numbers separated by commas, such as ``0.485,0.456,0.406``.

    Raises:
        ConfigError: A part is not a finite number.

    Example:
        >>> parse_floats("0.5, 0.25", "--std 0.5,0.25")
        (0.5, 0.25)
    """
    try:
        numbers = [Decimal(part.strip()) for part in text.split(",")]
    except InvalidOperation:
        numbers = [Decimal("nan")]
    if not all(number.is_finite() for number in numbers):
        raise ConfigError(f"{name}: must be numbers separated by commas, such as 0.5,0.5,0.5")
    return tuple(float(number) for number in numbers)


def parse_size(text: str, name: str) -> tuple[int, int]:
    """Read a height and a width in pixels: ``224`` for a square, or ``192x256``.

    Raises:
        ConfigError: The text is not one or two whole numbers of at least 1.

    Example:
        >>> parse_size("192x256", "--input-size 192x256")
        (192, 256)
    """
    match = re.fullmatch(r"([1-9][0-9]*)(?:x([1-9][0-9]*))?", text.strip())
    if match is None:
        raise ConfigError(f"{name}: must be pixels such as 224, or HEIGHTxWIDTH")
    return int(match[1]), int(match[2] or match[1])


def write_size(size: tuple[int, int]) -> str:
    """Write a height and a width as ``parse_size`` reads them.

    Example:
        >>> write_size((192, 256))
        '192x256'
    """
    return f"{size[0]}x{size[1]}"
