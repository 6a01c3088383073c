"""What a network of given widths would cost, without cutting it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

import numpy as np
from torch import nn

from nnslim.channels import ChannelMap, Member
from nnslim.channels.labels import Labels
from nnslim.measure.macs import Costs, weighted_positions
from nnslim.network.graph import TensorRef
from nnslim.network.network import Network

__all__ = ["CostModel"]


class CostModel:
    """Parameters, MACs and bytes as functions of the group widths.

    The size of every tensor dimension is ``fixed + counts @ widths``, since all channels of a group
    have the same number of indices there; a tensor's entries are the product over its dimensions.
    Inputs of a grouped convolution count a fraction: one channel of every group is one index.

    Attributes:
        names: The groups, in the order of every vector of widths.
        widths: Their widths as they are, (n_groups,).
        tensors: The parameters and buffers, in the order of ``entries``.

    Example:
        >>> import torch; from nnslim.network import trace_network
        >>> from nnslim.channels import channel_groups
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> CostModel(net, channel_groups(net)).costs({"0": 4}).params  # 4*3*9+4 + 4*4*9+4
        260
    """

    def __init__(self, network: Network, channels: ChannelMap) -> None:
        """Read the sizes off a network and its groups."""
        self.names = tuple(group.name for group in channels.groups)
        self.widths = np.array([group.width for group in channels.groups], dtype=np.int64)
        tensors = network.tensors()
        order = list(tensors)
        first = np.cumsum([0, *(max(tensors[name].dim(), 1) for name in order)])
        self._starts = first[:-1]
        self._fixed = np.ones(first[-1])
        self._counts = np.zeros((first[-1], len(self.names)))
        start = dict(zip(order, first[:-1].tolist(), strict=True))
        for name in order:
            for dim, size in enumerate(tensors[name].shape):
                self._fixed[start[name] + dim] = size
        for index, group in enumerate(channels.groups):
            for member in group.members:
                row = start[member.tensor] + member.dim
                n_blocks = _n_blocks(channels, member)
                self._fixed[row] -= member.positions.size / n_blocks
                self._counts[row, index] = member.positions.shape[1] / n_blocks
        for name, labels in _index_labels(network, channels).items():
            members = _group_of(channels)[labels]
            counts = np.bincount(members[members >= 0], minlength=len(self.names))
            row = start[name]
            self._counts[row] = counts / np.maximum(self.widths, 1)
            self._fixed[row] -= counts.sum()
        self.tensors = tuple(order)
        self._bytes = np.array([tensors[name].element_size() for name in order])
        self._is_param = np.array([isinstance(tensors[name], nn.Parameter) for name in order])
        positions = dict.fromkeys(order, 0)
        for weight, uses in weighted_positions(network).values():
            positions[weight] += uses
        self._macs = np.array([positions[name] for name in order])

    def vector(self, widths: Mapping[str, int]) -> np.ndarray:
        """Return the widths of all groups in order; a group that is not named keeps its width."""
        return np.array(
            [widths.get(name, width) for name, width in zip(self.names, self.widths, strict=True)],
            dtype=np.int64,
        )

    def costs(self, widths: Mapping[str, int] | np.ndarray) -> Costs:
        """Return what the network would cost with these widths."""
        entries = self.entries(widths if isinstance(widths, np.ndarray) else self.vector(widths))
        return Costs(
            params=round(entries[self._is_param].sum()),
            macs=round(float(entries @ self._macs)),
            bytes=round(float(entries @ self._bytes)),
        )

    def entries(self, widths: np.ndarray) -> np.ndarray:
        """Entries of each tensor at these widths, in the order of ``tensors``, (n_tensors,)."""
        return np.multiply.reduceat(self._fixed + self._counts @ widths, self._starts)

    def savings(self, metric: str) -> np.ndarray:
        """What removing one channel of each group saves, at the full widths."""
        full = getattr(self.costs(self.widths), metric)
        steps = np.eye(len(self.names), dtype=np.int64)
        return np.array([full - getattr(self.costs(self.widths - step), metric) for step in steps])


def _n_blocks(channels: ChannelMap, member: Member) -> int:
    """Runs of rows in which a position means another channel each."""
    labels = channels.tensors[member.tensor][member.dim]
    return 1 if member.blocks is None or labels is None else len(labels)


def _index_labels(network: Network, channels: ChannelMap) -> dict[str, np.ndarray]:
    """Channels that each constant index picks; the index is cut with them."""
    result: dict[str, np.ndarray] = {}
    for node in network.graph.nodes:
        index = node.argument("index") if node.family == "index_select" else None
        if isinstance(index, TensorRef):
            labels = cast("Labels", channels.values[node.name])[cast("int", node.argument("dim"))]
            if labels is not None:
                result[index.name] = channels.component[labels]
    return result


def _group_of(channels: ChannelMap) -> np.ndarray:
    """Number of the group of each channel; -1 for those that no tensor has a part in."""
    result = np.full(len(channels.frozen), -1, dtype=np.int64)
    for index, group in enumerate(channels.groups):
        result[group.components] = index
    return result
