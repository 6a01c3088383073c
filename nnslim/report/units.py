"""Numbers for people: three significant figures, and a unit on each."""

from __future__ import annotations

__all__ = ["count", "milliseconds", "percent", "scaled", "size"]


def count(value: int) -> str:
    """Write an exact number with separators.

    Example:
        >>> count(269722)
        '269,722'
    """
    return f"{value:,}"


def scaled(value: float) -> str:
    """Write three significant figures and k, M, G or T, in steps of 1000.

    Example:
        >>> scaled(40_551_000), scaled(999_999), scaled(12)
        ('40.6 M', '1.00 M', '12')
    """
    for prefix in ("", "k", "M", "G"):
        if abs(value) < 999.5:
            return f"{_three(value, exact=not prefix)} {prefix}".rstrip()
        value /= 1000
    return f"{_three(value)} T"


def size(n_bytes: int) -> str:
    """Write a file size in B, kB, MB, ... of 1000.

    Example:
        >>> size(1_083_123), size(12)
        ('1.08 MB', '12 B')
    """
    text = scaled(n_bytes)
    return f"{text}B" if text[-1].isalpha() else f"{text} B"


def milliseconds(value: float) -> str:
    """Write a time without its unit, which stands in the heading.

    Example:
        >>> milliseconds(1.23456), milliseconds(0.0123), milliseconds(123.4)
        ('1.23', '0.0123', '123')
    """
    return _three(value)


def percent(value: float) -> str:
    """Write a percentage with two decimals: what accuracies of 10,000 images resolve.

    Example:
        >>> percent(91.73)
        '91.73'
    """
    return f"{value:.2f}"


def _three(value: float, *, exact: bool = False) -> str:
    if exact and value == int(value):
        return str(int(value))
    # "#" keeps the zeros that say how exact it is, and a point that stands for nothing.
    text = f"{value:#.3g}"
    return f"{value:.0f}" if "e" in text else text.removesuffix(".")
