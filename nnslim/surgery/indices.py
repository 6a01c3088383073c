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

__all__ = ["Picked", "kept_index", "picked_channels"]

_PICKING = ("index_select", "index", "slice", "roll", "flip")


@dataclass(frozen=True)
class Picked:
    """What a node picks along one dimension.

    Attributes:
        dim: The dimension.
        labels: What it picks from.
        values: Where each entry of the result comes from.
        given: The tensor that holds the values, where there is one.
    """

    dim: int
    labels: IntArray
    values: IntArray
    given: TensorRef | None = None


def picked_channels(edit: ResolvedEdit, node: Node, tensors: Mapping[str, Tensor]) -> Picked | None:
    """What a node of the uncut network picks from channels that the edit changes, if any."""
    source = node.operand
    if not isinstance(source, (Ref, TensorRef)) or node.family not in _PICKING:
        return None
    labels = edit.channels.labels(source)
    # Of several dimensions, the rules let only one labelled one through.
    labelled = ((dim, labels[dim]) for dim in _dims(node, len(labels)))
    dim, along = next(((dim, run) for dim, run in labelled if run is not None), (0, None))
    if along is None or (edit.counts(along) == 1).all():
        return None
    if node.family == "slice":
        run = slice(*(cast("int", node.argument(name)) for name in ("start", "end", "step")))
        return Picked(dim, along, np.arange(along.size)[run])
    if node.family in ("roll", "flip"):
        return Picked(dim, along, reordered(node, along.size))
    given = node.argument("index" if node.family == "index_select" else "indices")
    given = given[dim] if isinstance(given, tuple) else given
    assert isinstance(given, TensorRef)
    return Picked(dim, along, tensors[given.name].cpu().numpy(), given)


def _dims(node: Node, rank: int) -> tuple[int, ...]:
    """The dimensions that a node picks from by number; a run of them is a literal's matter."""
    match node.family:
        case "index_select":
            return dims_of(node.argument("dim"), rank)
        case "slice":
            return () if node.argument("step") == 1 else dims_of(node.argument("dim"), rank)
        case "index":
            indices = cast("tuple[Arg, ...]", node.argument("indices"))
            return tuple(dim for dim, entry in enumerate(indices) if entry is not None)
        case _:
            return dims_of(node.argument("dims"), rank)


def kept_index(edit: ResolvedEdit, labels: IntArray, index: IntArray) -> IntArray:
    """New values of an index into a dimension that was edited.

    New channels stand after theirs there: after the whole run of a flattened one.
    """
    counts = edit.counts(labels)
    components = edit.channels.component[labels]
    runs = _runs(components)
    lengths = np.array([len(run) for run in runs])
    totals = lengths * counts[[run[0] for run in runs]]
    first = np.repeat(np.cumsum(totals) - totals, lengths)
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
