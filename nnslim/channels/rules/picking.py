"""Operators that pick or reorder channels by number."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

import numpy as np
import torch

from nnslim.channels.labels import DimLabels, IntArray, Labels
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import Arg, Node, Ref, TensorRef, dims_of

__all__ = ["RULES", "reordered", "unless_single"]


def unless_single(walk: Walk, run: DimLabels) -> DimLabels:
    """A dimension of size 1 broadcasts and carries no labels, so its one channel must stay."""
    if run is not None and run.size == 1:
        walk.freeze(run, f"a single channel at {walk.place}")
        return None
    return run


def getitem(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """The output of a list-valued operator that was asked for, by number."""
    source, index = args["a"], args["b"]
    assert isinstance(source, Ref)
    assert isinstance(index, int)
    return cast("tuple[Labels, ...]", walk.values[source.name])[index]


def unbind(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``unbind``: drops a dimension; every index of it is used by number, so it must stay."""
    assert isinstance(node.value, tuple)
    labels = walk.labels(args["self"])
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    walk.freeze(labels[dim], f"indexed one by one at {node.place}")
    rest: Labels = (*labels[:dim], *labels[dim + 1 :])
    return tuple(rest for _ in node.value)


def select(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``select``: one index of a dimension, by number, so the dimension must stay."""
    labels = walk.labels(args["self"])
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    walk.freeze(labels[dim], f"indexed by number at {node.place}")
    return (*labels[:dim], *labels[dim + 1 :])


def slice_(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``slice``: the indices from ``start`` to ``end``, every ``step``."""
    labels = walk.labels(args["self"])
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    along, start, end, step = labels[dim], args["start"], args["end"], args["step"]
    if along is None:
        return labels
    if not isinstance(step, int) or isinstance(start, Ref) or isinstance(end, Ref):
        walk.freeze(along, f"computed slice at {node.place}")
        return (*labels[:dim], None, *labels[dim + 1 :])
    run = along[slice(start, end, step)]
    return (*labels[:dim], unless_single(walk, run), *labels[dim + 1 :])


def index_select(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``index_select`` by a constant: the labels in the order of the index."""
    labels = walk.labels(args["self"])
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    along, index = labels[dim], args["index"]
    if along is None:
        return labels
    if not isinstance(index, TensorRef):
        walk.freeze(along, f"computed index at {node.place}")
        return (*labels[:dim], None, *labels[dim + 1 :])
    picked = along[walk.tensors[index.name].cpu().numpy()]
    return (*labels[:dim], unless_single(walk, picked), *labels[dim + 1 :])


def index(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``x[:, index]`` by one constant list is ``index_select``; by anything else it is frozen."""
    labels, indices = walk.labels(args["self"]), args["indices"]
    assert isinstance(indices, tuple)
    used = [dim for dim, entry in enumerate(indices) if entry is not None]
    if len(used) != 1:
        return walk.refuse(node, f"several indices at {node.place}")
    dim, entry = used[0], indices[used[0]]
    rank = len(walk.shape(entry))
    if isinstance(entry, TensorRef) and rank == 1 and not _is_mask(walk, entry):
        return index_select(walk, node, {"self": args["self"], "dim": dim, "index": entry})
    walk.freeze(labels[dim], f"looked up by number at {node.place}")
    if len(node.shape) != len(labels) - 1 + rank:
        return walk.refuse(node, f"a mask as an index at {node.place}")
    return (*labels[:dim], *(None,) * rank, *labels[dim + 1 :])


def _is_mask(walk: Walk, entry: TensorRef) -> bool:
    return walk.tensors[entry.name].dtype == torch.bool


def reorder(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``roll`` and ``flip``: pixels keep their labels' places, channels take them along."""
    labels = list(walk.labels(args["self"]))
    dims = dims_of(args["dims"], len(labels))
    moved = [dim for dim in dims if labels[dim] is not None]
    if not moved:
        return tuple(labels)
    if len(dims) > 1 or any(isinstance(s, Ref) for s in _numbers(args.get("shifts"))):
        for dim in moved:
            walk.freeze(labels[dim], f"moved along several dimensions at {node.place}")
        return tuple(labels)
    along = labels[moved[0]]
    assert along is not None
    labels[moved[0]] = along[reordered(node, along.size)]
    return tuple(labels)


def _numbers(arg: Arg) -> tuple[Arg, ...]:
    return arg if isinstance(arg, tuple) else (arg,)


def reordered(node: Node, size: int) -> IntArray:
    """Where each entry of the one dimension that ``roll`` or ``flip`` moves comes from."""
    order = np.arange(size)
    if node.family == "flip":
        return order[::-1]
    return np.roll(order, int(_numbers(node.argument("shifts"))[0]))  # pyright: ignore[reportArgumentType]


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "aten.unbind.int": unbind,
        "aten.select.int": select,
        "aten.slice.Tensor": slice_,
        "aten.index_select.default": index_select,
        "aten.index.Tensor": index,
        "aten.roll.default": reorder,
        "aten.flip.default": reorder,
        "python.getitem": getitem,
    }
)
