"""Residual streams: the channels in which a network sums up what several of its layers make."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nnslim.network.graph import refs

if TYPE_CHECKING:
    from nnslim.channels.groups import ChannelMap
    from nnslim.channels.labels import Labels
    from nnslim.network.graph import Graph

__all__ = ["residual_streams"]


def residual_streams(graph: Graph, channels: ChannelMap) -> frozenset[str]:
    """Name the groups that hold a sum of what different layers make.

    A sum of a layer's result with a function of itself (an activation written out) is none, and
    neither is a product with a gate: such channels are a block's own.

    Args:
        graph: The network's operators.
        channels: Its channel groups; the frozen ones are left out.

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
        >>> sorted(residual_streams(network.graph, channel_groups(network)))
        ['stem']
    """
    group_of = {
        int(component): group.name for group in channels.prunable for component in group.components
    }
    # The layers, inputs and sums that a value comes from with nothing but elementwise work between.
    sources = {entry.name: frozenset({entry.name}) for entry in graph.inputs}
    streams: set[str] = set()
    for node in graph.nodes:
        own = frozenset[str]().union(*(sources[ref.name] for ref in refs(node.arguments)))
        joins = node.op.split(".")[1].rstrip("_") in ("add", "sub") and len(own) > 1
        sources[node.name] = frozenset({node.name}) if joins or node.layer_weight else own
        if joins:
            labels = cast("Labels", channels.values[node.name])
            for along in (own for own in labels if own is not None):
                found = channels.component[along].ravel().tolist()
                streams.update(group_of[own] for own in found if own in group_of)
    return frozenset(streams)
