"""The nine penalties of one channel from its kernels, letter by letter; slow, differentiable."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, Member
    from nnslim.network import Network

__all__ = ["FORMULAS", "kernels_of", "slices_of"]

Kernels = list[Tensor]


def total(parts: list[Tensor]) -> Tensor:
    return torch.stack(parts).sum()


def n1(kernel: Tensor) -> Tensor:
    return kernel.abs().sum()


def n2(kernel: Tensor) -> Tensor:
    return (kernel**2).sum().sqrt()


FORMULAS: dict[str, Callable[[Kernels], Tensor]] = {
    "group_lasso": lambda w: total([(k**2).sum() for k in w]).sqrt(),
    "hierarchical_sqrt_group_lasso": lambda w: total([n2(k) for k in w]).sqrt(),
    "hierarchical_squared_group_lasso": lambda w: total([n2(k) for k in w]) ** 2,
    "exclusive_sparsity": lambda w: total([k.abs().sum() for k in w]) ** 2,
    "hierarchical_sqrt_exclusive": lambda w: total([n1(k) ** 2 for k in w]).sqrt(),
    "hierarchical_squared_exclusive": lambda w: total([n1(k) ** 2 for k in w]) ** 2,
    "group_l12": lambda w: total([k.abs().sum() for k in w]).sqrt(),
    "hierarchical_sqrt_group_l12": lambda w: total([n1(k).sqrt() for k in w]).sqrt(),
    "hierarchical_squared_group_l12": lambda w: total([n1(k).sqrt() for k in w]) ** 2,
}


def slices_of(network: Network, group: ChannelGroup, side: str) -> tuple[Member, ...]:
    return group.incoming if side == "feature" else group.outgoing


def kernels_of(weight: Tensor, member: Member, channel: int) -> Kernels:
    """The kernels that a channel has in a weight, one by one."""
    positions = member.positions[channel].tolist()
    if member.blocks is not None:
        blocks = member.blocks[channel].tolist()
        rows = len(weight) // (int(member.blocks.max()) + 1)
        return [
            weight[block * rows + row, position].flatten()
            for position, block in zip(positions, blocks, strict=True)
            for row in range(rows)
        ]
    along = weight.transpose(0, member.dim)
    if weight.dim() == 2:
        return [along[positions, other] for other in range(along.shape[1])]
    return [along[p, other].flatten() for p in positions for other in range(along.shape[1])]
