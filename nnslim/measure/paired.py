"""How much faster one network is than another: a ratio of latencies with its interval.

Both run in turns (rounds in ABBA order), so that a machine that drifts or is shared slows both
alike, and in several fresh pairs of sessions, since the choice of kernels and memory is each
session's luck. The datum of a round is the log of the ratio of the fastest calls: other work on
the machine only ever adds time. docs/results/gate.md says how a gate on it fares.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from nnslim.measure.latency import Latency, measure_latency
from nnslim.measure.ratio import PairedRatio, Stop, log_ratios, median_of_medians, paired_ratio
from nnslim.settings.eval import LatencySettings, PairedSettings

__all__ = ["measure_ratios"]

# The budget has room for half as many pairs again as there must be.
_ROOM = 1.5
# Below this many pairs Student's t is of no use, so not even a spent budget stops earlier.
_LEAST_PAIRS = 3


def measure_ratios(
    open_runs: Callable[[], Sequence[Callable[[], object]]],
    settings: PairedSettings | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> tuple[PairedRatio, ...]:
    """Measure candidates against one parent, in the same rounds, until the first's is known.

    Args:
        open_runs: Opens fresh sessions and returns the parent's run, then each candidate's; a run
            returns only when its work is done.
        settings: How long to measure.
        clock_ns: The clock.

    Example:
        >>> now = [0]
        >>> def takes(ms):
        ...     return lambda: now.append(now.pop() + ms * 1_000_000)
        >>> results = measure_ratios(
        ...     lambda: (takes(10), takes(6), takes(10)), clock_ns=lambda: now[0]
        ... )
        >>> [round(result.ratio, 6) for result in results]
        [0.6, 1.0]
    """
    settings = settings or PairedSettings()
    begin = clock_ns()
    sessions: list[tuple[Latency, ...]] = []
    logs: list[np.ndarray] = []  # of the first candidate
    while True:
        sessions.append(_measured(open_runs(), sessions, logs, settings, clock_ns))
        logs.append(log_ratios(*sessions[-1][:2]))
        seconds = (clock_ns() - begin) / 1e9
        if stop := _stop(logs, seconds, settings):
            ratios = (
                paired_ratio(
                    [(runs[0], runs[i]) for runs in sessions], settings.draws, settings.seed
                )
                for i in range(1, len(sessions[0]))
            )
            return tuple(replace(ratio, stop=stop, seconds=seconds) for ratio in ratios)


def _measured(
    runs: Sequence[Callable[[], object]],
    sessions: Sequence[tuple[Latency, ...]],
    logs: Sequence[np.ndarray],
    settings: PairedSettings,
    clock_ns: Callable[[], int],
) -> tuple[Latency, ...]:
    """Time fresh sessions in turns, after what the earlier ones have shown."""
    # Each is the first in turn: to be opened and warmed first is an advantage, or none.
    first = len(sessions) % len(runs)
    settled = not sessions or all(latency.settled for latency in sessions[-1])
    turns = _turns(len(runs), logs, settings, settled=settled)
    turned = measure_latency([*runs[first:], *runs[:first]], turns, clock_ns)
    cut = len(runs) - first
    return (*turned[cut:], *turned[:cut])


def _turns(
    n_runs: int, logs: Sequence[np.ndarray], settings: PairedSettings, *, settled: bool
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
            _rounds_wanted(logs, settings.half_width),
        ),
        min_s=settings.min_s / settings.pairs / n_runs,
        max_s=min(settings.max_s, share - cap),
    )


def _rounds_wanted(logs: Sequence[np.ndarray], half_width: float) -> int:
    """Rounds after which a session's median is about as certain as the result shall be."""
    spreads = [float(np.median(np.abs(ratios - np.median(ratios)))) for ratios in logs]
    if not spreads or half_width == 0:
        return 1
    # 1.48 makes a standard deviation of it, and the median of n has 1.25 / sqrt(n) of that.
    return math.ceil((1.48 * 1.25 * float(np.median(spreads)) / half_width) ** 2)


def _stop(logs: Sequence[np.ndarray], seconds: float, settings: PairedSettings) -> Stop | None:
    """Why to stop, if so; looks at the interval only once all that must be measured is."""
    n = len(logs)
    if n >= settings.max_pairs:
        return "pairs"
    if n < min(settings.pairs, _LEAST_PAIRS):
        return None
    if seconds * (1 + 1 / n) > settings.budget_s:
        return "budget"
    if n < settings.pairs:
        return None
    centre, low, high = median_of_medians(logs, settings.draws, settings.seed)
    half = (math.exp(high - centre) - math.exp(low - centre)) / 2
    return "width" if half <= settings.half_width else None
