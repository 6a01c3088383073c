"""Operators that move, merge or split whole dimensions.

Both shapes are cut at the union of their cumulative products into *atoms*; a dimension splits
into its atoms, and atoms merge into the new dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType

import numpy as np

from nnslim.channels.labels import DimLabels, IntArray, Labels
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import BATCH, Node, TensorInfo

__all__ = ["RULES", "reshape_labels"]


def permute(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``permute``: the dimensions in another order."""
    labels = walk.labels(args["self"])
    dims = args["dims"]
    assert isinstance(dims, tuple)
    return tuple(labels[int(dim)] for dim in dims)  # pyright: ignore[reportArgumentType]


def transpose(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``transpose``: two dimensions change places."""
    labels = list(walk.labels(args["self"]))
    a, b = int(args["dim0"]), int(args["dim1"])  # pyright: ignore[reportArgumentType]
    labels[a], labels[b] = labels[b], labels[a]
    return tuple(labels)


def matrix_transpose(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``t``: the dimensions in reverse order."""
    return tuple(reversed(walk.labels(args["self"])))


def reshape(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``reshape`` and its kin: the same entries in row-major order under another shape."""
    assert isinstance(node.value, TensorInfo)
    return reshape_labels(walk, args["self"], node.value.shape)


def reshape_labels(walk: Walk, source: object, new: tuple[int, ...]) -> Labels:
    """Return the labels of ``source`` seen under the shape ``new``."""
    old: tuple[int, ...] = walk.shape(source)  # pyright: ignore[reportArgumentType]
    labels: Labels = walk.labels(source)  # pyright: ignore[reportArgumentType]
    result: list[DimLabels] = [None] * len(new)
    for old_dims, new_dims in _segments(old, new):
        if all(labels[dim] is None for dim in old_dims):
            continue
        atoms = _atoms([old[d] for d in old_dims], [new[d] for d in new_dims])
        if atoms is None:
            for dim in old_dims:
                walk.freeze(labels[dim], f"sizes do not divide at {walk.place}")
            continue
        by_atom = [
            part
            for dim, sizes in zip(old_dims, atoms.old, strict=True)
            for part in _split(walk, labels[dim], sizes)
        ]
        for dim, sizes in zip(new_dims, atoms.new, strict=True):
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


@dataclass(frozen=True)
class _Atoms:
    old: list[list[int]]
    new: list[list[int]]


def _atoms(old: list[int], new: list[int]) -> _Atoms | None:
    """Sizes of the atoms of every old and new dimension, or None where they do not divide."""
    cuts = sorted(
        {1} | {int(np.prod(s[:k], dtype=object)) for s in (old, new) for k in range(1, len(s) + 1)}
    )
    if any(high % low for low, high in pairwise(cuts)):
        return None
    sizes = [high // low for low, high in pairwise(cuts)]

    # Products accumulate from the first dimension on, so atoms come in dimension order.
    def pieces(shape: list[int]) -> list[list[int]]:
        rest, result = list(sizes), []
        for size in shape:
            own: list[int] = []
            while int(np.prod(own, dtype=object)) != size:
                own.append(rest.pop(0))
            result.append(own)
        return result

    return _Atoms(pieces(old), pieces(new))


def _split(walk: Walk, labels: DimLabels, sizes: list[int]) -> list[DimLabels]:
    """Labels per atom: along the one axis they vary on; ties along the others if there are more."""
    if labels is None:
        return [None] * len(sizes)
    if len(sizes) == 1:
        return [labels]
    block = labels.reshape(sizes)
    varied = [axis for axis in range(len(sizes)) if (block != block.take([0], axis)).any()]
    axis = max(varied or [0], key=lambda a: sizes[a])
    kept = _line(block, axis)
    if len(varied) > 1:
        shape = [1] * len(sizes)
        shape[axis] = sizes[axis]
        walk.tie(np.broadcast_to(kept.reshape(shape), sizes).ravel(), block.ravel())
    return [kept if a == axis else None for a in range(len(sizes))]


def _line(block: IntArray, axis: int) -> IntArray:
    index: list[int | slice] = [0] * block.ndim
    index[axis] = slice(None)
    return block[tuple(index)]


def _merge(walk: Walk, parts: list[DimLabels], sizes: list[int]) -> DimLabels:
    """Labels of a merged dimension: one atom's labels repeated over the others."""
    labelled = [axis for axis, labels in enumerate(parts) if labels is not None]
    if not labelled:
        return None
    kept = max(labelled, key=lambda axis: sizes[axis])
    for axis in labelled:
        if axis != kept:
            walk.freeze(parts[axis], f"two channel dimensions are merged at {walk.place}")
    labels = parts[kept]
    assert labels is not None
    if len(sizes) > 1 and any(size % BATCH == 0 for size in sizes):
        walk.freeze(labels, f"merged with the batch at {walk.place}")
        return None
    shape = [1] * len(sizes)
    shape[kept] = sizes[kept]
    return np.broadcast_to(labels.reshape(shape), sizes).ravel()


_RESHAPES = """
reshape.default view.default flatten.using_ints unflatten.int squeeze.default squeeze.dim
squeeze.dims unsqueeze.default
"""

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **{f"aten.{name}": reshape for name in _RESHAPES.split()},
        "aten.permute.default": permute,
        "aten.transpose.int": transpose,
        "aten.t.default": matrix_transpose,
        "aten.numpy_T.default": matrix_transpose,
    }
)
