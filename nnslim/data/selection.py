"""Draw a seeded part of a labelled set in which every class keeps its share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from nnslim.errors import InputError

__all__ = ["stratified_indices"]


def stratified_indices(
    labels: NDArray[np.int64], count: int, *, seed: int, leave: int = 0
) -> NDArray[np.int64]:
    """Choose ``count`` samples so that each class keeps its share, give or take one sample.

    Args:
        labels: (N,) class of every sample.
        count: How many to choose.
        seed: The same seed chooses the same samples.
        leave: How many samples of every class must stay unchosen; then fewer than ``count`` may
            be chosen.

    Returns:
        The chosen indices in ascending order.

    Raises:
        InputError: ``count`` is below 1 or above N.

    Example:
        >>> chosen = stratified_indices(np.array([0] * 8 + [1] * 4), 6, seed=0)
        >>> np.bincount(np.array([0] * 8 + [1] * 4)[chosen]).tolist()
        [4, 2]
    """
    if not 1 <= count <= len(labels):
        message = f"cannot choose {count} of {len(labels)} images"
        raise InputError(message, hint=f"ask for 1 to {len(labels)}")
    sizes = np.bincount(labels)
    rng = np.random.default_rng(seed)
    by_class = np.split(np.argsort(labels, kind="stable"), np.cumsum(sizes)[:-1])
    quotas = _quotas(sizes, count, np.maximum(sizes - leave, 0), rng)
    parts = zip(by_class, quotas, strict=True)
    chosen = [rng.permutation(members)[:quota] for members, quota in parts]
    return np.sort(np.concatenate(chosen)).astype(np.int64)


def _quotas(
    sizes: NDArray[np.int64], count: int, most: NDArray[np.int64], rng: np.random.Generator
) -> NDArray[np.int64]:
    """Share ``count`` among the classes by the largest remainder, no class above ``most``."""
    shares = sizes * count / sizes.sum()
    quotas = np.minimum(np.floor(shares).astype(np.int64), most)
    # Equal remainders are common (balanced sets): the seed, not the class number, breaks the tie.
    order = np.lexsort((rng.random(len(sizes)), -(shares - np.floor(shares))))
    while (missing := count - int(quotas.sum())) > 0:
        open_classes = [c for c in order if quotas[c] < most[c]][:missing]
        if not open_classes:
            break
        quotas[open_classes] += 1
    return quotas
