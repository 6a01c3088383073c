"""Time calls fairly: warm-up apart, and several candidates in turns rather than one after another.

Machines drift (clocks, other load), so candidates are interleaved in rounds, first to last and then
last to first (ABBA), and every call's time is kept with its round: comparisons stay paired.
A turn right after a turn of the same candidate is not like one after a pause (schedulers, caches):
the order also rotates, so that all follow themselves equally often.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from nnslim.settings.eval import LatencySettings

__all__ = ["Latency", "measure_latency"]


_LEAST_FOR_P99 = 1000
_AGREEING = 3  # successive blocks


@dataclass(frozen=True)
class Latency:
    """All times of one candidate, in milliseconds.

    Attributes:
        cold_start_ms: The very first call, in none of the statistics.
        rounds_ms: One tuple of calls per round, in order.
        settled: Whether the warm-up ended because times agreed, not because of its cap.
    """

    cold_start_ms: float
    rounds_ms: tuple[tuple[float, ...], ...] = field(repr=False)
    settled: bool = True

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
    def p99_ms(self) -> float | None:
        """99 of 100 calls were faster; None below 1,000 calls, which cannot tell."""
        return float(np.percentile(self.samples_ms, 99)) if self.n >= _LEAST_FOR_P99 else None

    @property
    def min_ms(self) -> float:
        """The fastest call."""
        return float(self.samples_ms.min())

    @property
    def cov(self) -> float:
        """Standard deviation of the calls as a share of their mean."""
        samples = self.samples_ms
        return float(samples.std() / samples.mean()) if samples.any() else 0.0

    @property
    def round_fastest_ms(self) -> np.ndarray:
        """Fastest call of each round, (n_rounds,)."""
        return np.array([min(calls) for calls in self.rounds_ms])

    @property
    def round_medians_ms(self) -> np.ndarray:
        """Median call of each round, (n_rounds,)."""
        return np.array([statistics.median(calls) for calls in self.rounds_ms])

    def to_json(self) -> dict[str, object]:
        """Return the statistics as plain JSON values."""
        return {
            "median_ms": self.median_ms,
            "p90_ms": self.p90_ms,
            "p99_ms": self.p99_ms,
            "min_ms": self.min_ms,
            "cold_start_ms": self.cold_start_ms,
            "n_calls": self.n,
            "n_rounds": len(self.rounds_ms),
            "cov": self.cov,
            "warmup_settled": self.settled,
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
    warm: list[tuple[list[int], bool]] = []
    cap_s = settings.warmup_cap_s
    for run in candidates:
        warm.append(_warm_up(run, settings, cap_s, clock_ns))
        if not warm[-1][1]:  # on such a machine times do not agree however long one waits
            cap_s = min(cap_s, settings.warmup_s)
    known = [calls or [first] for (calls, _), first in zip(warm, cold, strict=True)]
    n_calls = _calls_per_turn(known, settings)
    rounds: list[list[tuple[int, ...]]] = [[] for _ in candidates]
    orders = _orders(len(candidates))
    spent_ns = 0
    while candidates and not _enough(len(rounds[0]), spent_ns / len(candidates), settings):
        for index in orders[len(rounds[0]) % len(orders)]:
            calls = tuple(_timed_ns(candidates[index], clock_ns) for _ in range(n_calls))
            rounds[index].append(calls)
            spent_ns += sum(calls)
    return tuple(
        Latency(first / 1e6, tuple(tuple(ns / 1e6 for ns in calls) for calls in turns), settled)
        for first, turns, (_, settled) in zip(cold, rounds, warm, strict=True)
    )


def _orders(n: int) -> list[list[int]]:
    """Each rotation and its reverse: for two, ABBA and then BAAB.

    Example:
        >>> ["".join("ABC"[i] for i in order) for order in _orders(3)]
        ['ABC', 'CBA', 'BCA', 'ACB', 'CAB', 'BAC']
    """
    orders: list[list[int]] = []
    for first in range(n):
        rotated = [(first + i) % n for i in range(n)]
        orders += [rotated, rotated[::-1]]
    return orders


def _timed_ns(run: Callable[[], object], clock_ns: Callable[[], int]) -> int:
    start = clock_ns()
    run()
    return clock_ns() - start


def _warm_up(
    run: Callable[[], object],
    settings: LatencySettings,
    cap_s: float,
    clock_ns: Callable[[], int],
) -> tuple[list[int], bool]:
    """Call until times agree: returns the calls in ns, and whether they do."""
    calls: list[int] = []
    if settings.warmup_runs == 0 and settings.warmup_s == 0:
        return calls, True
    medians: list[float] = []
    spent_ns, block_ns, begin = 0, 0, 0
    while True:
        calls.append(_timed_ns(run, clock_ns))
        spent_ns += calls[-1]
        block_ns += calls[-1]
        if block_ns >= settings.block_s * 1e9:
            medians.append(statistics.median(calls[begin:]))
            block_ns, begin = 0, len(calls)
        long_enough = len(calls) >= settings.warmup_runs and spent_ns >= settings.warmup_s * 1e9
        if long_enough and _agree(medians[-_AGREEING:], settings.settled):
            return calls, True
        if spent_ns >= cap_s * 1e9:
            return calls, False


def _agree(medians: Sequence[float], within: float) -> bool:
    return len(medians) == _AGREEING and max(medians) <= (1 + within) * min(medians)


def _calls_per_turn(warm: Sequence[Sequence[int]], settings: LatencySettings) -> int:
    """Enough for the fastest, by what calls take when nobody disturbs them."""
    quick = min((sorted(calls)[len(calls) // 10] for calls in warm), default=0)
    return min(
        max(settings.calls_per_round, math.ceil(settings.block_s * 1e9 / max(quick, 1))), 1000
    )


def _enough(n_rounds: int, spent_ns: float, settings: LatencySettings) -> bool:
    if n_rounds and spent_ns >= settings.max_s * 1e9:
        return True
    return n_rounds >= settings.rounds and spent_ns >= settings.min_s * 1e9
