"""Operators that pick channels by number, as constant indices that an edit can rewrite."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import numpy as np
from torch import Tensor

from nnslim.channels.labels import IntArray
from nnslim.channels.rules.picking import reordered
from nnslim.network.graph import Arg, Node, Ref, TensorRef, dims_of
from nnslim.surgery.edit import ResolvedEdit

__all__ = ["kept_index", "labels_of_picked"]


@dataclass(frozen=True)
class Picked:
    """What a node picks along one dimension.

    Attributes:
        dim: The dimension.
        values: Where each entry of the result comes from.
        given: The tensor that holds the values, where there is one.
    """

    dim: int
    values: IntArray
    given: TensorRef | None = None


def labels_of_picked(
    edit: ResolvedEdit, node: Node, tensors: Mapping[str, Tensor]
) -> tuple[IntArray, Picked] | tuple[None, None]:
    """Labels of the dimension that a node of the uncut network picks from, and what it picks.

    Both are None for a node that picks nothing, or nothing that the edit changes.
    """
    source = node.operand
    if not isinstance(source, (Ref, TensorRef)) or node.family not in _PICKING:
        return None, None
    labels = edit.channels.labels(source)
    dim, given = _dimension(node, len(labels), [along is not None for along in labels])
    along = labels[dim] if dim is not None else None
    if dim is None or along is None or (edit.counts(along) == 1).all():
        return None, None
    if given is not None:
        return along, Picked(dim, tensors[given.name].cpu().numpy(), given)
    if node.family == "slice":
        run = slice(*(cast("int", node.argument(name)) for name in ("start", "end", "step")))
        return along, Picked(dim, np.arange(along.size)[run])
    return along, Picked(dim, reordered(node, along.size))


def _dimension(node: Node, rank: int, labelled: list[bool]) -> tuple[int | None, TensorRef | None]:
    """The labelled dimension that a node picks from, and the tensor that says what."""
    match node.family:
        case "index_select":
            dim, index = dims_of(node.argument("dim"), rank)[0], node.argument("index")
        case "index":
            indices = cast("tuple[Arg, ...]", node.argument("indices"))
            used = [dim for dim, entry in enumerate(indices) if entry is not None]
            dim, index = used[0], indices[used[0]] if len(used) == 1 else None
        case "slice":
            step = node.argument("step")
            return (None if step == 1 else dims_of(node.argument("dim"), rank)[0]), None
        case _:  # roll, flip: the rule lets only one labelled dimension through
            moved = [dim for dim in dims_of(node.argument("dims"), rank) if labelled[dim]]
            return (moved[0] if moved else None), None
    return (dim, index) if isinstance(index, TensorRef) else (None, None)


def kept_index(edit: ResolvedEdit, labels: IntArray, index: IntArray) -> IntArray:
    """New values of an index into a dimension that was edited.

    New channels stand after theirs there: after the whole run of a flattened one.
    """
    counts = edit.counts(labels)
    components = edit.channels.component[labels]
    runs = _runs(components)
    lengths = np.array([len(run) for run in runs])
    ends = np.cumsum(lengths * counts[[run[0] for run in runs]])
    first = np.repeat(ends - lengths * counts[[run[0] for run in runs]], lengths)
    length, offset = np.repeat(lengths, lengths), np.concatenate([r - r[0] for r in runs])
    pieces = [np.zeros(0, dtype=np.int64)]
    for run in _runs(components[index]):
        picked = index[run]
        copies = np.arange(int(counts[picked[0]]))[:, None]
        pieces.append((first[picked] + copies * length[picked] + offset[picked]).ravel())
    return np.concatenate(pieces)


def _runs(numbers: IntArray) -> list[IntArray]:
    """Positions of each run of equal numbers."""
    return np.split(np.arange(len(numbers)), np.flatnonzero(np.diff(numbers)) + 1)


_PICKING = ("index_select", "index", "slice", "roll", "flip")
