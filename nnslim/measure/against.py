"""Compare what was measured on a file with its baseline, and time both in turns."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from nnslim.measure.comparison import AccuracyDrop, Comparison, accuracy_drop, latency_ratio
from nnslim.measure.steadiness import busy_cores, ratio_warnings
from nnslim.settings.session import SessionSettings

if TYPE_CHECKING:
    from nnslim.data import Data
    from nnslim.measure.results import FileResult
    from nnslim.measure.subject import Subject
    from nnslim.settings.eval import EvalSettings

__all__ = ["compare", "comparison_warnings", "on_free_cores"]


def compare(
    subjects: tuple[Subject, Subject],
    results: tuple[FileResult, FileResult],
    image: tuple[int, int, int],
    data: Data | None,
    settings: EvalSettings,
) -> Comparison:
    """Compare a file with its baseline, and measure both in turns.

    Args:
        subjects: The baseline and the file.
        results: What was measured on each alone.
        image: (C, H, W) of the inputs.
        data: What accuracy was measured on; None compares none.
        settings: How to measure.
    """
    baseline, result = results
    drop: AccuracyDrop | None = None
    if data is not None and baseline.accuracy is not None and result.accuracy is not None:
        drop = accuracy_drop(baseline.accuracy, result.accuracy, data.test.labels, data.classes)
    sizes = [n for n in settings.batch_sizes if n in baseline.latency and n in result.latency]
    latency = {
        size: latency_ratio(
            partial(subjects[0].fresh_run, settings, size, image),
            partial(subjects[1].fresh_run, settings, size, image),
            settings.paired,
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
