"""Where blocks stand: which of a network's groups belong to the first block of a stage, or later.

A stage is a run of sums of one shape, as residual networks have: a block adds to what stood before.
"""

from __future__ import annotations

from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, NamedTuple

from nnslim.channels.streams import joints, summed_groups
from nnslim.network.graph import TensorInfo, tensor_refs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnslim.channels.groups import ChannelMap
    from nnslim.network.graph import Graph

__all__ = ["Place", "block_places"]


class Place(NamedTuple):
    """Where a block stands: in which stage, after ``block`` others of its ``n_blocks``."""

    stage: int
    block: int
    n_blocks: int


def block_places(graph: Graph, channels: ChannelMap) -> Mapping[str, Place]:
    """Say which block of its stage each group belongs to.

    A group belongs to the block whose sum comes next after the last layer that reads it. Residual
    streams, and groups with no sum behind them, are left out.

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
        >>> places = block_places(network.graph, channel_groups(network))
        >>> {name: tuple(place) for name, place in places.items()}
        {'1.up': (0, 0, 3), '2.up': (0, 1, 3), '3.up': (0, 2, 3)}
    """
    order = {node.name: index for index, node in enumerate(graph.nodes)}
    joined = joints(graph)
    values = ((order[node.name], node.value) for node in joined)
    sums = [(at, value.shape) for at, value in values if isinstance(value, TensorInfo)]
    places: dict[int, Place] = {}
    for stage, (_, run) in enumerate(groupby(sums, key=itemgetter(1))):
        blocks = [at for at, _ in run]
        places |= {at: Place(stage, block, len(blocks)) for block, at in enumerate(blocks)}
    readers: dict[str, int] = {}
    for index, node in enumerate(graph.nodes):
        readers |= {ref.name: index for ref in tensor_refs(node.arguments)}
    streams, found = summed_groups(joined, channels), dict[str, Place]()
    for group in channels.prunable:
        if group.name in streams:
            continue
        reads = [readers[m.tensor] for m in group.members if m.dim == 1 and m.tensor in readers]
        behind = [at for at in places if reads and at >= max(reads)]
        if behind:
            found[group.name] = places[min(behind)]
    return found
