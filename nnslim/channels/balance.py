"""Balances: runs of channels of which the same number must stay, such as convolution groups.

A balance that channels cannot keep one by one, because they stand in several of its rows or in
rows of different balances that cross, is kept by tying the rows position by position.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnslim.channels.labels import IntArray, connected_components
from nnslim.channels.walk import Walk

__all__ = ["balanced_components", "tie_rows", "uneven_balance"]


def balanced_components(walk: Walk) -> IntArray:
    """Return the component of every label, with the balances that cannot be kept freely tied.

    The walk keeps the balances that are left: every channel stands in one row of each at most, and
    of two that share channels one divides the other's rows.
    """
    while True:
        component = _solve(walk)
        crossing = _crossing(walk.balances, component)
        if crossing is None:
            return component
        tie_rows(walk, crossing)


def tie_rows(walk: Walk, number: int) -> None:
    """Keep a balance by tying its rows, position by position."""
    rows = walk.balances.pop(number)
    first = np.broadcast_to(rows[:1], rows.shape)
    walk.ties.append((first.ravel(), rows.ravel()))


def uneven_balance(
    walk: Walk, component: IntArray, groups: Sequence[IntArray], frozen: np.ndarray
) -> int | None:
    """Number of the first balance of which a group fills some rows more than others, or None."""
    row = np.full(len(frozen), -1, dtype=np.int64)
    for number, balance in enumerate(walk.balances):
        row[:] = -1
        row[component[balance]] = np.arange(len(balance))[:, None]
        for channels in groups:
            rows = row[channels]
            if rows[0] < 0 or frozen[channels[0]]:
                continue
            if len(np.unique(np.bincount(rows, minlength=len(balance)))) > 1:
                return number
    return None


def _solve(walk: Walk) -> IntArray:
    empty = np.zeros(0, dtype=np.int64)
    left = np.concatenate([empty, *(a for a, _ in walk.ties)])
    right = np.concatenate([empty, *(b for _, b in walk.ties)])
    return connected_components(walk.n_labels, left, right)


def _crossing(balances: list[IntArray], component: IntArray) -> int | None:
    """Number of the first balance that must be tied, or None."""
    kept: list[tuple[IntArray, IntArray]] = []
    for number, balance in enumerate(balances):
        rows = component[balance]
        every, row, count = _row_of(rows)
        if (row < 0).any() or len(np.unique(count)) > 1:
            return number
        for others, other_row in kept:
            _, mine, theirs = np.intersect1d(every, others, return_indices=True)
            if mine.size and not (
                mine.size == every.size == others.size
                and (
                    _divides(row[mine], other_row[theirs]) or _divides(other_row[theirs], row[mine])
                )
            ):
                return number
        kept.append((every, row))
    return None


def _row_of(rows: IntArray) -> tuple[IntArray, IntArray, IntArray]:
    """Each channel of a balance, its row (-1 where it has several) and how often it stands."""
    every, first, inverse, count = np.unique(
        rows.ravel(), return_index=True, return_inverse=True, return_counts=True
    )
    row_of_entry = np.arange(rows.size) // rows.shape[1]
    row = row_of_entry[first]
    mixed = np.zeros(every.size, dtype=bool)
    mixed[inverse.ravel()[row_of_entry != row[inverse.ravel()]]] = True
    return every, np.where(mixed, -1, row), count


def _divides(fine: IntArray, coarse: IntArray) -> bool:
    """Whether every row of ``fine`` lies inside one row of ``coarse``."""
    pairs = np.unique(np.stack([fine, coarse]), axis=1)
    return pairs.shape[1] == len(np.unique(fine))
