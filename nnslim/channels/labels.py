"""Labels: one integer per channel index of a dimension, tied into components all at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["DimLabels", "IntArray", "Labels", "connected_components", "replaced"]

IntArray = NDArray[np.int64]

# Labels along one dimension, one per index; None where the size can never change.
DimLabels = IntArray | None

# Labels of a value, one entry per dimension.
Labels = tuple[DimLabels, ...]


def replaced(labels: Labels, dim: int, along: DimLabels) -> Labels:
    """Return labels with others along one dimension, which is counted from 0."""
    return (*labels[:dim], along, *labels[dim + 1 :])


def connected_components(n: int, left: IntArray, right: IntArray) -> IntArray:
    """Return the component of each of ``n`` labels, given the pairs that belong together.

    Components are numbered 0, 1, ... in the order of their smallest label. Every round hooks each
    root to the smallest root it is tied to, then flattens the trees: about log(n) rounds.

    Args:
        n: Number of labels.
        left: One label of each pair, ``(m,)``.
        right: The other label of each pair, ``(m,)``.

    Example:
        >>> connected_components(5, np.array([0, 3]), np.array([3, 4])).tolist()
        [0, 1, 2, 0, 0]
    """
    parent = np.arange(n, dtype=np.int64)
    while left.size:
        a, b = parent[left], parent[right]
        open_pairs = a != b
        if not open_pairs.any():
            break
        left, right, a, b = left[open_pairs], right[open_pairs], a[open_pairs], b[open_pairs]
        np.minimum.at(parent, np.maximum(a, b), np.minimum(a, b))
        while True:
            grand = parent[parent]
            if np.array_equal(grand, parent):
                break
            parent = grand
    # Every root is the smallest label of its component, and its parent is itself.
    number = np.cumsum(parent == np.arange(n)) - 1
    return number[parent]
