"""Layers with weights: convolutions, linear layers and embeddings."""

from __future__ import annotations

from typing import cast

import numpy as np

from nnslim.channels.labels import DimLabels, Labels
from nnslim.channels.walk import Arguments, RuleResult, Walk
from nnslim.network.graph import Arg, Node, Ref, TensorRef

__all__ = ["convolution", "embedding", "linear", "transposed_convolution"]


def convolution(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``conv1d/2d/3d``: weight dimension 1 is the input's channels, dimension 0 the output's.

    With groups, either whole convolution groups go (inputs and outputs of each are tied; a
    depthwise convolution is one per channel), or the same number of inputs and of outputs in each.
    """
    groups, weight = cast("int", args["groups"]), args["weight"]
    incoming = walk.labels(args["input"])
    if len(incoming) != len(walk.shape(weight)):
        return walk.refuse(node, f"input without a batch at {node.place}")
    out, inner, *kernel = walk.labels(weight, dims=(0,) if groups > 1 else (0, 1))
    walk.freeze(tuple(kernel), f"kernel of {node.place}")  # of a computed weight
    if groups == 1:
        walk.tie(incoming[1], inner)
    else:
        _grouped(walk, groups, incoming[1], weight)
    _tie_bias(walk, out, args)
    return (incoming[0], out, *_pixels(walk, node, args))


def _tie_bias(walk: Walk, out: DimLabels, args: Arguments) -> None:
    if walk.is_tensor(args["bias"]):
        walk.tie(out, walk.labels(args["bias"])[0])


def _pixels(walk: Walk, node: Node, args: Arguments) -> Labels:
    """Labels of the pixels: kept where each is worked on alone, else frozen."""
    labels, kernel = walk.labels(args["input"])[2:], walk.shape(args["weight"])[2:]
    if node.shape[2:] == walk.shape(args["input"])[2:] and all(size == 1 for size in kernel):
        return labels
    walk.freeze(labels, f"pixels of {node.place}")
    return (None,) * len(kernel)


def _grouped(walk: Walk, groups: int, channels: DimLabels, weight: Arg) -> None:
    """Tie or balance the channels of a convolution's groups; None means that they must stay."""
    labels = walk.labels(weight)
    out, inner = labels[0], labels[1] if isinstance(weight, Ref) else None
    if channels is None or out is None or inner is not None:
        walk.freeze((channels, out, inner), f"groups of fixed sizes at {walk.place}")
        return
    by_group, out_by_group = channels.reshape(groups, -1), out.reshape(groups, -1)
    members = max(by_group.shape[1], out_by_group.shape[1])
    # One input per group has no smaller number to keep, and a computed weight has no name to cut.
    single = by_group.shape[1] == 1
    if isinstance(weight, Ref) or walk.picks_whole(groups, members, single):
        walk.tie_within(np.concatenate([by_group, out_by_group], axis=1))
        return
    walk.balance(out_by_group)
    if single:
        walk.freeze(channels, f"one channel of each group is left at {walk.place}")
        return
    assert isinstance(weight, TensorRef)
    walk.balance(by_group)
    walk.block_labels(weight, by_group)


def transposed_convolution(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``conv_transpose1d/2d/3d``: weight dimension 0 is the input's channels, 1 the output's."""
    groups, weight = cast("int", args["groups"]), args["weight"]
    batch, channels, *pixels = walk.labels(args["input"])
    if len(node.shape) != len(walk.shape(weight)) or not isinstance(weight, TensorRef):
        return walk.refuse(node, f"computed weight or input without a batch at {node.place}")
    inner, out = walk.labels(weight, dims=(0,) if groups > 1 else (0, 1))[:2]
    walk.tie(channels, inner)
    if groups > 1:
        out = walk.fresh(node.shape[1])
        if channels is None:
            walk.freeze(out, f"groups of fixed sizes at {node.place}")
        else:
            both = [channels.reshape(groups, -1), out.reshape(groups, -1)]
            walk.tie_within(np.concatenate(both, axis=1))
    _tie_bias(walk, out, args)
    walk.freeze(tuple(pixels), f"pixels of {node.place}")
    return (batch, out, *(None for _ in pixels))


def linear(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``linear``: weight dimension 1 is the input's last dimension, dimension 0 the output's."""
    values, weight = walk.labels(args["input"]), walk.labels(args["weight"])
    walk.tie(values[-1], weight[1])
    _tie_bias(walk, weight[0], args)
    return (*values[:-1], weight[0])


def embedding(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``embedding``: rows are looked up by number and stay, columns are channels."""
    rows, columns = walk.labels(args["weight"])
    walk.freeze(rows, f"looked up by number at {node.place}")
    return (*(None,) * (len(node.shape) - 1), columns)
