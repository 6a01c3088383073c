"""What changed between two files on the same images: class by class, and from which to which."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from nnslim.measure.accuracy import Accuracy

__all__ = ["Changes", "ClassChange", "Move", "find_changes"]

_NOT_FINITE = "(not finite)"


@dataclass(frozen=True)
class ClassChange:
    """Top-1 accuracy on the images of one class.

    Attributes:
        name: Of the class.
        n: Its images.
        baseline_pct: The baseline's accuracy on them.
        own_pct: The file's.
    """

    name: str
    n: int
    baseline_pct: float
    own_pct: float


@dataclass(frozen=True)
class Move:
    """Images of one class that the two files put into different classes.

    Attributes:
        label: What they are.
        baseline: What the baseline calls them.
        own: What the file calls them.
        n: How many.
    """

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

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return asdict(self)


def find_changes(
    baseline: Accuracy, other: Accuracy, labels: np.ndarray, classes: tuple[str, ...]
) -> Changes:
    """Compare predictions on the same images, in the same order.

    Args:
        baseline: Predictions of the baseline.
        other: Of the file.
        labels: Of the images, (N,).
        classes: Names.

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
