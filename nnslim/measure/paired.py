"""How much faster one network is than another: a ratio of latencies with its interval.

Both run in turns (rounds in ABBA order), so that a machine that drifts or is shared slows both
alike, and in several fresh pairs of sessions, since the choice of kernels and memory is each
session's own luck. The datum of a round is the log of the ratio of the medians.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnslim.errors import ConfigError
from nnslim.measure.latency import LatencySettings, measure_latency

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nnslim.measure.latency import Latency

__all__ = [
    "PairedRatio",
    "PairedSettings",
    "log_ratios",
    "measure_ratio",
    "paired_ratio",
]


@dataclass(frozen=True)
class PairedSettings:
    """How long to measure a ratio.

    Attributes:
        pairs: Fresh pairs of sessions at least.
        max_pairs: Pairs at most.
        half_width: Stop between ``pairs`` and ``max_pairs`` once the interval's half-width is at
            most this share of the ratio. Never on significance, which would bias the result.
        rounds: Rounds per pair.
        block_s: A turn lasts at least this long, in one or more calls.
        warmup_s: Untimed seconds of each session, and never fewer than ``warmup_runs`` calls.
        warmup_runs: Untimed calls of each session.
        max_s: Timed seconds per pair and network at most, but never fewer than one round.
        draws: Bootstrap draws.
        seed: Of the bootstrap.

    Raises:
        ConfigError: A count below 1, a time below 0, or fewer pairs at most than at least.
    """

    pairs: int = 5
    max_pairs: int = 9
    half_width: float = 0.01
    rounds: int = 8
    block_s: float = 0.02
    warmup_s: float = 0.3
    warmup_runs: int = 3
    max_s: float = 4.0
    draws: int = 4000
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.pairs, self.rounds, self.draws) < 1 or self.max_pairs < self.pairs:
            raise ConfigError("a paired latency needs at least one pair, one round and one draw")
        if min(self.block_s, self.warmup_s, self.max_s, self.half_width) < 0:
            raise ConfigError("latency times and widths must not be negative")


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
    """

    ratio: float
    low: float
    high: float
    parent_ms: float
    candidate_ms: float
    n_pairs: int
    n_rounds: int

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
        }


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
    settings = settings or PairedSettings()
    found: list[tuple[Latency, Latency]] = []
    while True:
        runs = open_pair()
        if len(found) % 2:  # every other pair the candidate goes first
            candidate, parent = measure_latency(
                runs[::-1], _turns(runs, settings, clock_ns), clock_ns
            )
        else:
            parent, candidate = measure_latency(runs, _turns(runs, settings, clock_ns), clock_ns)
        found.append((parent, candidate))
        if len(found) < settings.pairs:
            continue
        result = paired_ratio(found, settings.draws, settings.seed)
        half = (result.high - result.low) / 2
        if len(found) >= settings.max_pairs or half <= settings.half_width * result.ratio:
            return result


def _turns(
    runs: Sequence[Callable[[], object]],
    settings: PairedSettings,
    clock_ns: Callable[[], int],
) -> LatencySettings:
    """Make a turn of the faster of both long enough for the clock."""
    for run in runs:
        run()
    (first, second) = (_seconds(run, clock_ns) for run in runs)
    calls = math.ceil(settings.block_s / max(min(first, second), 1e-6))
    return LatencySettings(
        warmup_runs=settings.warmup_runs,
        warmup_s=settings.warmup_s,
        rounds=settings.rounds,
        calls_per_round=min(max(calls, 1), 1000),
        min_s=0.0,
        max_s=settings.max_s,
    )


def _seconds(run: Callable[[], object], clock_ns: Callable[[], int]) -> float:
    start = clock_ns()
    run()
    return (clock_ns() - start) / 1e9


def paired_ratio(
    pairs: Sequence[tuple[Latency, Latency]], draws: int = 4000, seed: int = 0
) -> PairedRatio:
    """Sum up measured pairs (parent, candidate): ratio, interval, and both medians.

    The interval is a percentile bootstrap over pairs, then rounds within them, widened by
    ``sqrt(n / (n - 1))`` because few pairs understate their own spread. In simulations where the
    sessions' own luck is all there is, five pairs hold the truth 19 times out of 20, three 17.
    """
    data = [log_ratios(parent, candidate) for parent, candidate in pairs]
    centre, low, high = _interval(data, draws, seed)
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
    """Log of the ratio of the medians in each round, (n_rounds,)."""
    medians = [
        [float(np.median(calls)) for calls in latency.rounds_ms] for latency in (parent, candidate)
    ]
    return np.diff(np.log(np.array(medians)), axis=0)[0]


def _interval(data: Sequence[np.ndarray], draws: int, seed: int) -> tuple[float, float, float]:
    """Median of medians with its 95 % interval."""
    generator = np.random.default_rng(seed)
    centre = float(np.median([np.median(own) for own in data]))
    # One block of medians per pair, since pairs may differ in their number of rounds.
    again = np.stack([_resampled_medians(own, draws * len(data), generator) for own in data])
    chosen = generator.integers(0, len(data), (len(data), draws))
    columns = np.arange(draws * len(data)).reshape(len(data), draws)
    drawn = np.median(again[chosen, columns], axis=0)
    low, high = np.percentile(drawn, (2.5, 97.5))
    widen = math.sqrt(len(data) / (len(data) - 1)) if len(data) > 1 else 1.0
    return centre, centre + (low - centre) * widen, centre + (high - centre) * widen


def _resampled_medians(rounds: np.ndarray, n: int, generator: np.random.Generator) -> np.ndarray:
    picks = generator.integers(0, len(rounds), (n, len(rounds)))
    return np.median(rounds[picks], axis=1)
