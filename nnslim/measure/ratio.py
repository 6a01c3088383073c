"""A ratio of two latencies with its interval, from what pairs of sessions measured."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from nnslim.measure.interval import median_of_medians

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnslim.measure.latency import Latency

__all__ = ["PairedRatio", "Stop", "log_ratios", "paired_ratio"]

Stop = Literal["width", "budget", "pairs"]


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
    )


def log_ratios(parent: Latency, candidate: Latency) -> np.ndarray:
    """Log of the ratio of the fastest calls in each round, (n_rounds,).

    Both must have as many calls in a round: the fastest of more is faster.
    """
    return np.log(candidate.round_fastest_ms / parent.round_fastest_ms)
