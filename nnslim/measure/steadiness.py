"""What measured times say about the machine: whether they may be believed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nnslim.measure.latency import Latency
from nnslim.measure.ratio import PairedRatio

__all__ = ["busy_cores", "machine_warnings", "ratio_warnings", "unsteadiness"]

_MOST_COV = 0.025
_SLOW_START = 1.5  # times the median of the later rounds
_DRIFT = 0.5  # rank correlation
_DRIFT_ERRORS = 3.3  # standard errors of a rank correlation without drift: once in a thousand
_LEAST_ROUNDS = 10


def unsteadiness(latency: Latency) -> tuple[str, ...]:
    """Say what keeps the times from being one number: spread, a slow start, a drift.

    Example:
        >>> from nnslim.measure.latency import Latency
        >>> unsteadiness(Latency(9.0, ((1.0, 1.0),) * 20))
        ()
        >>> unsteadiness(Latency(9.0, ((1.0, 1.2),) * 20))
        ('times vary by 9.1 % (CoV)',)
    """
    reasons: list[str] = []
    if latency.cov > _MOST_COV:
        reasons.append(f"times vary by {100 * latency.cov:.1f} % (CoV)")
    medians = latency.round_medians_ms
    if not latency.settled:
        reasons.append("they still changed when the warm-up had to end")
    if len(medians) >= _LEAST_ROUNDS:
        start = float(medians[0] / np.median(medians[1:]))
        if start > _SLOW_START:
            reasons.append(f"the first round took {start:.1f} times the others")
        drift = _rank_correlation(medians)
        if abs(drift) > max(_DRIFT, _DRIFT_ERRORS / np.sqrt(len(medians) - 1)):
            direction = "slower" if drift > 0 else "faster"
            reasons.append(f"they became {direction} while measured (Spearman's rho {drift:.2f})")
    return tuple(reasons)


def ratio_warnings(ratio: PairedRatio, half_width: float) -> tuple[str, ...]:
    """Say where the time was spent before the interval was as narrow as wanted."""
    if ratio.stop not in ("budget", "pairs") or ratio.half_width <= half_width:
        return ()
    took = "" if ratio.seconds is None else f" after {ratio.seconds:.0f} s"
    return (
        f"the interval of the latency ratio is still {100 * ratio.half_width:.1f} % wide to each "
        f"side{took}, {ratio.n_pairs} pairs of sessions and {ratio.n_rounds} rounds",
    )


def busy_cores(seconds: float = 0.5, stat: Path = Path("/proc/stat")) -> float | None:
    """Watch how many of our cores are busy while we sleep; None without Linux's counters."""
    try:
        before = _ticks(stat.read_text())
        time.sleep(seconds)
        after = _ticks(stat.read_text())
    except (OSError, ValueError, IndexError):
        return None
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    ours = affinity(0) if affinity else set(after)
    shares: list[float] = []
    for core in ours & set(before) & set(after):
        idle, total = (new - old for old, new in zip(before[core], after[core], strict=True))
        shares.append(1 - idle / total if total > 0 else 0.0)
    return sum(shares) if shares else None


def _ticks(text: str) -> dict[int, tuple[int, int]]:
    """By core: ticks idle or waiting for a disk, and all ticks."""
    ticks_by_core: dict[int, tuple[int, int]] = {}
    for line in text.splitlines():
        name, *values = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(value) for value in values[:8]]
            ticks_by_core[int(name.removeprefix("cpu"))] = (ticks[3] + ticks[4], sum(ticks))
    return ticks_by_core


def machine_warnings() -> tuple[str, ...]:
    """Say whether others keep the processor busy, and whether we may use all of it."""
    cores = os.cpu_count() or 1
    affinity: Callable[[int], set[int]] | None = getattr(os, "sched_getaffinity", None)
    ours = len(affinity(0)) if affinity else cores
    load: Callable[[], Sequence[float]] | None = getattr(os, "getloadavg", None)
    reasons: list[str] = []
    if load and load()[0] > cores:
        reasons.append(
            f"the machine is busy: a load of {load()[0]:.1f} on {cores} cores; latencies of "
            "several threads suffer most"
        )
    if ours < cores:
        reasons.append(f"this process may use {ours} of {cores} cores")
    return tuple(reasons)


def _rank_correlation(values: np.ndarray) -> float:
    """Spearman's rho of the values with their order; ties share their mean rank."""
    _, place, count = np.unique(values, return_inverse=True, return_counts=True)
    if len(count) == 1:
        return 0.0
    ranks = (np.cumsum(count) - (count - 1) / 2)[place]
    return float(np.corrcoef(np.arange(len(values)), ranks)[0, 1])
