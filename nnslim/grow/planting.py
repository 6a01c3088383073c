"""Planted channels: where they may go, how they start, and that nothing changes when they do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from nnslim.errors import ConfigError
from nnslim.grow.seed import kaiming_
from nnslim.network.graph import TensorRef
from nnslim.prune.removal import incoming_slices, outgoing_slices, reading_places
from nnslim.surgery import PLANT, Edit, Planted, plant_channels

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap, Member
    from nnslim.grow.config import Initialisation
    from nnslim.network.network import Network

__all__ = ["growable", "plant", "planting_edit"]

_NOISE = 0.1


def growable(network: Network, channels: ChannelMap) -> tuple[ChannelGroup, ...]:
    """Groups that can be planted into: layers with weights produce and read the channels.

    None are groups that a norm or mean runs over, because a new channel would change what it
    computes; those that something without a weight sums over, such as the query and key channels of
    attention, because nothing could start at zero; and those at a transposed convolution.
    """
    weightless = [place for place in reading_places(network, channels) if place.weight is None]
    summed = np.unique(np.concatenate([np.zeros(0), *(p.components for p in weightless)]))
    return tuple(
        group
        for group in channels.groups
        if group.status == "free"
        and not np.isin(group.components, summed).any()
        and _all_along(incoming_slices(network, group), 1)
        and _all_along(outgoing_slices(network, group), 0)
    )


def _all_along(members: tuple[Member, ...], dim: int) -> bool:
    return bool(members) and all(member.dim == dim for member in members)


def planting_edit(group: ChannelGroup, count: int) -> Edit:
    """Plant so many channels after the last one, or after the last of each part.

    The number is rounded up to a multiple of the number of parts.
    """
    parts = np.arange(group.width)[None] if group.parts is None else group.parts
    each = -(-count // len(parts))
    new = dict.fromkeys(parts[:, -1].tolist(), each)
    order = [[i, *[PLANT] * new.get(i, 0)] for i in range(group.width)]
    return Edit({group.name: np.concatenate(order).astype(np.int64)})


def plant(  # noqa: PLR0913 - a few say how
    network: Network,
    channels: ChannelMap,
    group: str,
    count: int,
    *,
    initialisation: Initialisation = "random",
    seed: int = 0,
) -> Planted:
    """Plant channels that start without an effect: the network computes what it did before.

    What produces a new channel is drawn like a fresh layer, or copied; batch norms start as the
    identity, and need statistics (``recalibrate``). What reads it starts at zero, or, for pairs, at
    opposite values that cancel.

    Args:
        network: The network; it is left alone.
        channels: Its groups.
        group: Name of one of ``growable``.
        count: Channels to plant; see ``planting_edit``.
        initialisation: See ``GrowConfig``; ``screened`` starts as ``random`` does.
        seed: Of the draw.

    Raises:
        ConfigError: The group cannot be planted into, or not in pairs.
    """
    own = channels[group]
    if own not in growable(network, channels):
        reason = own.reason or "no layer with a weight produces or reads it"
        raise ConfigError(f"nothing can be planted into {group!r}: {reason}")
    edit = planting_edit(own, count)
    planted = plant_channels(network, edit, channels)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        _Drawing(planted, planted.channels[group], edit.keep[group], generator).draw(initialisation)
    return planted


@dataclass(frozen=True)
class _Drawing:
    planted: Planted
    group: ChannelGroup
    order: np.ndarray
    generator: torch.Generator

    def draw(self, initialisation: Initialisation) -> None:
        network = self.planted.network
        new = np.flatnonzero(self.order == PLANT)
        if initialisation == "pairs" and len(new) % 2:
            raise ConfigError(
                f"{len(new)} channels for {self.group.name!r} make no pairs",
                hint="give an even number, or another initialisation",
            )
        self._norms()
        for member in outgoing_slices(network, self.group):
            weight = network.tensor(member.tensor)
            fan_in = weight.shape[1:].numel()
            rows = torch.from_numpy(member.positions[new].ravel())
            fresh = self.planted.fresh[member.tensor]
            drawn = kaiming_(torch.empty_like(weight[rows]), fan_in, self.generator)
            if initialisation == "copy":
                old = np.flatnonzero(self.order != PLANT)
                picked = torch.randint(len(old), (len(new),), generator=self.generator).numpy()
                source = weight[torch.from_numpy(member.positions[old[picked]].ravel())]
                drawn = source + _NOISE * source.std(correction=0) * drawn.sign()
            elif initialisation == "pairs":
                half = member.positions.shape[1] * (len(new) // 2)
                drawn[half:] = drawn[:half]
            # A layer may read what it produces: there its own new inputs start at zero, too.
            weight[rows] = torch.where(fresh[rows], drawn, weight[rows])
        self._readers(new, pairs=initialisation == "pairs")

    def _readers(self, new: np.ndarray, *, pairs: bool) -> None:
        network = self.planted.network
        for member in incoming_slices(network, self.group):
            weight = network.tensor(member.tensor)
            if member.blocks is not None:
                continue  # a grouped convolution's new inputs are zero, and stay so
            columns = torch.from_numpy(member.positions[new].ravel())
            weight[:, columns] = 0.0
            if pairs:
                half = len(columns) // 2
                drawn = torch.empty_like(weight[:, columns[:half]])
                kaiming_(drawn, weight.shape[1:].numel(), self.generator)
                weight[:, columns[:half]] = drawn
                weight[:, columns[half:]] = -drawn

    def _norms(self) -> None:
        """New channels of norms are scaled by 1; shifts and means stay zero."""
        for node in self.planted.network.graph.nodes:
            scale = node.args[1] if node.op == "aten.batch_norm.default" else None
            if isinstance(scale, TensorRef) and scale.name in self.planted.fresh:
                self.planted.network.tensor(scale.name)[self.planted.fresh[scale.name]] = 1.0
