"""Operators that join, split, pad or repeat runs of channels."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from nnslim.channels.labels import DimLabels, IntArray
from nnslim.channels.rules.picking import unless_single
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import Node, TensorInfo

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
        operands = [walk.labels(part)[dim] for part in parts]
        if dim == along:
            result.append(_joined(walk, operands, [walk.shape(part)[dim] for part in parts]))
        else:
            result.append(walk.tie_all(operands))
    return tuple(result)


def _joined(walk: Walk, operands: list[DimLabels], sizes: list[int]) -> DimLabels:
    if all(labels is None for labels in operands):
        return None
    runs = [
        _fixed_run(walk, size) if labels is None else labels
        for labels, size in zip(operands, sizes, strict=True)
    ]
    return np.concatenate(runs)


def _fixed_run(walk: Walk, size: int) -> IntArray:
    """Labels for entries of fixed size that stand beside channels that may shrink."""
    labels = walk.fresh(size)
    walk.freeze(labels, f"joins a fixed size at {walk.place}")
    return labels


def split(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``split``, ``chunk``, ``tensor_split``: each output is a run of the channels."""
    infos = node.value
    assert isinstance(infos, tuple)
    labels = walk.labels(args["self"])
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    along = labels[dim]
    if along is None:
        return tuple(labels for _ in infos)
    ends = np.cumsum([info.shape[dim] for info in infos])
    runs = np.split(along, ends[:-1])
    return tuple((*labels[:dim], unless_single(walk, run), *labels[dim + 1 :]) for run in runs)


def pad(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``pad``: the padded entries get new labels, so they can be cut like channels."""
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


def repeat(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``repeat``, ``tile``: the run again and again; new dimensions come first and are fixed."""
    labels, shape = walk.labels(args["self"]), walk.shape(args["self"])
    extra = len(node.shape) - len(shape)
    result: list[DimLabels] = [None] * extra
    for along, before, after in zip(labels, shape, node.shape[extra:], strict=True):
        result.append(None if along is None else np.tile(along, after // before))
    return tuple(result)


def repeat_interleave(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``repeat_interleave``: each entry several times in a row."""
    labels = walk.labels(args["self"])
    if args["dim"] is None:
        return walk.refuse(node, f"all dimensions are merged at {node.place}")
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    along = labels[dim]
    run = None if along is None else along.repeat(node.shape[dim] // along.size)
    return (*labels[:dim], run, *labels[dim + 1 :])


def glu(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``glu``: the second half gates the first, so the halves are tied."""
    labels = walk.labels(args["self"])
    dim = int(args["dim"]) % len(labels)  # pyright: ignore[reportArgumentType]
    along = labels[dim]
    if along is None:
        return labels
    first, second = np.split(along, 2)
    walk.tie(first, second)
    return (*labels[:dim], unless_single(walk, first), *labels[dim + 1 :])


def stack(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``stack``: a new dimension of fixed size; every other dimension is tied."""
    tensors = args["tensors"]
    assert isinstance(tensors, tuple)
    assert isinstance(node.value, TensorInfo)
    at = int(args["dim"]) % len(node.shape)  # pyright: ignore[reportArgumentType]
    columns = zip(*(walk.labels(part) for part in tensors), strict=True)
    merged = [walk.tie_all(column) for column in columns]
    return (*merged[:at], None, *merged[at:])


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "aten.cat.default": cat,
        "aten.split.Tensor": split,
        "aten.split.sizes": split,
        "aten.split_with_sizes.default": split,
        "aten.chunk.default": split,
        "aten.tensor_split.sections": split,
        "aten.pad.default": pad,
        "aten.constant_pad_nd.default": pad,
        "aten.repeat.default": repeat,
        "aten.tile.default": repeat,
        "aten.repeat_interleave.self_int": repeat_interleave,
        "aten.glu.default": glu,
        "aten.stack.default": stack,
    }
)
