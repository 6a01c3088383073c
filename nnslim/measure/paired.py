"""How much faster one network is than another: a ratio of latencies with its interval.

Both run in turns (rounds in ABBA order), so that a machine that drifts or is shared slows both
alike, and in several fresh pairs of sessions, since the choice of kernels and memory is each
session's own luck. The datum of a round is the log of the ratio of the fastest calls: other work on
the machine only ever adds time. docs/results/gate.md says how a gate on it fares.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

import numpy as np

from nnslim.measure.interval import median_of_medians
from nnslim.measure.latency import measure_latency
from nnslim.settings.eval import LatencySettings, PairedSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnslim.measure.latency import Latency

__all__ = [
    "PairedRatio",
    "Stop",
    "log_ratios",
    "measure_ratio",
    "measure_ratios",
    "paired_ratio",
]

Stop = Literal["width", "budget", "pairs"]

# The budget has room for half as many pairs again as there must be.
_ROOM = 1.5
# Below this many pairs Student's t is of no use, so not even a spent budget stops earlier.
_LEAST_PAIRS = 3


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
            "n_calls": sum(parent.n + own.n for parent, own in self.sessions),
            "cov_between_sessions": self._cov(),
            "stopped_by": self.stop,
            "seconds": self.seconds,
        }

    def _cov(self) -> float | None:
        """Standard deviation of the pairs' own ratios, as a share."""
        own = [float(np.median(log_ratios(*pair))) for pair in self.sessions]
        return float(np.std(own, ddof=1)) if len(own) > 1 else None


def measure_ratio(
    open_pair: Callable[[], tuple[Callable[[], object], Callable[[], object]]],
    settings: PairedSettings | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> PairedRatio:
    """Measure a candidate against its parent.

    Args:
        open_pair: Opens fresh sessions and returns the parent's and the candidate's run; a run
            returns only when its work is done.
        settings: How long to measure.
        clock_ns: The clock.

    Example:
        >>> now = [0]
        >>> def takes(ms):
        ...     return lambda: now.append(now.pop() + ms * 1_000_000)
        >>> found = measure_ratio(lambda: (takes(10), takes(6)), clock_ns=lambda: now[0])
        >>> round(found.ratio, 6), found.parent_ms, found.candidate_ms
        (0.6, 10.0, 6.0)
    """
    return measure_ratios(open_pair, settings, clock_ns)[0]


def measure_ratios(
    open_runs: Callable[[], Sequence[Callable[[], object]]],
    settings: PairedSettings | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> tuple[PairedRatio, ...]:
    """Measure candidates against one parent, all in the same rounds.

    The first candidate's interval decides when to stop.

    Args:
        open_runs: Opens fresh sessions and returns the parent's run, then each candidate's.
        settings: How long to measure.
        clock_ns: The clock.

    Returns:
        A ratio for each candidate.

    Example:
        >>> now = [0]
        >>> def takes(ms):
        ...     return lambda: now.append(now.pop() + ms * 1_000_000)
        >>> found = measure_ratios(
        ...     lambda: (takes(10), takes(6), takes(10)), clock_ns=lambda: now[0]
        ... )
        >>> [round(own.ratio, 6) for own in found]
        [0.6, 1.0]
    """
    settings = settings or PairedSettings()
    begin = clock_ns()
    found: list[tuple[Latency, ...]] = []
    logs: list[np.ndarray] = []  # of the first candidate
    while True:
        runs = open_runs()
        # Each is the first in turn: to be opened and warmed first is an advantage, or none.
        first = len(found) % len(runs)
        settled = not found or all(latency.settled for latency in found[-1])
        turns = _turns(len(runs), logs, settings, settled=settled)
        turned = measure_latency([*runs[first:], *runs[:first]], turns, clock_ns)
        cut = len(runs) - first
        found.append((*turned[cut:], *turned[:cut]))
        logs.append(log_ratios(*found[-1][:2]))
        seconds = (clock_ns() - begin) / 1e9
        if stop := _stop(logs, seconds, settings):
            return tuple(
                _summed([(own[0], own[i]) for own in found], settings, stop, seconds)
                for i in range(1, len(runs))
            )


def _turns(
    n_runs: int, found: Sequence[np.ndarray], settings: PairedSettings, *, settled: bool
) -> LatencySettings:
    """How to time the next set of fresh sessions, after what earlier ones have shown."""
    share = settings.budget_s / (_ROOM * settings.pairs) / n_runs
    cap = min(5.0, share / 3)
    if not settled:
        cap = min(cap, settings.warmup_s)  # times that never agree do not through waiting
    return LatencySettings(
        warmup_runs=settings.warmup_runs,
        warmup_s=settings.warmup_s,
        warmup_cap_s=cap,
        block_s=settings.block_s,
        calls_per_round=1,
        rounds=max(
            settings.rounds,
            math.ceil(settings.least_rounds / settings.pairs),
            _rounds_wanted(found, settings.half_width),
        ),
        min_s=settings.min_s / settings.pairs / n_runs,
        max_s=min(settings.max_s, share - cap),
    )


def _rounds_wanted(found: Sequence[np.ndarray], half_width: float) -> int:
    """Rounds after which a session's median is about as certain as the result shall be."""
    spreads = [float(np.median(np.abs(own - np.median(own)))) for own in found]
    if not spreads or half_width == 0:
        return 1
    # 1.48 makes a standard deviation of it, and the median of n has 1.25 / sqrt(n) of that.
    return math.ceil((1.48 * 1.25 * float(np.median(spreads)) / half_width) ** 2)


def _stop(found: Sequence[np.ndarray], seconds: float, settings: PairedSettings) -> Stop | None:
    """Why to stop, if so; looks at the interval only once all that must be measured is."""
    n = len(found)
    if n >= settings.max_pairs:
        return "pairs"
    if n < min(settings.pairs, _LEAST_PAIRS):
        return None
    if seconds * (1 + 1 / n) > settings.budget_s:
        return "budget"
    if n < settings.pairs:
        return None
    centre, low, high = median_of_medians(found, settings.draws, settings.seed)
    half = (math.exp(high - centre) - math.exp(low - centre)) / 2
    return "width" if half <= settings.half_width else None


def _summed(
    pairs: Sequence[tuple[Latency, Latency]], settings: PairedSettings, stop: Stop, seconds: float
) -> PairedRatio:
    return replace(
        paired_ratio(pairs, settings.draws, settings.seed),
        stop=stop,
        seconds=seconds,
        sessions=tuple(pairs),
    )


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
        n_rounds=sum(len(own) for own in data),
    )


def log_ratios(parent: Latency, candidate: Latency) -> np.ndarray:
    """Log of the ratio of the fastest calls in each round, (n_rounds,).

    Both must have as many calls in a round: the fastest of more is faster.
    """
    return np.log(candidate.round_fastest_ms / parent.round_fastest_ms)
