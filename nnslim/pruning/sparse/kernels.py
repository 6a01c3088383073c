"""The weights of all channel groups as one run of numbers, and the kernels and channels in it.

A *cell* is one (output, input) pair of a weight: its taps stand side by side. A *kernel* is a cell,
or, where a channel is flattened into a linear layer, the run of cells that belong to one channel.
All layers are handled at once: a few operators on long vectors instead of many on short ones.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap, Member
    from nnslim.channels.labels import IntArray
    from nnslim.network.network import Network
    from nnslim.settings.prune import Side

__all__ = [
    "Kernels",
    "WeightTable",
    "find_kernels",
    "find_weights",
    "left_out",
    "slices",
    "wanted_groups",
]


@dataclass(frozen=True)
class WeightTable:
    """Weights laid one after the other, those with as many taps together."""

    names: tuple[str, ...]
    shapes: tuple[torch.Size, ...]

    @property
    def runs(self) -> list[tuple[int, int]]:
        """Number of cells and of taps of each run of weights with as many taps."""
        runs: list[tuple[int, int]] = []
        for shape in self.shapes:
            cells, taps = math.prod(shape[:2]), math.prod(shape[2:])
            if runs and runs[-1][1] == taps:
                runs[-1] = runs[-1][0] + cells, taps
            else:
                runs.append((cells, taps))
        return runs

    @property
    def n_cells(self) -> int:
        """Number of (output, input) pairs."""
        return sum(cells for cells, _ in self.runs)

    def gather(self, tensors: Sequence[Tensor]) -> Tensor:
        """Copy tensors of these shapes into one run, ``(N,)``."""
        return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])

    def pieces(self, entries: Tensor) -> list[Tensor]:
        """Return one run, ``(N,)``, as views of these shapes."""
        parts = entries.split([shape.numel() for shape in self.shapes])
        return [part.view(shape) for part, shape in zip(parts, self.shapes, strict=True)]

    def typical(self, entries: Tensor) -> Tensor:
        """Root mean square of the entries, ``(N,)``, of each cell's weight, ``(n_cells,)``."""
        weights = self.pieces(entries)
        return torch.cat([w.square().mean().sqrt().expand(math.prod(w.shape[:2])) for w in weights])

    def taps(self, like: Tensor) -> Tensor:
        """Number of taps of each cell, ``(n_cells,)``."""
        return torch.cat([like.new_tensor(float(taps)).expand(cells) for cells, taps in self.runs])

    def cell_sums(self, entries: Tensor) -> Tensor:
        """Sum entries, ``(N,)``, over the taps of each cell, ``(n_cells,)``."""
        parts = entries.split([cells * taps for cells, taps in self.runs])
        return torch.cat(
            [
                part if taps == 1 else part.view(-1, taps).sum(1)
                for part, (_, taps) in zip(parts, self.runs, strict=True)
            ]
        )

    def scale_(self, entries: Tensor, factors: Tensor) -> Tensor:
        """Multiply entries, ``(N,)``, by their cell's factor, ``(n_cells,)``, in place."""
        parts = entries.split([cells * taps for cells, taps in self.runs])
        by_run = factors.split([cells for cells, _ in self.runs])
        for part, factor, (_, taps) in zip(parts, by_run, self.runs, strict=True):
            part.view(-1, taps).mul_(factor[:, None])
        return entries


@dataclass(frozen=True)
class Kernels:
    """Kernels and channels on one side of the weights; the last of each stands for no channel."""

    kernel: Tensor  # number of each cell's kernel, (n_cells,)
    channel: Tensor  # number of each kernel's channel, (K + 1,)

    def to(self, device: torch.device) -> Kernels:
        """Return the same on a device."""
        return Kernels(self.kernel.to(device), self.channel.to(device))

    def sums(self, cells: Tensor) -> Tensor:
        """Sum cells, ``(n_cells,)``, over each kernel, ``(K + 1,)``."""
        return cells.new_zeros(len(self.channel)).index_add_(0, self.kernel, cells)


def slices(network: Network, group: ChannelGroup, side: Side) -> tuple[Member, ...]:
    """Trainable slices by which layers read (``feature``) or produce (``neuron``) a group."""
    members = group.incoming if side == "feature" else group.outgoing
    tensors = ((member, network.tensor(member.tensor)) for member in members)
    return tuple(m for m, t in tensors if isinstance(t, nn.Parameter) and t.requires_grad)


def wanted_groups(channels: ChannelMap, names: Sequence[str] | None) -> list[ChannelGroup]:
    """Return the groups of these names; without any, those that can be cut exactly.

    Raises:
        ConfigError: A group does not exist or is frozen.
    """
    if names is None:
        return list(channels.free)
    known = {group.name: group for group in channels.groups}
    for name in names:
        if name not in known:
            raise ConfigError(f"there is no channel group {name!r} to penalise")
        if known[name].status == "frozen":
            raise ConfigError(f"the channel group {name} stays whole: {known[name].reason}")
    return [known[name] for name in names]


def left_out(
    network: Network, groups: Sequence[ChannelGroup], sides: Sequence[Side]
) -> dict[str, str]:
    """Say which groups have no trainable weight on the given sides."""
    verbs = " or ".join({"feature": "reads", "neuron": "produces"}[side] for side in sides)
    return {
        group.name: f"no trainable weight {verbs} its channels"
        for group in groups
        if not any(slices(network, group, side) for side in sides)
    }


def find_weights(
    network: Network, groups: Sequence[ChannelGroup], sides: Sequence[Side]
) -> WeightTable:
    """Find the trainable weights that groups have slices of on these sides."""
    wanted = {m.tensor for side in sides for g in groups for m in slices(network, g, side)}
    shapes = {name: network.tensor(name).shape for name in wanted}
    # By name too, so that the order does not depend on a hash.
    names = sorted(wanted, key=lambda name: (math.prod(shapes[name][2:]), name))
    return WeightTable(tuple(names), tuple(shapes[name] for name in names))


def find_kernels(
    network: Network,
    channels: ChannelMap,
    table: WeightTable,
    groups: Sequence[ChannelGroup],
    side: Side,
) -> Kernels:
    """Find every cell's kernel and channel on one side; channels count through the groups."""
    sizes = [math.prod(shape[:2]) for shape in table.shapes]
    starts = dict(zip(table.names, np.cumsum([0, *sizes]).tolist(), strict=False))
    shapes = dict(zip(table.names, table.shapes, strict=True))
    kernel = np.full(table.n_cells, -1, dtype=np.int64)
    channel: list[IntArray] = []
    n_kernels = n_channels = 0
    for group in groups:
        for member in slices(network, group, side):
            shape = shapes[member.tensor]
            cells = _cells(channels, member, shape) + starts[member.tensor]
            merged = len(shape) == 2
            width, k, others = cells.shape
            each = others if merged else k * others
            numbers = n_kernels + np.arange(width * each).reshape(width, -1, others)
            kernel[cells] = numbers
            channel.append(np.repeat(n_channels + np.arange(width), each))
            n_kernels += width * each
        n_channels += group.width
    kernel[kernel < 0] = n_kernels
    return Kernels(
        torch.from_numpy(kernel),
        torch.from_numpy(np.concatenate([*channel, [n_channels]]).astype(np.int64)),
    )


def _cells(channels: ChannelMap, member: Member, shape: Sequence[int]) -> IntArray:
    """Cells of a weight per channel, position and index of the other side, ``(width, k, n)``."""
    grid = np.arange(shape[0] * shape[1]).reshape(shape[0], shape[1])
    if member.blocks is None:
        return (grid if member.dim == 0 else grid.T)[member.positions]
    labels = channels.tensors[member.tensor][member.dim]
    assert labels is not None, "a member stands where labels do"
    blocks = grid.reshape(len(labels), -1, shape[1])
    return blocks.transpose(0, 2, 1)[member.blocks, member.positions]
