"""A file against its baseline: the same images through both, and both timed in turns.

Differences are paired, so that what both have in common (hard images, a busy machine) falls out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnslim.errors import InputError
from nnslim.measure.changes import Changes, find_changes
from nnslim.measure.paired import measure_ratios

if TYPE_CHECKING:
    from nnslim.measure.accuracy import Accuracy
    from nnslim.measure.ratio import PairedRatio
    from nnslim.settings.eval import PairedSettings

__all__ = ["AccuracyDrop", "Comparison", "LatencyRatio", "accuracy_drop", "latency_ratio"]

_CONFIDENCE = 0.95


@dataclass(frozen=True)
class AccuracyDrop:
    """How much top-1 accuracy a file loses against its baseline, in percentage points.

    Attributes:
        drop_pp: Baseline minus file; negative where the file is better.
        low: Lower end of the interval that holds the true drop 19 times out of 20.
        high: Its upper end.
        lost: Images that only the baseline gets right.
        won: Images that only the file gets right.
        n: Images.
        p_value: Of McNemar's exact test that lost and won differ by chance.
        worst_class: Name of the class that loses most.
        worst_class_drop_pp: What it loses.
        changes: Class by class, and from which class to which.
    """

    drop_pp: float
    low: float
    high: float
    lost: int
    won: int
    n: int
    p_value: float
    worst_class: str
    worst_class_drop_pp: float
    changes: Changes

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values with units in the names."""
        return {
            "top1_drop_pp": self.drop_pp,
            "low": self.low,
            "high": self.high,
            "confidence": _CONFIDENCE,
            "lost": self.lost,
            "won": self.won,
            "n_images": self.n,
            "mcnemar_p": self.p_value,
            "worst_class": self.worst_class,
            "worst_class_drop_pp": self.worst_class_drop_pp,
            **self.changes.to_json(),
        }


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


@dataclass(frozen=True)
class Comparison:
    """A file against its baseline.

    Attributes:
        accuracy: None without data.
        latency: By images per run.
        params_ratio: Parameters as a share of the baseline's.
        macs_ratio: Multiply-adds; None where one of both is not known.
        bytes_ratio: Size of the ONNX files.
    """

    accuracy: AccuracyDrop | None
    latency: Mapping[int, LatencyRatio]
    params_ratio: float
    macs_ratio: float | None
    bytes_ratio: float

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "accuracy": None if self.accuracy is None else self.accuracy.to_json(),
            "latency": [
                {"batch_size": size, **ratio.to_json()} for size, ratio in self.latency.items()
            ],
            "params_ratio": self.params_ratio,
            "macs_ratio": self.macs_ratio,
            "bytes_ratio": self.bytes_ratio,
        }


def accuracy_drop(
    baseline: Accuracy, other: Accuracy, labels: np.ndarray, classes: tuple[str, ...]
) -> AccuracyDrop:
    """Compare the same images, in the same order, through both files.

    The interval is Newcombe's for a difference of paired proportions (1998, method 10), which keeps
    its promise for small differences and few images too.

    Args:
        baseline: Top-1 per image of the baseline.
        other: The same of the file.
        labels: Of the images, (N,).
        classes: Names.

    Raises:
        InputError: The two were not measured on as many images.

    Example:
        >>> from nnslim.measure.accuracy import top_k_accuracy
        >>> logits = np.eye(4)
        >>> right = top_k_accuracy([(logits, np.arange(4))])
        >>> worse = top_k_accuracy([(logits, np.array([0, 1, 2, 0]))])
        >>> accuracy_drop(right, worse, np.arange(4), ("a", "b", "c", "d")).lost
        1
    """
    if not baseline.n == other.n == len(labels):
        raise InputError(f"{baseline.n} and {other.n} images for {len(labels)} labels")
    before, after, n = baseline.correct, other.correct, len(labels)
    lost, won = int((before & ~after).sum()), int((~before & after).sum())
    low, high = _newcombe(int((before & after).sum()), lost, won, n)
    by_class = _drop_by_class(before, after, labels, len(classes))
    worst = int(by_class.argmax())
    changes = find_changes(baseline, other, labels, classes)
    percents = (100 * (lost - won) / n, 100 * low, 100 * high)
    of_class = (classes[worst], float(by_class[worst]))
    return AccuracyDrop(*percents, lost, won, n, _mcnemar(lost, won), *of_class, changes)


def _drop_by_class(
    before: np.ndarray, after: np.ndarray, labels: np.ndarray, n_classes: int
) -> np.ndarray:
    """Percentage points that each class loses, (K,)."""
    lost = (before & ~after).astype(float) - (~before & after)
    counts = np.bincount(labels, minlength=n_classes)
    return 100 * np.bincount(labels, lost, minlength=n_classes) / np.maximum(counts, 1)


def _newcombe(both: int, lost: int, won: int, n: int) -> tuple[float, float]:
    """Interval of ``(lost - won) / n`` from the Wilson intervals of both accuracies."""
    first, second = (both + lost) / n, (both + won) / n
    (low1, high1), (low2, high2) = _wilson(first, n), _wilson(second, n)
    neither = n - both - lost - won
    product = (both + lost) * (won + neither) * (both + won) * (lost + neither)
    phi = 0.0
    if product > 0:
        cross = both * neither - lost * won
        phi = max(cross - n / 2, 0.0) if cross > 0 else float(cross)
        phi /= math.sqrt(product)
    below = (first - low1) ** 2 - 2 * phi * (first - low1) * (high2 - second)
    above = (high1 - first) ** 2 - 2 * phi * (high1 - first) * (second - low2)
    below += (high2 - second) ** 2
    above += (second - low2) ** 2
    difference = first - second
    return difference - math.sqrt(max(below, 0)), difference + math.sqrt(max(above, 0))


def _wilson(share: float, n: int) -> tuple[float, float]:
    z = 1.959963984540054
    centre = share + z * z / (2 * n)
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def _mcnemar(lost: int, won: int) -> float:
    """Two-sided exact p: as many heads in ``lost + won`` throws of a fair coin, or rarer."""
    n, k = lost + won, min(lost, won)
    tail = sum(math.comb(n, i) for i in range(k + 1))
    return min(1.0, 2 * tail / 2**n)


def latency_ratio(
    open_baseline: Callable[[], Callable[[], object]],
    open_file: Callable[[], Callable[[], object]],
    settings: PairedSettings,
    threads: int | None = None,
    clock_ns: Callable[[], int] = time.perf_counter_ns,
) -> LatencyRatio:
    """Measure a file against its baseline, and that against itself, in the same rounds.

    Args:
        open_baseline: Opens a fresh session of the baseline and returns its run.
        open_file: The same for the file.
        settings: How long to measure; a third of the time goes to the control.
        threads: What each session was opened with, for the record.
        clock_ns: The clock.
    """
    ratio, control = measure_ratios(
        lambda: (open_baseline(), open_file(), open_baseline()), settings, clock_ns
    )
    return LatencyRatio(ratio, control, threads)
