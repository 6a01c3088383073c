"""How large the weights of each channel are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from nnslim.channels.footprints import Member
    from nnslim.channels.groups import ChannelMap
    from nnslim.network.network import Network

__all__ = ["magnitude", "sum_per_channel"]

_PIECE = 1 << 17  # entries; 1 MB in float64


def magnitude(network: Network, channels: ChannelMap) -> dict[str, np.ndarray]:
    """L2 norm of the filters that produce each channel; needs no data.

    Returns:
        Scores by name of every group that is not frozen, ``(width,)``.
    """
    scores: dict[str, np.ndarray] = {}
    for group in channels.prunable:
        total = np.zeros(group.width)
        for member in group.outgoing or group.members:
            total += _squared_norms(network.tensor(member.tensor).detach(), member)
        scores[group.name] = np.sqrt(total)
    return scores


def _squared_norms(weight: Tensor, member: Member) -> np.ndarray:
    """Sum the squares of each channel's slices of a tensor in float64, ``(width,)``."""
    if member.blocks is not None or member.dim != 0 or weight.dim() < 2:
        return sum_per_channel(weight.double().square(), member)
    # Pieces that stay in the cache: a large weight as float64 twice over would not.
    pieces = weight.flatten(1).split(max(1, _PIECE // weight[0].numel()))
    return sum_per_channel(torch.cat([piece.double().square().sum(1) for piece in pieces]), member)


def sum_per_channel(entries: Tensor, member: Member) -> np.ndarray:
    """Sum the entries of a tensor over each channel's slices of it, ``(width,)``."""
    if member.blocks is None:
        others = [d for d in range(entries.dim()) if d != member.dim]
        sums = (entries.sum(others) if others else entries).double().cpu().numpy()
        return sums[member.positions].sum(axis=1)
    n_blocks = int(member.blocks.max()) + 1
    sums = entries.unflatten(0, (n_blocks, -1)).sum([1, *range(3, entries.dim() + 1)])
    return sums.double().cpu().numpy()[member.blocks, member.positions].sum(axis=1)
