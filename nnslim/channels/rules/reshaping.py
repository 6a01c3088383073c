"""Operators that move, merge or split whole dimensions.

Both shapes are cut at the union of their cumulative products into *atoms*; a dimension splits
into its atoms, and atoms merge into the new dimensions.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from operator import mul

import numpy as np

from nnslim.channels.labels import DimLabels, Labels, replaced
from nnslim.channels.rules.elementwise import join, sized
from nnslim.channels.rules.picking import dimension
from nnslim.channels.walk import Arguments, RuleResult, Walk
from nnslim.network.graph import BATCH, Node

__all__ = ["permute", "pixel_shuffle", "pixel_unshuffle", "reshape", "reshape_as", "unfold"]


def permute(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``permute``, ``transpose``, ``movedim`` and their kin: the dimensions in another order."""
    labels = walk.labels(args["self"])
    return tuple(labels[dim] for dim in node.permutation(len(labels)))


def reshape_as(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``reshape_as``, ``view_as``: the shape follows ``other``, so the result is tied to it."""
    labels = reshape(walk, node, args)
    return join(walk, [(labels, node.shape), sized(walk, args["other"])], node.shape)


def pixel_shuffle(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``pixel_shuffle``, ``col2im``: a run of channels becomes pixels of one channel."""
    labels = walk.labels(args["self"])
    at = len(node.shape) - 3
    pixels = walk.shape(args["self"])[at] // node.shape[at]
    channels = _split(walk, labels[at], [node.shape[at], pixels], axis=0)[0]
    walk.freeze(labels[at + 1 :], f"pixels of {node.place}")
    return (*labels[:at], channels, None, None)


def pixel_unshuffle(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``pixel_unshuffle``, ``im2col``: pixels of one channel become a run of channels."""
    labels = walk.labels(args["self"])
    at = len(labels) - 3
    walk.freeze(labels[at + 1 :], f"pixels of {node.place}")
    channels = labels[at]
    run = None if channels is None else channels.repeat(node.shape[at] // channels.size)
    return (*labels[:at], run, *(None,) * (len(node.shape) - at - 1))


def unfold(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``unfold``: windows of one dimension, which must stay; their places are a new last one."""
    labels, dim, along = dimension(walk, {"self": args["self"], "dim": args["dimension"]})
    walk.freeze(along, f"windows are taken of it at {node.place}")
    return (*replaced(labels, dim, None), None)


def reshape(walk: Walk, node: Node, args: Arguments) -> Labels:
    """``reshape`` and its kin: the same entries in row-major order under another shape."""
    (labels, old), new = sized(walk, args["self"]), node.shape
    result: list[DimLabels] = [None] * len(new)
    for old_dims, new_dims in _segments(old, new):
        if all(labels[dim] is None for dim in old_dims):
            continue
        atoms = _atoms([old[d] for d in old_dims], [new[d] for d in new_dims])
        if atoms is None:
            stuck = tuple(labels[dim] for dim in old_dims)
            walk.freeze(stuck, f"sizes do not divide at {walk.place}")
            continue
        by_atom = [
            part
            for dim, sizes in zip(old_dims, atoms[0], strict=True)
            for part in _split(walk, labels[dim], sizes)
        ]
        for dim, sizes in zip(new_dims, atoms[1], strict=True):
            parts, by_atom = by_atom[: len(sizes)], by_atom[len(sizes) :]
            result[dim] = _merge(walk, parts, sizes)
    return tuple(result)


def _segments(old: Sequence[int], new: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Pair the shortest runs of dimensions with equal products; size 1 belongs to none."""
    a = [dim for dim, size in enumerate(old) if size != 1]
    b = [dim for dim, size in enumerate(new) if size != 1]
    result: list[tuple[list[int], list[int]]] = []
    while a and b:
        left, right = [a.pop(0)], [b.pop(0)]
        p, q = old[left[0]], new[right[0]]
        while p != q and (a if p < q else b):
            if p < q:
                left.append(a.pop(0))
                p *= old[left[-1]]
            else:
                right.append(b.pop(0))
                q *= new[right[-1]]
        result.append((left, right))
    return result


def _atoms(old: list[int], new: list[int]) -> list[list[list[int]]] | None:
    """Sizes of the atoms of each old and each new dimension; None where they do not divide."""
    cuts = sorted({1, *accumulate(old, mul), *accumulate(new, mul)})
    if any(high % low for low, high in pairwise(cuts)):
        return None
    # Products accumulate from the first dimension on, so atoms come in dimension order.
    return [
        [
            [high // low for low, high in pairwise(cuts) if start <= low < end]
            for start, end in pairwise(accumulate(shape, mul, initial=1))
        ]
        for shape in (old, new)
    ]


def _split(
    walk: Walk, labels: DimLabels, sizes: list[int], axis: int | None = None
) -> list[DimLabels]:
    """Labels per atom: along the one axis they vary on; ties along the others if there are more."""
    if labels is None:
        return [None] * len(sizes)
    if len(sizes) == 1:
        return [labels]
    block = labels.reshape(sizes)
    axis = walk.pick_axis(block) if axis is None else axis
    lines = np.moveaxis(block, axis, -1)
    kept = lines.reshape(-1, sizes[axis])[0]
    if (lines != kept).any():
        walk.tie(np.broadcast_to(kept, lines.shape).ravel(), lines.ravel())
    return [kept if a == axis else None for a in range(len(sizes))]


def _merge(walk: Walk, parts: list[DimLabels], sizes: list[int]) -> DimLabels:
    """Labels of a merged dimension: one atom's labels repeated over the others."""
    labelled = [axis for axis, labels in enumerate(parts) if labels is not None]
    if not labelled:
        return None
    kept = max(labelled, key=lambda axis: sizes[axis])
    others = tuple(parts[axis] for axis in labelled if axis != kept)
    walk.freeze(others, f"two channel dimensions are merged at {walk.place}")
    labels = parts[kept]
    assert labels is not None
    if len(sizes) > 1 and any(size % BATCH == 0 for size in sizes):
        walk.freeze(labels, f"merged with the batch at {walk.place}")
        return None
    return np.tile(labels.repeat(math.prod(sizes[kept + 1 :])), math.prod(sizes[:kept]))
