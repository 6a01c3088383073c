"""Operators that join, split, pad or repeat runs of channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from nnslim.channels.labels import DimLabels, IntArray, replaced
from nnslim.channels.rules.picking import dimension, unless_single
from nnslim.channels.walk import Arguments, RuleResult, Walk
from nnslim.network.graph import Arg, Node, TensorInfo

__all__ = ["cat", "glu", "pad", "repeat", "repeat_interleave", "split", "stack"]


def cat(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``cat``: runs one after the other along ``dim``; every other dimension is tied."""
    tensors = cast("tuple[Arg, ...]", args["tensors"])
    parts = [part for part in tensors if walk.shape(part) != (0,)]
    along = cast("int", args["dim"]) % len(node.shape)
    sizes = [walk.shape(part)[along] for part in parts]
    columns = zip(*(walk.labels(part) for part in parts), strict=True)
    return tuple(
        _joined(walk, column, sizes) if dim == along else walk.tie_all(column)
        for dim, column in enumerate(columns)
    )


def _joined(walk: Walk, operands: Sequence[DimLabels], sizes: list[int]) -> DimLabels:
    if all(labels is None for labels in operands):
        return None
    pairs = zip(operands, sizes, strict=True)
    return np.concatenate([_fixed_run(walk, s) if run is None else run for run, s in pairs])


def _fixed_run(walk: Walk, size: int) -> IntArray:
    """Labels for entries of fixed size that stand beside channels that may shrink."""
    labels = walk.fresh(size)
    walk.freeze(labels, f"joins a fixed size at {walk.place}")
    return labels


def split(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``split``, ``chunk``, ``tensor_split``: each output is a run of the channels."""
    infos = cast("tuple[TensorInfo, ...]", node.value)
    labels, dim, along = dimension(walk, args)
    if along is None:
        return tuple(labels for _ in infos)
    ends = np.cumsum([info.shape[dim] for info in infos])
    runs = np.split(along, ends[:-1])
    return tuple(replaced(labels, dim, unless_single(walk, run)) for run in runs)


def pad(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``pad``: the padded entries get new labels, so they can be cut like channels."""
    labels = list(walk.labels(args["self"]))
    amounts = cast("tuple[int, ...]", args["pad"])
    constant = args.get("mode", "constant") == "constant"
    for pair, (before, after) in enumerate(zip(amounts[::2], amounts[1::2], strict=True)):
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
    labels = walk.labels(args["self"])
    new = (None,) * (len(node.shape) - len(labels))
    pairs = zip(labels, node.shape[len(new) :], strict=True)
    return (*new, *(None if a is None else np.tile(a, size // a.size) for a, size in pairs))


def repeat_interleave(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``repeat_interleave``: each entry several times in a row."""
    if args["dim"] is None:
        return walk.refuse(node, f"all dimensions are merged at {node.place}")
    labels, dim, along = dimension(walk, args)
    run = None if along is None else along.repeat(node.shape[dim] // along.size)
    return replaced(labels, dim, run)


def glu(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``glu``: the second half gates the first, so the halves are tied."""
    labels, dim, along = dimension(walk, args)
    if along is None:
        return labels
    first, second = np.split(along, 2)
    walk.tie(first, second)
    return replaced(labels, dim, unless_single(walk, first))


def stack(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``stack``: a new dimension of fixed size; every other dimension is tied."""
    tensors = cast("tuple[Arg, ...]", args["tensors"])
    at = cast("int", args["dim"]) % len(node.shape)
    columns = zip(*(walk.labels(part) for part in tensors), strict=True)
    merged = [walk.tie_all(column) for column in columns]
    return (*merged[:at], None, *merged[at:])
