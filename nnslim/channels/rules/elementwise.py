"""Operators that compute each entry from the entries at the same place, with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from nnslim.channels.labels import DimLabels, Labels
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import Arg, Node, TensorInfo
from nnslim.network.operators import CREATION, ELEMENTWISE

__all__ = ["RULES", "broadcast", "join"]


def elementwise(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """Tie all tensor operands along each dimension, aligned from the right."""
    assert isinstance(node.value, TensorInfo)
    operands = list(_tensors(walk, args))
    if node.family == "type_as":  # the other operand only gives its dtype
        operands = operands[:1]
    return broadcast(walk, operands, node.value.shape)


def broadcast(walk: Walk, operands: list[Arg], shape: tuple[int, ...]) -> Labels:
    """Tie operands that are broadcast to ``shape`` and return the labels of the result."""
    return join(walk, [(walk.labels(arg), walk.shape(arg)) for arg in operands], shape)


def join(
    walk: Walk, operands: Sequence[tuple[Labels, Sequence[int]]], shape: Sequence[int]
) -> Labels:
    """Tie runs of dimensions, each with its sizes, that are broadcast to ``shape``."""
    result: list[DimLabels] = []
    for dim, size in enumerate(shape):
        aligned = [(labels, sizes, dim - len(shape) + len(sizes)) for labels, sizes in operands]
        result.append(
            walk.tie_all(
                [
                    labels[position]
                    for labels, sizes, position in aligned
                    if position >= 0 and sizes[position] == size != 1
                ]
            )
        )
    return tuple(result)


def expand(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``expand``: size-1 dimensions are repeated, the others keep their labels."""
    assert isinstance(node.value, TensorInfo)
    return broadcast(walk, [args["self"]], node.value.shape)


def follow_other(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``expand_as``: the result has the shape of ``other``, so it is tied to it."""
    assert isinstance(node.value, TensorInfo)
    return broadcast(walk, [args["self"], args["other"]], node.value.shape)


def prelu(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``prelu``: one slope per channel of dimension 1, or one for all."""
    labels = walk.labels(args["self"])
    weight = walk.labels(args["weight"])
    if walk.shape(args["weight"])[0] > 1:
        walk.tie(labels[1], weight[0])
    return labels


def created(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """Tensors made from literal sizes: nothing in them can shrink."""
    return walk.fixed(node)


def _tensors(walk: Walk, args: Arguments) -> Iterator[Arg]:
    for arg in args.values():
        if walk.is_tensor(arg):
            yield arg


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **dict.fromkeys(ELEMENTWISE, elementwise),
        **dict.fromkeys(CREATION, created),
        **{f"python.{name}": created for name in ("add", "sub", "mul", "floordiv", "mod", "neg")},
        "aten.expand.default": expand,
        "aten.expand_as.default": follow_other,
        "aten.prelu.default": prelu,
    }
)
