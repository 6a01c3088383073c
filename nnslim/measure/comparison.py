"""A file against its baseline: the same images through both, and both timed in turns.

Differences are paired, so that what both have in common (hard images, a busy machine) falls out.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

from nnslim.data import Data
from nnslim.measure.drop import accuracy_drop
from nnslim.measure.paired import measure_ratios
from nnslim.measure.ratio import LatencyRatio
from nnslim.measure.results import Comparison, FileResult
from nnslim.measure.steadiness import busy_cores, ratio_warnings
from nnslim.measure.subject import Subject
from nnslim.settings.eval import EvalSettings, PairedSettings
from nnslim.settings.session import SessionSettings

__all__ = ["compare", "comparison_warnings", "latency_ratio", "on_free_cores"]


def compare(
    subjects: tuple[Subject, Subject],
    results: tuple[FileResult, FileResult],
    image: tuple[int, int, int],
    data: Data | None,
    settings: EvalSettings,
) -> Comparison:
    """Compare a file, the second, with its baseline, and time both on inputs (C, H, W) in turns."""
    baseline, result = results
    drop = None
    if data and baseline.accuracy and result.accuracy:
        drop = accuracy_drop(baseline.accuracy, result.accuracy, data.test.labels, data.classes)
    sizes = [n for n in settings.batch_sizes if n in baseline.latency and n in result.latency]
    latency = {
        size: latency_ratio(
            partial(subjects[0].fresh_run, settings, size, image),
            partial(subjects[1].fresh_run, settings, size, image),
            replace(settings.paired, seed=settings.seed),
            settings.session.n_threads,
        )
        for size in sizes
    }
    return Comparison(
        drop,
        latency,
        result.n_parameters / max(baseline.n_parameters, 1),
        result.macs / baseline.macs if baseline.macs and result.macs is not None else None,
        result.onnx_bytes / max(baseline.onnx_bytes, 1),
    )


def latency_ratio(
    open_baseline: Callable[[], Callable[[], object]],
    open_file: Callable[[], Callable[[], object]],
    settings: PairedSettings,
    threads: int | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> LatencyRatio:
    """Measure a file against its baseline, and that against itself, in the same rounds.

    What is given opens a fresh session and returns its run; ``threads`` is for the record only. A
    third of the time goes to the control.
    """
    ratio, control = measure_ratios(
        lambda: (open_baseline(), open_file(), open_baseline()), settings, clock_ns
    )
    return LatencyRatio(ratio, control, threads)


def on_free_cores(settings: EvalSettings, provider: str) -> EvalSettings:
    """Use the cores that are free: threads that wait for a core hide any difference."""
    if settings.session.threads is not None or not provider.startswith("CPU"):
        return settings
    free = SessionSettings().n_threads - round(busy_cores() or 0.0)
    return replace(settings, session=replace(settings.session, threads=max(1, free)))


def comparison_warnings(comparison: Comparison, settings: EvalSettings) -> tuple[str, ...]:
    """Say where fewer threads compared than ``settings`` ask for, and where a ratio is unsure."""
    wanted = settings.session.n_threads
    fewer = [
        f"compared on {latency.threads} of {wanted} threads, since others keep cores busy; "
        "session.threads chooses"
        for latency in comparison.latency.values()
        if latency.threads not in (None, wanted)
    ]
    wide = [
        f"batch {size}: {warning}"
        for size, latency in comparison.latency.items()
        for warning in ratio_warnings(latency.ratio, settings.paired.half_width)
    ]
    return (*fewer[:1], *wide)
