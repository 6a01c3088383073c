"""Planting: a network with new channels, in which the old ones stand where they must.

Where a new channel goes in a tensor follows from the operators between: after one neighbour in one
layer, after a run of pixels in another. So nothing is worked out here twice: the graph is given its
new sizes, its channel groups are computed anew, and the entries of old channel i of a group are put
where those of its counterpart stand.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nnslim.channels import ChannelMap, channel_groups
from nnslim.errors import ConfigError
from nnslim.network.graph import TensorRef
from nnslim.network.network import same_kind
from nnslim.surgery.edit import PLANT, Edit, resolve_edit
from nnslim.surgery.rebuild import rebuilt

if TYPE_CHECKING:
    from nnslim.channels.labels import IntArray
    from nnslim.network.network import Network
    from nnslim.surgery.edit import ResolvedEdit

__all__ = ["Planted", "plant_channels"]


@dataclass(frozen=True)
class Planted:
    """A network with new channels.

    Attributes:
        network: The network; everything new is zero, variances of batch norms are 1.
        channels: Its groups.
        fresh: For each tensor that grew: True at the new entries.
    """

    network: Network
    channels: ChannelMap
    fresh: Mapping[str, Tensor]


def plant_channels(network: Network, edit: Edit, channels: ChannelMap | None = None) -> Planted:
    """Return a new network with new channels beside the kept ones; the given one is left alone.

    Args:
        network: Any network.
        edit: All channels of each group, with ``PLANT`` for new ones.
        channels: The network's groups, if they are known already.

    Raises:
        ConfigError: The edit does not fit the groups or removes something, or the wider network's
            channels would not belong together as they do now.

    Example:
        >>> from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 2, 3), nn.ReLU(), nn.Conv2d(2, 4, 3))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> grown = plant_channels(net, Edit({"0": np.array([0, 1, PLANT])}))
        >>> grown.network.tensor("2.weight").shape, int(grown.fresh["0.bias"].sum())
        (torch.Size([4, 3, 3, 3]), 1)
    """
    channels = channel_groups(network) if channels is None else channels
    resolved = resolve_edit(channels, edit)
    if not resolved.alive.all():
        raise ConfigError("one edit removes channels and plants some; make two of it")
    result = rebuilt(network, resolved, _wider_tensors(network, resolved))
    wider = channel_groups(result, earlier=channels)
    counterpart = _counterparts(channels, wider, edit)
    fresh: dict[str, Tensor] = {}
    for name, tensor in network.tensors().items():
        if name in channels.tensors and result.tensor(name).shape != tensor.shape:
            places = _Places(channels, wider, counterpart, name)
            fresh[name] = _copied(tensor.detach(), result.tensor(name).detach(), places)
    return Planted(result, wider, fresh)


def _wider_tensors(network: Network, resolved: ResolvedEdit) -> dict[str, Tensor]:
    """Copies of the tensors that keep their shape; wider ones are zero, variances 1.

    A dimension that differs by blocks of rows is as wide in every block.
    """
    norms = (node for node in network.graph.nodes if node.family == "batch_norm")
    variances, result = [node.argument("running_var") for node in norms], dict[str, Tensor]()
    for name, tensor in network.tensors().items():
        labels = resolved.channels.tensors.get(name, (None,) * tensor.dim())
        shape = [
            size if along is None else int(resolved.counts(along).sum(axis=-1).max())
            for along, size in zip(labels, tensor.shape, strict=True)
        ]
        if shape == list(tensor.shape):
            data = tensor.detach().clone()
        else:
            data = tensor.detach().new_full(shape, float(TensorRef(name) in variances))
        result[name] = same_kind(tensor, data)
    return result


def _counterparts(channels: ChannelMap, wider: ChannelMap, edit: Edit) -> IntArray:
    """The number that each old channel has in the wider network."""
    planted = edit.planted
    result = np.full(len(channels.frozen), -1, dtype=np.int64)
    expected = [(g.name, g.width + planted.get(g.name, 0)) for g in channels.groups]
    if expected != [(g.name, g.width) for g in wider.groups]:
        names = ", ".join(planted)
        raise ConfigError(
            f"with new channels in {names}, the network's channels would belong together in"
            " another way than now",
            hint="plant into another group",
        )
    for old, new in zip(channels.groups, wider.groups, strict=True):
        order = edit.keep.get(old.name)
        places = np.arange(old.width) if order is None else np.flatnonzero(order != PLANT)
        result[old.components] = new.components[places]
    return result


@dataclass(frozen=True)
class _Places:
    """Where the entries of one tensor go."""

    channels: ChannelMap
    wider: ChannelMap
    counterpart: IntArray
    name: str

    def along(self, dim: int, size: int) -> IntArray:
        """New index of each old index of a dimension, ``(size,)`` or ``(blocks, size)``."""
        old = self.channels.tensors[self.name][dim]
        new = self.wider.tensors[self.name][dim]
        if old is None or new is None:
            return np.arange(size)
        wanted = self.counterpart[self.channels.component[old]].ravel()
        there = self.wider.component[new].ravel()
        # The first entry of a channel is that of its counterpart, the second the second, ...
        from_old = np.argsort(wanted, kind="stable")
        to_new = np.argsort(there, kind="stable")
        to_new = to_new[np.isin(there[to_new], wanted)]
        if not np.array_equal(wanted[from_old], there[to_new]):
            raise ConfigError(f"no channel can be planted where {self.name} is used")
        result = np.empty(len(wanted), dtype=np.int64)
        result[from_old] = to_new
        return result.reshape(old.shape) % new.shape[-1]


def _copied(old: Tensor, new: Tensor, places: _Places) -> Tensor:
    """Write the old entries to their places; returns where there are none."""
    index = [torch.from_numpy(places.along(dim, size)) for dim, size in enumerate(old.shape)]
    grid: list[Tensor] = []
    for dim, positions in enumerate(index):
        if positions.dim() > 1:  # entries of dimension 1, for each equal run of rows
            rows = positions.repeat_interleave(len(old) // len(positions), 0)
            grid.append(rows.view(*rows.shape, *[1] * (old.dim() - 2)))
        else:
            grid.append(positions.view([-1 if d == dim else 1 for d in range(old.dim())]))
    where = tuple(positions.to(old.device) for positions in grid)
    fresh = torch.ones(new.shape, dtype=torch.bool, device=new.device)
    new[where] = old
    fresh[where] = False
    return fresh
