"""Residual streams: the channels in which a network sums up what several of its layers make."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nnslim.network.graph import TensorInfo, refs
from nnslim.network.operators import LAYERS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnslim.channels.groups import ChannelMap
    from nnslim.channels.labels import Labels
    from nnslim.network.graph import Arg, Graph, Node

__all__ = ["residual_streams"]

# Sums, and the arguments that make their second addend.
_SUMS = {
    **dict.fromkeys(("add", "sub", "rsub"), ("other",)),
    **dict.fromkeys(("addcmul", "addcdiv"), ("tensor1", "tensor2")),
    "lerp": ("end",),
}
_LAYERS = LAYERS | {"embedding", "matmul", "addmm", "einsum", "attention"}


def residual_streams(channels: ChannelMap) -> frozenset[str]:
    """Name the groups that hold a sum of what different layers make.

    A layer's result plus a function of itself (an activation written out, a gate) is none: such
    channels belong to a block. Sums of stacked tensors (``torch.stack(...).sum(0)``) are not seen.

    Args:
        channels: A network's channel groups; the frozen ones are left out.

    Example:
        >>> import torch; from torch import nn
        >>> from nnslim.channels import channel_groups
        >>> from nnslim.network import trace_network
        >>> class Net(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.stem, self.up = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 16, 1)
        ...         self.down, self.head = nn.Conv2d(16, 8, 1), nn.Conv2d(8, 2, 1)
        ...     def forward(self, x):
        ...         stream = self.stem(x)
        ...         return self.head(stream + self.down(self.up(stream).relu()))
        >>> network = trace_network(Net(), torch.zeros(2, 3, 8, 8))
        >>> sorted(residual_streams(channel_groups(network)))
        ['stem']
    """
    group_of = {
        int(component): group.name for group in channels.prunable for component in group.components
    }
    streams: set[str] = set()
    for node in _joints(channels.graph):
        labels = cast("Labels", channels.values[node.name])
        for along in (along for along in labels if along is not None):
            members = channels.component[along].ravel().tolist()
            streams.update(group_of[member] for member in members if member in group_of)
    return frozenset(streams)


def _joints(graph: Graph) -> list[Node]:
    """The sums of what different layers make, in the order of execution."""
    # The inputs, layers and joints that a value comes from, with nothing of the kind in between.
    sources = {entry.name: frozenset({entry.name}) for entry in graph.inputs}
    result: list[Node] = []
    for node in graph.nodes:
        one, other = _addends(node, sources)
        joins = bool(one - other and other - one)
        if not isinstance(node.value, TensorInfo | tuple):  # a size
            sources[node.name] = frozenset()
        elif joins or node.family in _LAYERS:
            sources[node.name] = frozenset({node.name})
        else:
            sources[node.name] = _behind(node.arguments, sources)
        if joins:
            result.append(node)
    return result


def _behind(arg: Arg, sources: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """What the values that an argument refers to come from, together."""
    return frozenset[str]().union(*(sources[ref.name] for ref in refs(arg)))


def _addends(
    node: Node, sources: Mapping[str, frozenset[str]]
) -> tuple[frozenset[str], frozenset[str]]:
    """What the two addends of a sum come from; nothing for other operators."""
    if node.family == "addmm":
        return _behind(node.operand, sources), frozenset({node.name})
    if node.family not in _SUMS:
        return frozenset(), frozenset()
    second = tuple(node.argument(name) for name in _SUMS[node.family])
    return _behind(node.operand, sources), _behind(second, sources)
