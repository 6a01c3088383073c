"""Planted channels: where they may go, how they start, and that nothing changes when they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from nnslim.channels.places import reading_places
from nnslim.errors import ConfigError
from nnslim.growing.seed import kaiming_
from nnslim.network.graph import TensorRef
from nnslim.surgery import PLANT, Edit, Planted, plant_channels

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnslim.channels import ChannelGroup, ChannelMap, Member
    from nnslim.channels.labels import IntArray
    from nnslim.growing.donor import Donor
    from nnslim.network.network import Network

__all__ = ["growable", "obstacle", "plant", "planting_order"]


def growable(channels: ChannelMap) -> tuple[ChannelGroup, ...]:
    """Groups that can be planted into: layers with weights produce and read the channels.

    None are groups that a norm or mean runs over, because a new channel would change what it
    computes; those that something without a weight sums over, such as the query and key channels of
    attention, because nothing could start at zero; and those at a transposed convolution.
    """
    weightless = [place for place in reading_places(channels) if place.weight is None]
    summed = np.unique(np.concatenate([np.zeros(0), *(p.components for p in weightless)]))
    return tuple(
        group
        for group in channels.free
        if not np.isin(group.components, summed).any()
        and _all_along(group.incoming, 1)
        and _all_along(group.outgoing, 0)
    )


def _all_along(members: tuple[Member, ...], dim: int) -> bool:
    return bool(members) and all(member.dim == dim for member in members)


def planting_order(group: ChannelGroup, count: int) -> IntArray:
    """Channels of a group and so many new ones after the last one, or after the last of each part.

    The number is rounded up to a multiple of the number of parts.
    """
    parts = group.by_part
    each = -(-count // len(parts))
    new = dict.fromkeys(parts[:, -1].tolist(), each)
    order = [[i, *[PLANT] * new.get(i, 0)] for i in range(group.width)]
    return np.concatenate(order).astype(np.int64)


def plant(
    network: Network,
    channels: ChannelMap,
    counts: Mapping[str, int],
    *,
    seed: int = 0,
    donor: Donor | None = None,
) -> Planted:
    """Plant channels that start without an effect: the network computes what it did before.

    What produces a new channel is the donor's, or drawn like a fresh layer; batch norms start as
    the donor's or the identity, and need statistics (``recalibrate``). What reads it starts at
    zero; new channels of one group read those of another from the start.

    Args:
        network: The network; it is left alone.
        channels: Its groups.
        counts: Channels to plant, by the names of some of ``growable``; see ``planting_order``.
        seed: Of the draw.
        donor: The network whose next channels are planted; None draws their weights.

    Raises:
        ConfigError: A group cannot be planted into.
    """
    possible = growable(channels)
    for name in counts:
        if channels[name] not in possible:
            reason = channels[name].reason or "no layer with a weight produces or reads it"
            raise ConfigError(f"nothing can be planted into {name!r}: {reason}")
    orders = _orders(channels, counts)
    planted = plant_channels(network, Edit(orders), channels)
    generator = torch.Generator().manual_seed(seed)
    source = None if donor is None else donor.narrowed_to(planted.channels)
    with torch.no_grad():
        _Drawing(planted, orders, generator, source).draw()
    return planted


def obstacle(network: Network, channels: ChannelMap, counts: Mapping[str, int]) -> str | None:
    """Say why so many channels cannot be planted, which only trying tells; None where they can."""
    try:
        plant_channels(network, Edit(_orders(channels, counts)), channels)
    except ConfigError as error:
        return error.message
    return None


def _orders(channels: ChannelMap, counts: Mapping[str, int]) -> dict[str, IntArray]:
    return {name: planting_order(channels[name], count) for name, count in counts.items()}


@dataclass(frozen=True)
class _Drawing:
    planted: Planted
    orders: Mapping[str, IntArray]
    generator: torch.Generator
    source: Network | None  # the donor, as wide as what was planted; None draws

    def draw(self) -> None:
        self._norms()
        if self.source is not None:
            self._beside_layers(self.source)
        for name in self.orders:
            self._producers(name)
        for name in self.orders:
            self._readers(name)

    def _new(self, name: str) -> IntArray:
        return np.flatnonzero(self.orders[name] == PLANT)

    def _producers(self, name: str) -> None:
        network, new = self.planted.network, self._new(name)
        for member in self.planted.channels[name].outgoing:
            weight = network.tensor(member.tensor)
            rows = torch.from_numpy(member.positions[new].ravel())
            fresh = self.planted.fresh[member.tensor]
            if self.source is None:
                fan_in = weight.shape[1:].numel()
                start = kaiming_(torch.empty_like(weight[rows]), fan_in, self.generator)
            else:
                start = self.source.tensor(member.tensor)[rows].to(weight)
            # A layer may read what it produces: there its new inputs start at zero, too.
            weight[rows] = torch.where(fresh[rows], start, weight[rows])

    def _readers(self, name: str) -> None:
        network, new = self.planted.network, self._new(name)
        for member in self.planted.channels[name].incoming:
            weight = network.tensor(member.tensor)
            if member.blocks is not None:
                continue  # a grouped convolution's new inputs are zero, and stay so
            columns = torch.from_numpy(member.positions[new].ravel())
            rows = self._rows_not_new_elsewhere(member.tensor, name)[:, None]
            weight[rows, columns] = 0.0

    def _rows_not_new_elsewhere(self, tensor: str, name: str) -> torch.Tensor:
        """Rows of a weight but those that other groups have planted: nothing old reads these."""
        rows = np.ones(len(self.planted.network.tensor(tensor)), dtype=bool)
        for other in self.orders.keys() - {name}:
            for member in self.planted.channels[other].outgoing:
                if member.tensor == tensor:
                    rows[member.positions[self._new(other)].ravel()] = False
        return torch.from_numpy(np.flatnonzero(rows))

    def _beside_layers(self, source: Network) -> None:
        """What is no layer's weight, such as biases and norms, is the donor's."""
        for name in self.planted.fresh.keys() - self.planted.network.graph.layer_weights.keys():
            tensor, fresh = self.planted.network.tensor(name), self.planted.fresh[name]
            tensor[fresh] = source.tensor(name)[fresh].to(tensor)

    def _norms(self) -> None:
        """New channels of norms are scaled by 1; shifts and means stay zero."""
        for node in self.planted.network.graph.nodes:
            scale = node.argument("weight") if node.family == "batch_norm" else None
            if isinstance(scale, TensorRef) and scale.name in self.planted.fresh:
                self.planted.network.tensor(scale.name)[self.planted.fresh[scale.name]] = 1.0
