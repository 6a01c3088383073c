"""Layers with weights: convolutions, linear layers and embeddings."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from nnslim.channels.labels import DimLabels, Labels
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import Arg, Node, Ref, TensorRef

__all__ = ["RULES"]


def convolution(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``conv1d/2d/3d``: weight dimension 1 is the input's channels, dimension 0 the output's.

    With groups, either whole convolution groups go (inputs and outputs of each are tied; a
    depthwise convolution is one per channel), or the same number of inputs and of outputs in each.
    """
    groups = int(args["groups"])  # pyright: ignore[reportArgumentType]
    image, weight = args["input"], args["weight"]
    rank = len(walk.shape(weight))
    if len(walk.shape(image)) != rank:
        return walk.refuse(node, f"input without a batch at {node.place}")
    incoming = walk.labels(image)
    if isinstance(weight, TensorRef):
        labels = walk.labels(weight, dims=(0,) if groups > 1 else (0, 1))
    else:  # a computed weight, such as a standardised one
        labels = walk.labels(weight)
    for kernel in labels[2:]:
        walk.freeze(kernel, f"kernel of {node.place}")
    channels, out = incoming[1], labels[0]
    if groups == 1:
        walk.tie(channels, labels[1])
    else:
        _grouped(walk, groups, channels, weight)
    if walk.is_tensor(args["bias"]):
        walk.tie(out, walk.labels(args["bias"])[0])
    return (incoming[0], out, *_pixels(walk, node, args))


def _pixels(walk: Walk, node: Node, args: Arguments) -> Labels:
    """Labels of the pixels: kept where each is worked on alone, else frozen."""
    labels, kernel = walk.labels(args["input"])[2:], walk.shape(args["weight"])[2:]
    if node.shape[2:] == walk.shape(args["input"])[2:] and all(size == 1 for size in kernel):
        return labels
    for along in labels:
        walk.freeze(along, f"pixels of {node.place}")
    return (None,) * len(kernel)


def _grouped(walk: Walk, groups: int, channels: DimLabels, weight: Arg) -> None:
    """Tie or balance the channels of a convolution's groups; None means that they must stay."""
    labels = walk.labels(weight)
    out, inner = labels[0], labels[1] if isinstance(weight, Ref) else None
    if channels is None or out is None or inner is not None:
        for along in (channels, out, inner):
            walk.freeze(along, f"groups of fixed sizes at {walk.place}")
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
    groups = int(args["groups"])  # pyright: ignore[reportArgumentType]
    image, weight = args["input"], args["weight"]
    rank = len(walk.shape(weight))
    if len(walk.shape(image)) != rank or not isinstance(weight, TensorRef):
        return walk.refuse(node, f"computed weight or input without a batch at {node.place}")
    channels = walk.labels(image)[1]
    inner, out = walk.labels(weight, dims=(0,) if groups > 1 else (0, 1))[:2]
    walk.tie(channels, inner)
    if groups > 1:
        out = walk.fresh(node.shape[1])
        if channels is None:
            walk.freeze(out, f"groups of fixed sizes at {node.place}")
        else:
            both = [channels.reshape(groups, -1), out.reshape(groups, -1)]
            walk.tie_within(np.concatenate(both, axis=1))
    if walk.is_tensor(args["bias"]):
        walk.tie(out, walk.labels(args["bias"])[0])
    for pixels in walk.labels(image)[2:]:
        walk.freeze(pixels, f"pixels of {node.place}")
    return (walk.labels(image)[0], out, *(None,) * (rank - 2))


def linear(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``linear``: weight dimension 1 is the input's last dimension, dimension 0 the output's."""
    values, weight = walk.labels(args["input"]), walk.labels(args["weight"])
    walk.tie(values[-1], weight[1])
    if walk.is_tensor(args["bias"]):
        walk.tie(weight[0], walk.labels(args["bias"])[0])
    return (*values[:-1], weight[0])


def embedding(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``embedding``: rows are looked up by number and stay, columns are channels."""
    rows, columns = walk.labels(args["weight"])
    walk.freeze(rows, f"looked up by number at {node.place}")
    return (*(None,) * (len(node.shape) - 1), columns)


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **{f"aten.conv{n}d.{o}": convolution for n in (1, 2, 3) for o in ("default", "padding")},
        "aten.linear.default": linear,
        "aten.embedding.default": embedding,
        "aten.conv_transpose1d.default": transposed_convolution,
        "aten.conv_transpose2d.input": transposed_convolution,
        "aten.conv_transpose3d.input": transposed_convolution,
    }
)
