"""Channels in another order: a network that computes the same."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch

from nnslim.channels import channel_groups

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap, Member
    from nnslim.channels.labels import IntArray
    from nnslim.network.network import Network

__all__ = ["permute_channels"]


def permute_channels(
    network: Network, order: Mapping[str, IntArray], channels: ChannelMap | None = None
) -> Network:
    """Return a copy of a network whose channels stand in another order.

    Args:
        network: Any network.
        order: For groups by name: the earlier index of every channel, ``(width,)``. Channels of a
            group with parts stay within their part.
        channels: The network's groups, if they are known already.

    Example:
        >>> import numpy as np; from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU(), nn.Conv2d(2, 4, 1))
        >>> net, images = trace_network(model, torch.zeros(2, 3, 8, 8)), torch.rand(2, 3, 8, 8)
        >>> other = permute_channels(net, {"0": np.array([1, 0])})
        >>> bool((other.tensor("0.weight") == net.tensor("0.weight").flip(0)).all())
        True
        >>> torch.allclose(other(images), net(images), atol=1e-6)
        True
    """
    channels = channel_groups(network) if channels is None else channels
    permuted = copy.deepcopy(network)
    with torch.no_grad():
        for name, indices in order.items():
            for member in channels[name].members:
                _permute(permuted.tensor(member.tensor), member, indices)
    return permuted


def _permute(tensor: torch.Tensor, member: Member, order: IntArray) -> None:
    """Reorder a group's entries along one dimension, in place."""

    def flat(positions: IntArray) -> torch.Tensor:
        return torch.from_numpy(positions.ravel()).to(tensor.device)

    new, old = flat(member.positions), flat(member.positions[order])
    if member.blocks is None:
        tensor.index_copy_(member.dim, new, tensor.index_select(member.dim, old))
        return
    # Inputs of a grouped convolution: the entry of dimension 1 in one run of rows.
    runs = tensor.unflatten(0, (int(member.blocks.max()) + 1, -1)).transpose(1, 2)
    runs[flat(member.blocks), new] = runs[flat(member.blocks[order]), old]
