"""Layers with weights: convolutions, linear layers and norms over channels."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from nnslim.channels.labels import DimLabels
from nnslim.channels.walk import Arguments, Rule, RuleResult, Walk
from nnslim.network.graph import Node, TensorRef

__all__ = ["RULES"]


def convolution(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``conv1d/2d/3d``: weight dimension 1 is the input's channels, dimension 0 the output's.

    With groups, the channels of one convolution group (inputs and outputs) are tied: groups are
    dropped whole, so the channels per group stay and a depthwise convolution is one per channel.
    """
    groups = int(args["groups"])  # pyright: ignore[reportArgumentType]
    image, weight = args["input"], args["weight"]
    rank = len(walk.shape(weight))
    unbatched = len(walk.shape(image)) != rank
    if unbatched or not isinstance(weight, TensorRef):
        return walk.refuse(node, f"unbatched input or computed weight at {node.place}")
    channels = walk.labels(image)[1]
    out, inner = walk.labels(weight, dims=(0,) if groups > 1 else (0, 1))[:2]
    if groups == 1:
        walk.tie(channels, inner)
    else:
        _tie_groups(walk, groups, channels, out)
    if walk.is_tensor(args["bias"]):
        walk.tie(out, walk.labels(args["bias"])[0])
    for pixel_labels in walk.labels(image)[2:]:
        walk.freeze(pixel_labels, f"pixels of {node.place}")
    return (walk.labels(image)[0], out, *(None,) * (rank - 2))


def _tie_groups(walk: Walk, groups: int, channels: DimLabels, out: DimLabels) -> None:
    if channels is None or out is None:
        walk.tie(channels, None)
        walk.tie(out, None)
        return
    by_group, out_by_group = channels.reshape(groups, -1), out.reshape(groups, -1)
    first = by_group[:, :1]
    for labels in (by_group[:, 1:], out_by_group):
        walk.tie((first + 0 * labels).ravel(), labels.ravel())


def linear(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``linear``: weight dimension 1 is the input's last dimension, dimension 0 the output's."""
    values, weight = walk.labels(args["input"]), walk.labels(args["weight"])
    walk.tie(values[-1], weight[1])
    if walk.is_tensor(args["bias"]):
        walk.tie(weight[0], walk.labels(args["bias"])[0])
    return (*values[:-1], weight[0])


def layer_norm(walk: Walk, node: Node, args: Arguments) -> RuleResult:
    """``layer_norm``: runs over the last dimensions, so cutting them is approximate."""
    labels = walk.labels(args["input"])
    shape = args["normalized_shape"]
    assert isinstance(shape, tuple)
    for offset in range(1, len(shape) + 1):
        walk.approximate(labels[-offset])
        for name in ("weight", "bias"):
            if walk.is_tensor(args[name]):
                walk.tie(labels[-offset], walk.labels(args[name])[-offset])
    return labels


def _names(name: str, overloads: tuple[str, ...]) -> list[str]:
    return [f"aten.{name}.{overload}" for overload in overloads]


RULES: Mapping[str, Rule] = MappingProxyType(
    {
        **{
            name: convolution
            for dims in (1, 2, 3)
            for name in _names(f"conv{dims}d", ("default", "padding"))
        },
        "aten.linear.default": linear,
        "aten.layer_norm.default": layer_norm,
    }
)
