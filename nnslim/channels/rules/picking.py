"""Operators that pick or reorder channels by number."""

from __future__ import annotations

from typing import cast

import numpy as np
import torch

from nnslim.channels.labels import DimLabels, IntArray, Labels, replaced
from nnslim.channels.walk import Arguments, RuleResult, Walk
from nnslim.network.graph import Arg, Node, Ref, TensorInfo, TensorRef, dims_of

__all__ = [
    "dimension",
    "getitem",
    "index",
    "index_select",
    "reorder",
    "reordered",
    "select",
    "slice_",
    "unbind",
    "unless_single",
]


def dimension(walk: Walk, args: Arguments) -> tuple[Labels, int, DimLabels]:
    """Labels of ``self``, the dimension ``dim`` counted from 0, and the labels along it."""
    labels = walk.labels(args["self"])
    dim = cast("int", args["dim"]) % len(labels)
    return labels, dim, labels[dim]


def unless_single(walk: Walk, run: DimLabels) -> DimLabels:
    """A dimension of size 1 broadcasts and carries no labels, so its one channel must stay."""
    if run is not None and run.size == 1:
        walk.freeze(run, f"a single channel at {walk.place}")
        return None
    return run


def getitem(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """The output of a list-valued operator that was asked for, by number."""
    source = walk.values[cast("Ref", args["a"]).name]
    return cast("tuple[Labels, ...]", source)[cast("int", args["b"])]


def unbind(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``unbind``: drops a dimension; every index of it is used by number, so it must stay."""
    labels, dim, along = dimension(walk, args)
    walk.freeze(along, f"indexed one by one at {node.place}")
    rest = (*labels[:dim], *labels[dim + 1 :])
    return tuple(rest for _ in cast("tuple[TensorInfo, ...]", node.value))


def select(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``select``: one index of a dimension, by number, so the dimension must stay."""
    labels, dim, along = dimension(walk, args)
    walk.freeze(along, f"indexed by number at {node.place}")
    return (*labels[:dim], *labels[dim + 1 :])


def slice_(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``slice``: the indices from ``start`` to ``end``, every ``step``."""
    labels, dim, along = dimension(walk, args)
    bounds = tuple(args[name] for name in ("start", "end", "step"))
    if along is None:
        return labels
    if any(isinstance(bound, Ref) for bound in bounds):
        walk.freeze(along, f"computed slice at {node.place}")
        return replaced(labels, dim, None)
    return replaced(labels, dim, unless_single(walk, along[slice(*bounds)]))


def index_select(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``index_select`` by a constant: the labels in the order of the index."""
    labels, dim, along = dimension(walk, args)
    index = args["index"]
    if along is None:
        return labels
    if not isinstance(index, TensorRef):
        walk.freeze(along, f"computed index at {node.place}")
        return replaced(labels, dim, None)
    picked = along[walk.tensors[index.name].cpu().numpy()]
    return replaced(labels, dim, unless_single(walk, picked))


def index(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``x[:, index]`` by one constant list is ``index_select``; by anything else it is frozen."""
    labels, indices = walk.labels(args["self"]), cast("tuple[Arg, ...]", args["indices"])
    used = [dim for dim, entry in enumerate(indices) if entry is not None]
    if len(used) != 1:
        return walk.refuse(node, f"several indices at {node.place}")
    dim, entry = used[0], indices[used[0]]
    rank = len(walk.shape(entry))
    if isinstance(entry, TensorRef) and rank == 1 and walk.tensors[entry.name].dtype != torch.bool:
        return index_select(walk, node, {"self": args["self"], "dim": dim, "index": entry})
    walk.freeze(labels[dim], f"looked up by number at {node.place}")
    if len(node.shape) != len(labels) - 1 + rank:
        return walk.refuse(node, f"a mask as an index at {node.place}")
    return (*labels[:dim], *(None,) * rank, *labels[dim + 1 :])


def reorder(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``roll`` and ``flip``: pixels keep their labels' places, channels take them along."""
    labels = walk.labels(args["self"])
    dims = dims_of(args["dims"], len(labels))
    moved = [dim for dim in dims if labels[dim] is not None]
    if len(dims) > 1 or any(isinstance(s, Ref) for s in _numbers(args.get("shifts"))):
        places = tuple(labels[dim] for dim in moved)
        walk.freeze(places, f"moved along several dimensions at {node.place}")
        return labels
    along = labels[moved[0]] if moved else None
    return (
        labels if along is None else replaced(labels, moved[0], along[reordered(node, along.size)])
    )


def _numbers(arg: Arg) -> tuple[Arg, ...]:
    return arg if isinstance(arg, tuple) else (arg,)


def reordered(node: Node, size: int) -> IntArray:
    """Where each entry of the one dimension that ``roll`` or ``flip`` moves comes from."""
    order = np.arange(size)
    if node.family == "flip":
        return order[::-1]
    return np.roll(order, cast("int", _numbers(node.argument("shifts"))[0]))
