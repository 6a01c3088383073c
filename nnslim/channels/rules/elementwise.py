"""Operators that compute each entry from the entries at the same place, with broadcasting."""

from __future__ import annotations

from collections.abc import Sequence

from nnslim.channels.labels import Labels
from nnslim.channels.walk import Arguments, RuleResult, Walk
from nnslim.network.graph import Arg, Node

__all__ = ["created", "elementwise", "join", "prelu", "sized"]


def elementwise(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """Tie all tensor operands along each dimension, aligned from the right."""
    operands = [arg for arg in args.values() if walk.is_tensor(arg)]
    if node.family == "type_as":  # the other operand only gives its dtype
        operands = operands[:1]
    return join(walk, [sized(walk, arg) for arg in operands], node.shape)


def sized(walk: Walk, arg: Arg) -> tuple[Labels, tuple[int, ...]]:
    """Labels and sizes of the dimensions of a tensor."""
    return walk.labels(arg), walk.shape(arg)


def join(
    walk: Walk, operands: Sequence[tuple[Labels, Sequence[int]]], shape: Sequence[int]
) -> Labels:
    """Tie runs of dimensions, each with its sizes, that are broadcast to ``shape``."""
    return tuple(
        walk.tie_all([labels[d] for labels, s in operands if -d <= len(s) and s[d] == size != 1])
        for d, size in enumerate(shape, -len(shape))
    )


def prelu(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``prelu``: one slope per channel of dimension 1, or one for all."""
    labels, weight = walk.labels(args["self"]), walk.labels(args["weight"])
    if walk.shape(args["weight"])[0] > 1:
        walk.tie(labels[1], weight[0])
    return labels


def created(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """Tensors made from literal sizes: nothing in them can shrink."""
    return walk.fixed(node)
