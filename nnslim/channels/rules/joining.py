"""Operators that join, split, pad or pick runs of channels."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import cast

import numpy as np

from nnslim.channels.labels import DimLabels, IntArray, Labels
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import Node, Ref, TensorInfo, TensorRef

__all__ = ["RULES"]


def cat(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``cat``: runs one after the other along ``dim``; every other dimension is tied."""
    tensors = args["tensors"]
    assert isinstance(tensors, tuple)
    parts = [part for part in tensors if walk.shape(part) != (0,)]
    rank = len(node.shape)
    along = int(args["dim"]) % rank  # pyright: ignore[reportArgumentType]
    result: list[DimLabels] = []
    for dim in range(rank):
        found = [walk.labels(part)[dim] for part in parts]
        if dim == along:
            result.append(_joined(walk, found, [walk.shape(part)[dim] for part in parts]))
        else:
            for other in found[1:]:
                walk.tie(found[0], other)
            result.append(next((labels for labels in found if labels is not None), None))
    return tuple(result)


def _joined(walk: Walk, found: list[DimLabels], sizes: list[int]) -> DimLabels:
    if all(labels is None for labels in found):
        return None
    runs = [
        _fixed_run(walk, size) if labels is None else labels
        for labels, size in zip(found, sizes, strict=True)
    ]
    return np.concatenate(runs)


def _fixed_run(walk: Walk, size: int) -> IntArray:
    """Labels for entries of fixed size that stand beside channels that may shrink."""
    labels = walk.fresh(size)
    walk.freeze(labels, f"joins a fixed size at {walk.place}")
    return labels


def split(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``split``, ``chunk``, ``tensor_split``: each output is its own run of the channels."""
    infos = node.value
    assert isinstance(infos, tuple)
    labels = walk.labels(args["self"])
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    along = labels[dim]
    if along is None:
        return tuple(labels for _ in infos)
    ends = np.cumsum([info.shape[dim] for info in infos])
    runs = np.split(along, ends[:-1])
    return tuple((*labels[:dim], _unless_single(walk, run), *labels[dim + 1 :]) for run in runs)


def _unless_single(walk: Walk, run: DimLabels) -> DimLabels:
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
    """``slice``: the run from ``start`` to ``end``; over channels only with step 1."""
    labels = walk.labels(args["self"])
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    along, start, end = labels[dim], args["start"], args["end"]
    if along is None:
        return labels
    if args["step"] != 1 or isinstance(start, Ref) or isinstance(end, Ref):
        walk.freeze(along, f"strided or computed slice at {node.place}")
        return (*labels[:dim], None, *labels[dim + 1 :])
    run = along[slice(start, end)]
    return (*labels[:dim], _unless_single(walk, run), *labels[dim + 1 :])


def pad(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``pad``: the padded entries get labels of their own, so they can be cut like channels."""
    labels = list(walk.labels(args["self"]))
    amounts = args["pad"]
    assert isinstance(amounts, tuple)
    constant = args.get("mode", "constant") == "constant"
    for pair in range(len(amounts) // 2):
        before, after = int(amounts[2 * pair]), int(amounts[2 * pair + 1])  # pyright: ignore
        dim = len(labels) - 1 - pair
        along = labels[dim]
        if along is None or before == after == 0:
            continue
        if not constant or before < 0 or after < 0:
            walk.freeze(along, f"cropped or reflected at {node.place}")
            labels[dim] = None
        else:
            labels[dim] = np.concatenate([walk.fresh(before), along, walk.fresh(after)])
    return tuple(labels)


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
    return (*labels[:dim], _unless_single(walk, picked), *labels[dim + 1 :])


def stack(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``stack``: a new dimension of fixed size; every other dimension is tied."""
    tensors = args["tensors"]
    assert isinstance(tensors, tuple)
    assert isinstance(node.value, TensorInfo)
    at = int(args["dim"]) % len(node.shape)  # pyright: ignore[reportArgumentType]
    found = [walk.labels(part) for part in tensors]
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            walk.tie(a, b)
    merged = [
        next((x for x in column if x is not None), None) for column in zip(*found, strict=True)
    ]
    return (*merged[:at], None, *merged[at:])


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "aten.cat.default": cat,
        "aten.split.Tensor": split,
        "aten.split.sizes": split,
        "aten.split_with_sizes.default": split,
        "aten.chunk.default": split,
        "aten.tensor_split.sections": split,
        "aten.unbind.int": unbind,
        "aten.select.int": select,
        "aten.slice.Tensor": slice_,
        "aten.pad.default": pad,
        "aten.constant_pad_nd.default": pad,
        "aten.index_select.default": index_select,
        "aten.stack.default": stack,
        "python.getitem": getitem,
    }
)
