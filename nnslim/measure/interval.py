"""The interval of a ratio that was measured in a few sessions, each in several rounds.

Sessions differ by luck, which no number of rounds averages out, so they are what counts.
A bootstrap over sessions, then rounds, knows both, but from three to five sessions alone it
promises too much: it never sees the sessions that were not opened. Student's t does, and knows
nothing of rounds. The interval takes the wider of the two at each end; how often it holds is
simulated in tests/measure/test_coverage.py.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["median_of_medians"]

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.96


def median_of_medians(
    sessions: Sequence[np.ndarray], draws: int = 10_000, seed: int = 0
) -> tuple[float, float, float]:
    """Return the median of the sessions' medians, and the ends of its 95 % interval.

    Args:
        sessions: What each session measured, round by round: (n_rounds,) each, at least one. A
            single session has an interval of its rounds only.
        draws: Bootstrap draws.
        seed: Of the bootstrap.

    Example:
        >>> low, high = median_of_medians([np.array([1.0, 3.0, 2.0])] * 3)[1:]
        >>> 1 <= low < 2 < high <= 3
        True
    """
    medians = np.array([np.median(values) for values in sessions])
    centre = float(np.median(medians))
    low, high = np.percentile(_resampled(sessions, draws, seed), (2.5, 97.5))
    if len(sessions) > 1:
        error = float(medians.std(ddof=1)) / math.sqrt(len(sessions))
        half = _student(len(sessions) - 1) * error
        low, high = min(low, centre - half), max(high, centre + half)
    return centre, float(low), float(high)


def _student(freedom: int) -> float:
    """Exact up to ten degrees of freedom, within 0.01 above."""
    if freedom <= len(_STUDENT):
        return _STUDENT[freedom - 1]
    return _NORMAL + 2.5 / freedom


def _resampled(sessions: Sequence[np.ndarray], draws: int, seed: int) -> np.ndarray:
    """Medians of medians of sessions and rounds drawn with replacement, (draws,).

    The median of n draws from n sorted values is the value at n times the median of n uniform
    numbers, and those are Beta distributed: one draw for each session instead of n.
    """
    generator = np.random.default_rng(seed)
    counts = np.array([len(values) for values in sessions])
    rounds = np.full((len(sessions), int(counts.max())), np.nan)
    for row, values in zip(rounds, sessions, strict=True):
        row[: len(values)] = np.sort(values)
    chosen = generator.integers(0, len(sessions), (draws, len(sessions)))
    n = counts[chosen]
    lower = generator.beta((n + 1) // 2, n // 2 + 1)
    # For an even n the median is halfway to the next larger of the n uniform numbers.
    upper = lower + (1 - lower) * generator.beta(1, np.maximum(n // 2, 1))
    upper = np.where(n % 2, lower, upper)
    drawn = rounds[chosen, (n * lower).astype(int)] + rounds[chosen, (n * upper).astype(int)]
    return np.median(drawn / 2, axis=1)
