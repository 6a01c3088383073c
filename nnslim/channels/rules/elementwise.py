"""Operators that compute each entry from the entries at the same place, with broadcasting."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from nnslim.channels.labels import DimLabels, Labels
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import Arg, Node, TensorInfo

__all__ = ["RULES", "broadcast", "join"]

_CREATED = """
zeros ones full arange arange.start arange.start_step scalar_tensor eye linspace sym_size.int
new_zeros new_ones new_full empty.memory_format
"""
_NAMES = """
abs abs_ add.Tensor add_.Tensor add.Scalar add_.Scalar addcdiv addcmul alias alpha_dropout
bitwise_not celu celu_ clamp clamp_ clamp_max clamp_max_ clamp_min clamp_min_ clone contiguous
cos detach detach_ div.Tensor div_.Tensor div.Scalar div_.Scalar div.Tensor_mode dropout
dropout_ elu elu_ eq.Scalar eq.Tensor erf exp feature_dropout floor floor_divide ge.Scalar
ge.Tensor gelu gelu_ gt.Scalar gt.Tensor hardshrink hardsigmoid hardsigmoid_ hardswish
hardswish_ hardtanh hardtanh_ le.Scalar le.Tensor leaky_relu leaky_relu_ lerp.Scalar lerp.Tensor
log log1p log_sigmoid logical_and logical_not logical_or lt.Scalar lt.Tensor masked_fill.Scalar
masked_fill_.Scalar masked_fill.Tensor maximum minimum mish mish_ mul.Tensor mul_.Tensor
mul.Scalar mul_.Scalar ne.Scalar ne.Tensor neg neg_ pow.Tensor_Scalar pow.Tensor_Tensor
reciprocal relu relu_ relu6 relu6_ remainder.Scalar round rsqrt rsub.Scalar rsub.Tensor
selu selu_ sigmoid sigmoid_ sign silu silu_ sin softplus softshrink sqrt square sub.Tensor
sub_.Tensor sub.Scalar sub_.Scalar tanh tanh_ threshold threshold_ to.dtype to.device
to.dtype_layout _to_copy where.self where.ScalarOther where.ScalarSelf ones_like zeros_like
full_like type_as logical_xor floor_divide.Scalar remainder.Tensor pow.Scalar clamp.Tensor
clamp_min.Tensor clamp_max.Tensor ceil trunc frac expm1 log2 log10 tan atan sinh cosh asinh atan2
erfc isnan isinf isfinite nan_to_num bitwise_and.Tensor bitwise_or.Tensor xlogy.Tensor logaddexp
empty_like exp2 logit where.Scalar
"""


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
    result: list[DimLabels] = [None] * len(shape)
    for dim, size in enumerate(shape):
        meeting: list[DimLabels] = []
        for labels, sizes in operands:
            position = dim - (len(shape) - len(sizes))
            if position >= 0 and sizes[position] == size and size != 1:
                meeting.append(labels[position])
        for other in meeting[1:]:
            walk.tie(meeting[0], other)
        labelled = [labels for labels in meeting if labels is not None]
        result[dim] = labelled[0] if labelled else None
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


def _table() -> dict[str, Rule]:
    names = (f"aten.{n}" if "." in n else f"aten.{n}.default" for n in _NAMES.split())
    table: dict[str, Rule] = dict.fromkeys(names, elementwise)
    table["aten.expand.default"] = expand
    table["aten.expand_as.default"] = follow_other
    table["aten.prelu.default"] = prelu
    for name in _CREATED.split():
        table[f"aten.{name}" if "." in name else f"aten.{name}.default"] = created
    for name in ("add", "sub", "mul", "floordiv", "mod", "neg"):
        table[f"python.{name}"] = created
    return table


RULES: Mapping[str, Rule] = MappingProxyType(_table())
