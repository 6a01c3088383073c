"""Time calls fairly: warm-up apart, and several candidates in turns rather than one after another.

Machines drift (clocks, other load), so candidates are interleaved in rounds, first to last and then
last to first (ABBA), and every call's time is kept with its round: comparisons stay paired.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Latency", "LatencySettings", "measure_latency"]


@dataclass(frozen=True)
class LatencySettings:
    """How long to measure; times are per candidate.

    Attributes:
        warmup_runs: Untimed calls at least.
        warmup_s: Untimed seconds at least.
        warmup_cap_s: Untimed seconds at most, but never fewer than one call.
        rounds: Rounds at least.
        calls_per_round: Calls of one candidate before the next one's turn.
        min_s: Timed seconds at least.
        max_s: Timed seconds at most, but never fewer than one round.

    Raises:
        ConfigError: A count below 1 or a time below 0.
    """

    warmup_runs: int = 10
    warmup_s: float = 0.5
    warmup_cap_s: float = 5.0
    rounds: int = 20
    calls_per_round: int = 5
    min_s: float = 1.0
    max_s: float = 10.0

    def __post_init__(self) -> None:
        if min(self.rounds, self.calls_per_round) < 1 or self.warmup_runs < 0:
            raise ConfigError("latency needs at least one round of one call")
        if min(self.warmup_s, self.warmup_cap_s, self.min_s, self.max_s) < 0:
            raise ConfigError("latency times must not be negative")


@dataclass(frozen=True)
class Latency:
    """All times of one candidate, in milliseconds.

    Attributes:
        cold_start_ms: The very first call, in none of the statistics.
        rounds_ms: One tuple of calls per round, in order.
    """

    cold_start_ms: float
    rounds_ms: tuple[tuple[float, ...], ...] = field(repr=False)

    @property
    def samples_ms(self) -> np.ndarray:
        """All timed calls in order, (n,)."""
        return np.concatenate([np.asarray(calls) for calls in self.rounds_ms])

    @property
    def n(self) -> int:
        """Number of timed calls."""
        return sum(len(calls) for calls in self.rounds_ms)

    @property
    def median_ms(self) -> float:
        """Half of the calls were faster."""
        return float(np.median(self.samples_ms))

    @property
    def p90_ms(self) -> float:
        """Nine tenths of the calls were faster."""
        return float(np.percentile(self.samples_ms, 90))

    @property
    def min_ms(self) -> float:
        """The fastest call."""
        return float(self.samples_ms.min())

    def to_json(self) -> dict[str, object]:
        """Return the statistics as plain JSON values."""
        return {
            "median_ms": self.median_ms,
            "p90_ms": self.p90_ms,
            "min_ms": self.min_ms,
            "cold_start_ms": self.cold_start_ms,
            "n_calls": self.n,
            "n_rounds": len(self.rounds_ms),
        }


def measure_latency(
    candidates: Sequence[Callable[[], object]],
    settings: LatencySettings | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> tuple[Latency, ...]:
    """Time each candidate, interleaved; a call must return only when its work is done.

    Example:
        >>> ticks = iter(range(0, 10**9, 10**6))  # every look at the clock takes 1 ms
        >>> quick = LatencySettings(warmup_s=0, rounds=2, min_s=0)
        >>> measure_latency([lambda: None], quick, lambda: next(ticks))[0].median_ms
        1.0
    """
    settings = settings or LatencySettings()
    cold = [_timed_ns(run, clock_ns) for run in candidates]
    for run in candidates:
        _warm_up(run, settings, clock_ns)
    rounds: list[list[tuple[int, ...]]] = [[] for _ in candidates]
    order = list(range(len(candidates)))
    spent_ns = 0
    while candidates and not _enough(len(rounds[0]), spent_ns / len(candidates), settings):
        for index in order:
            n_calls = settings.calls_per_round
            calls = tuple(_timed_ns(candidates[index], clock_ns) for _ in range(n_calls))
            rounds[index].append(calls)
            spent_ns += sum(calls)
        order.reverse()
    return tuple(
        Latency(first / 1e6, tuple(tuple(ns / 1e6 for ns in calls) for calls in own))
        for first, own in zip(cold, rounds, strict=True)
    )


def _timed_ns(run: Callable[[], object], clock_ns: Callable[[], int]) -> int:
    start = clock_ns()
    run()
    return clock_ns() - start


def _warm_up(
    run: Callable[[], object], settings: LatencySettings, clock_ns: Callable[[], int]
) -> None:
    spent_ns, done = 0, 0
    while done < settings.warmup_runs or spent_ns < settings.warmup_s * 1e9:
        if done and spent_ns >= settings.warmup_cap_s * 1e9:
            return
        spent_ns += _timed_ns(run, clock_ns)
        done += 1


def _enough(n_rounds: int, spent_ns: float, settings: LatencySettings) -> bool:
    if n_rounds and spent_ns >= settings.max_s * 1e9:
        return True
    return n_rounds >= settings.rounds and spent_ns >= settings.min_s * 1e9
