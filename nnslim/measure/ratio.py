"""A ratio of two latencies with its interval, from what pairs of sessions measured.

Sessions differ by luck, which no number of rounds averages out, so they are what counts.
A bootstrap over sessions, then rounds, knows both, but from three to five sessions alone it
promises too much: it never sees the sessions that were not opened. Student's t does, and knows
nothing of rounds. The interval takes the wider of the two at each end; how often it holds is
simulated in tests/measure/test_coverage.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from nnslim.measure.latency import Latency

__all__ = [
    "LatencyRatio",
    "PairedRatio",
    "Stop",
    "log_ratios",
    "median_of_medians",
    "paired_ratio",
]

Stop = Literal["width", "budget", "pairs"]

# 97.5 % quantiles of Student's t with 1, 2, ... degrees of freedom.
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)
_NORMAL = 1.96


@dataclass(frozen=True)
class PairedRatio:
    """Latency of a candidate as a share of its parent's.

    Attributes:
        ratio: Median over the pairs of the median over the rounds.
        low: Lower end of the interval that holds the true ratio 19 times out of 20.
        high: Its upper end.
        parent_ms: Median call of the parent, over all pairs.
        candidate_ms: The same of the candidate.
        n_pairs: Fresh pairs of sessions.
        n_rounds: Rounds in all.
        stop: Why no further pair was measured: the interval is narrow, the time is spent, or these
            were the most pairs; None where the caller chose.
        seconds: What it took, with opening and warm-up.
        sessions: What each pair measured: (parent, candidate).
    """

    ratio: float
    low: float
    high: float
    parent_ms: float
    candidate_ms: float
    n_pairs: int
    n_rounds: int
    stop: Stop | None = None
    seconds: float | None = None
    sessions: tuple[tuple[Latency, Latency], ...] = field(default=(), repr=False, compare=False)

    @property
    def half_width(self) -> float:
        """Half of the interval's width, as a share of the ratio."""
        return (self.high - self.low) / 2 / self.ratio

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values with units in the names."""
        return {
            "ratio": self.ratio,
            "low": self.low,
            "high": self.high,
            "confidence": 0.95,
            "parent_ms": self.parent_ms,
            "candidate_ms": self.candidate_ms,
            "n_session_pairs": self.n_pairs,
            "n_rounds": self.n_rounds,
            "n_calls": sum(parent.n + other.n for parent, other in self.sessions),
            "cov_between_sessions": self._cov(),
            "stopped_by": self.stop,
            "seconds": self.seconds,
        }

    def _cov(self) -> float | None:
        """Standard deviation of the pairs' ratios, as a share."""
        logs = [float(np.median(log_ratios(*pair))) for pair in self.sessions]
        return float(np.std(logs, ddof=1)) if len(logs) > 1 else None


@dataclass(frozen=True)
class LatencyRatio:
    """Latency as a share of the baseline's, and the baseline against itself as a control.

    Attributes:
        ratio: The file against its baseline.
        control: The baseline against a fresh session of it, measured in the same rounds.
        threads: Of each session, on the CPU.
    """

    ratio: PairedRatio
    control: PairedRatio
    threads: int | None = None

    @property
    def noisy(self) -> bool:
        """Whether the machine finds a difference where there is none."""
        return not self.control.low <= 1.0 <= self.control.high

    def hides(self, limit: float) -> bool:
        """Whether noise is wider than what is asked: the limit's distance from 1.

        A ratio further than that from the limit is seen through more noise.
        """
        asked = max(abs(limit - 1), abs(self.ratio.ratio - limit))
        return self.control.high - self.control.low > asked

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values with units in the names."""
        return {
            **self.ratio.to_json(),
            "control": self.control.to_json(),
            "noisy": self.noisy,
            "cpu_threads": self.threads,
        }


def paired_ratio(
    pairs: Sequence[tuple[Latency, Latency]], draws: int = 10_000, seed: int = 0
) -> PairedRatio:
    """Sum up measured pairs (parent, candidate): ratio, interval, and both medians."""
    data = [log_ratios(parent, candidate) for parent, candidate in pairs]
    centre, low, high = median_of_medians(data, draws, seed)
    return PairedRatio(
        ratio=math.exp(centre),
        low=math.exp(low),
        high=math.exp(high),
        parent_ms=float(np.median([parent.median_ms for parent, _ in pairs])),
        candidate_ms=float(np.median([candidate.median_ms for _, candidate in pairs])),
        n_pairs=len(pairs),
        n_rounds=sum(len(logs) for logs in data),
        sessions=tuple(pairs),
    )


def log_ratios(parent: Latency, candidate: Latency) -> np.ndarray:
    """Log of the ratio of the fastest calls in each round, (n_rounds,).

    Both must have as many calls in a round: the fastest of more is faster.
    """
    return np.log(candidate.round_fastest_ms / parent.round_fastest_ms)


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
