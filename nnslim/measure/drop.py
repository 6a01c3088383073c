"""How much accuracy a file loses against its baseline on the same images, how surely, and where."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, dataclass

import numpy as np

from nnslim.errors import InputError
from nnslim.measure.accuracy import Accuracy

__all__ = ["AccuracyDrop", "Changes", "ClassChange", "Move", "accuracy_drop", "find_changes"]

_CONFIDENCE = 0.95
_NOT_FINITE = "(not finite)"


@dataclass(frozen=True)
class ClassChange:
    """Top-1 accuracy on the ``n`` images of one class, of the baseline and of the file."""

    name: str
    n: int
    baseline_pct: float
    own_pct: float


@dataclass(frozen=True)
class Move:
    """``n`` images of class ``label`` that the two files put into different classes."""

    label: str
    baseline: str
    own: str
    n: int


@dataclass(frozen=True)
class Changes:
    """Everything that differs.

    Attributes:
        agreement_pct: Images that both call the same, right or wrong, in percent.
        per_class: Every class that has images, in the order of classes.
        moves: Most frequent first; ties in the order of classes.
    """

    agreement_pct: float
    per_class: tuple[ClassChange, ...]
    moves: tuple[Move, ...]


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
            **asdict(self.changes),
        }


def accuracy_drop(
    baseline: Accuracy, other: Accuracy, labels: np.ndarray, classes: tuple[str, ...]
) -> AccuracyDrop:
    """Compare the same images, in the same order, through both files.

    The interval is Newcombe's for a difference of paired proportions (1998, method 10), which keeps
    its promise for small differences and few images too.

    Raises:
        InputError: The two were not measured on as many images.

    Example:
        >>> from nnslim.measure.accuracy import top_k_accuracy
        >>> right = top_k_accuracy([(np.eye(4), np.arange(4))])
        >>> worse = top_k_accuracy([(np.eye(4), np.array([0, 1, 2, 0]))])
        >>> accuracy_drop(right, worse, np.arange(4), ("a", "b", "c", "d")).lost
        1
    """
    n, before, after = len(labels), baseline.correct, other.correct
    if not baseline.n == other.n == n:
        raise InputError(f"{baseline.n} and {other.n} images for {n} labels")
    lost_images, won_images = before & ~after, ~before & after
    lost, won = int(lost_images.sum()), int(won_images.sum())
    counts = np.bincount(labels, minlength=len(classes))
    drops = np.bincount(labels, lost_images.astype(float) - won_images, minlength=len(classes))
    by_class = 100 * drops / np.maximum(counts, 1)
    worst = int(by_class.argmax())
    low, high = _newcombe(int((before & after).sum()), lost, won, n)
    return AccuracyDrop(
        drop_pp=100 * (lost - won) / n,
        low=100 * low,
        high=100 * high,
        lost=lost,
        won=won,
        n=n,
        p_value=_mcnemar(lost, won),
        worst_class=classes[worst],
        worst_class_drop_pp=float(by_class[worst]),
        changes=find_changes(baseline, other, labels, classes),
    )


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


def find_changes(
    baseline: Accuracy, other: Accuracy, labels: np.ndarray, classes: tuple[str, ...]
) -> Changes:
    """Compare predictions on the same images, in the same order, with their labels, (N,).

    Example:
        >>> from nnslim.measure.accuracy import top_k_accuracy
        >>> labels = np.array([0, 0, 1])
        >>> one = top_k_accuracy([(np.eye(2)[labels], labels)])
        >>> two = top_k_accuracy([(np.eye(2)[[0, 1, 1]], labels)])
        >>> find_changes(one, two, labels, ("cat", "dog")).moves
        (Move(label='cat', baseline='cat', own='dog', n=1),)
    """
    names = (*classes, _NOT_FINITE)  # -1 stands for the last
    per_class: list[ClassChange] = []
    for index, name in enumerate(classes):
        chosen = labels == index
        if n := int(chosen.sum()):
            right = (100 * float(a.correct[chosen].mean()) for a in (baseline, other))
            per_class.append(ClassChange(name, n, *right))
    differs = baseline.predicted != other.predicted
    columns = (labels, baseline.predicted, other.predicted)
    moved = Counter(zip(*(column[differs].tolist() for column in columns), strict=True))
    ordered = sorted(moved.items(), key=lambda item: (-item[1], item[0]))
    return Changes(
        100 * float((~differs).mean()),
        tuple(per_class),
        tuple(Move(names[a], names[b], names[c], n) for (a, b, c), n in ordered),
    )
