"""Where blocks stand: which of a network's groups belong to the first block of a stage, or later.

A stage is a run of sums of one shape, as residual networks have: a block adds to what stood before.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from nnslim.channels.streams import joints, summed_groups
from nnslim.network.graph import TensorInfo, tensor_refs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnslim.channels.groups import ChannelMap
    from nnslim.network.graph import Graph

__all__ = ["block_places"]


def block_places(graph: Graph, channels: ChannelMap) -> Mapping[str, float]:
    """Say how far back in its stage the block of each group stands, from 0 (first) to 1 (last).

    A group belongs to the block whose sum comes next after the last layer that reads it. Residual
    streams, and groups with no sum behind them, are left out; the only block of a stage is at 0.5.

    Args:
        graph: The network's operators.
        channels: Its channel groups.

    Example:
        >>> import torch; from torch import nn
        >>> from nnslim.channels import channel_groups
        >>> from nnslim.network import trace_network
        >>> class Block(nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.up, self.down = nn.Conv2d(8, 16, 1), nn.Conv2d(16, 8, 1)
        ...     def forward(self, x):
        ...         return x + self.down(self.up(x).relu())
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 1), Block(), Block(), Block())
        >>> network = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> dict(block_places(network.graph, channel_groups(network)))
        {'1.up': 0.0, '2.up': 0.5, '3.up': 1.0}
    """
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    joined = joints(graph)
    values = ((order[node.name], node.value) for node in joined)
    sums = [(at, value.shape) for at, value in values if isinstance(value, TensorInfo)]
    places: dict[int, float] = {}
    for _, run in groupby(sums, key=itemgetter(1)):
        stage = [at for at, _ in run]
        last = len(stage) - 1
        places |= {at: index / last if last else 0.5 for index, at in enumerate(stage)}
    readers: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        readers |= {ref.name: index for ref in tensor_refs(node.arguments)}
    streams, found = summed_groups(joined, channels), dict[str, float]()
    for group in channels.prunable:
        if group.name in streams:
            continue
        reads = [readers[m.tensor] for m in group.members if m.dim == 1 and m.tensor in readers]
        behind = [at for at in places if reads and at >= max(reads)]
        if behind:
            found[group.name] = places[min(behind)]
    return found
