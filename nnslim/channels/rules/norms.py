"""Norms: statistics over pixels leave channels alone, statistics over channels are approximate."""

from __future__ import annotations

from typing import cast

from nnslim.channels.labels import DimLabels, Labels
from nnslim.channels.walk import Arguments, RuleResult, Walk
from nnslim.network.graph import Node
from nnslim.network.operators import BATCH_NORM_TENSORS

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm"]


def batch_norm(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``batch_norm``: scale, shift and statistics belong to the channels of dimension 1.

    Without running statistics (weight standardisation) it runs over all other dimensions.
    """
    labels = walk.labels(args["input"])
    _tie_per_channel(walk, labels[1], args)
    if args["training"] is True:
        walk.approximate((labels[0], *labels[2:]))
    return labels


def layer_norm(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``layer_norm``, ``rms_norm`` run over the last dimensions: cutting them is approximate."""
    labels = walk.labels(args["input"])
    for offset in range(1, len(cast("tuple[int, ...]", args["normalized_shape"])) + 1):
        walk.approximate(labels[-offset])
        for name in ("weight", "bias"):
            if walk.is_tensor(args.get(name)):
                walk.tie(labels[-offset], walk.labels(args[name])[-offset])
    return labels


def group_norm(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``group_norm``: whole groups are dropped exactly, an equal number in each approximately."""
    labels, groups = instance_norm(walk, node, args), cast("int", args["num_groups"])
    channels = labels[1]
    if channels is None:
        return labels
    by_group = channels.reshape(groups, -1)
    if groups > 1 and walk.picks_whole(groups, by_group.shape[1]):
        walk.tie_within(by_group)
    else:
        walk.approximate(channels)
        walk.balance(by_group)
    return labels


def instance_norm(walk: Walk, node: Node, args: Arguments) -> Labels:
    """``instance_norm``: one mean and variance per channel and image, over the pixels."""
    labels = walk.labels(args["input"])
    _tie_per_channel(walk, labels[1], args)
    walk.freeze(labels[2:], f"statistics are taken over it at {walk.place}")
    return labels


def _tie_per_channel(walk: Walk, channels: DimLabels, args: Arguments) -> None:
    """Tie the channels to what a norm has one entry of for each."""
    for name in BATCH_NORM_TENSORS:
        if walk.is_tensor(args.get(name)) and walk.shape(args[name])[0] > 1:
            walk.tie(channels, walk.labels(args[name])[0])
