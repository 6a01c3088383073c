"""Operators that move, merge or split whole dimensions.

Both shapes are cut at the union of their cumulative products into *atoms*; a dimension splits
into its atoms, and atoms merge into the new dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from types import MappingProxyType
from typing import cast

import numpy as np
import torch

from nnslim.channels.labels import DimLabels, IntArray, Labels
from nnslim.channels.rules.elementwise import join
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import BATCH, Node, TensorInfo
from nnslim.network.operators import resolve

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


def reshape_as(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``reshape_as``, ``view_as``: the shape follows ``other``, so the result is tied to it."""
    labels = reshape_labels(walk, args["self"], node.shape)
    return join(walk, [(labels, node.shape), (walk.labels(args["other"]), node.shape)], node.shape)


def movedim(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``movedim`` and its kin: a permutation, read off what torch does to distinct sizes."""
    labels = walk.labels(args["self"])
    sizes = torch.empty(*range(2, len(labels) + 2), device="meta")
    moved = cast("torch.Tensor", resolve(node.op)(**{**args, "self": sizes}))
    return tuple(labels[size - 2] for size in moved.shape)


def pixel_shuffle(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``pixel_shuffle``, ``col2im``: a run of channels becomes pixels of one channel."""
    labels = walk.labels(args["self"])
    at = len(node.shape) - 3
    pixels = walk.shape(args["self"])[at] // node.shape[at]
    channels = _split(walk, labels[at], [node.shape[at], pixels], axis=0)[0]
    for along in labels[at + 1 :]:
        walk.freeze(along, f"pixels of {node.place}")
    return (*labels[:at], channels, None, None)


def pixel_unshuffle(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``pixel_unshuffle``, ``im2col``: pixels of one channel become a run of channels."""
    labels = walk.labels(args["self"])
    at = len(labels) - 3
    for along in labels[at + 1 :]:
        walk.freeze(along, f"pixels of {node.place}")
    channels = labels[at]
    run = None if channels is None else channels.repeat(node.shape[at] // channels.size)
    return (*labels[:at], run, *(None,) * (len(node.shape) - at - 1))


def unfold(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``unfold``: windows of one dimension, which must stay; their places are a new last one."""
    labels = list(walk.labels(args["self"]))
    dim = int(args["dimension"]) % len(labels)  # pyright: ignore[reportArgumentType]
    walk.freeze(labels[dim], f"windows are taken of it at {node.place}")
    labels[dim] = None
    return (*labels, None)


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
            atoms: list[int] = []
            while int(np.prod(atoms, dtype=object)) != size:
                atoms.append(rest.pop(0))
            result.append(atoms)
        return result

    return _Atoms(pieces(old), pieces(new))


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
    kept = _line(block, axis)
    shape = [1] * len(sizes)
    shape[axis] = sizes[axis]
    repeated = np.broadcast_to(kept.reshape(shape), sizes)
    if (repeated != block).any():
        walk.tie(repeated.ravel(), block.ravel())
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

_MOVES = "movedim.int movedim.intlist moveaxis.int swapaxes.default"

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **{f"aten.{name}": reshape for name in _RESHAPES.split()},
        "aten.permute.default": permute,
        "aten.transpose.int": transpose,
        "aten.t.default": matrix_transpose,
        "aten.numpy_T.default": matrix_transpose,
        "aten.reshape_as.default": reshape_as,
        "aten.view_as.default": reshape_as,
        **{f"aten.{name}": movedim for name in _MOVES.split()},
        "aten.pixel_shuffle.default": pixel_shuffle,
        "aten.col2im.default": pixel_shuffle,
        "aten.pixel_unshuffle.default": pixel_unshuffle,
        "aten.im2col.default": pixel_unshuffle,
        "aten.unfold.default": unfold,
    }
)
