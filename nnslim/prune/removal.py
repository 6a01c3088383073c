"""Trying the removal of a channel in place: no layer reads it, and then it is back.

A layer reads a channel by a slice of its weight, its *incoming slice*: zeroing that is the removal,
exactly. A sum over channels has no weight, so there the channel's entries are zeroed instead.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

import numpy as np
import torch
from torch import Tensor

from nnslim.network.graph import Ref, dims_of, tensor_refs

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap, Member
    from nnslim.channels.labels import Labels
    from nnslim.network.interpreter import Call, Step
    from nnslim.network.network import Network

__all__ = ["Reading", "find_reading", "incoming_slices"]

_Places: TypeAlias = "dict[str, list[tuple[int, Callable[[int], np.ndarray]]]]"


@dataclass(frozen=True)
class Reading:
    """How a group is read.

    Attributes:
        group: The group.
        weights: Incoming slices: input dimensions of weights.
        sums: By node name: the summed dimensions, and where each channel stands in them.
        start: Number of the first node that reads the group, or None when nothing does.
    """

    group: ChannelGroup
    weights: tuple[Member, ...]
    sums: _Places
    start: int | None

    @contextmanager
    def without(self, network: Network, channel: int) -> Generator[Call | None]:
        """Remove one channel; yields what has to replace the operator calls meanwhile."""
        saved = [
            _zero(network.tensor(m.tensor).detach(), m.positions[channel]) for m in self.weights
        ]
        try:
            yield self._call(channel) if self.sums else None
        finally:
            for weight, positions, columns in reversed(saved):
                weight.index_copy_(1, positions, columns)

    def _call(self, channel: int) -> Call:
        def call(step: Step, args: list[object], kwargs: dict[str, object]) -> object:
            for dim, positions in self.sums.get(step.node.name, ()):
                value = cast("Tensor", args[0])
                index = torch.from_numpy(positions(channel)).to(value.device)
                args[0] = value.index_fill(dim, index, 0.0)
            return step.function(*args, **kwargs)

        return call


def incoming_slices(network: Network, group: ChannelGroup) -> tuple[Member, ...]:
    """The slices of a group by which layers read its channels: input dimensions of weights."""
    dense = {
        ref.name
        for node in network.graph.nodes
        if node.op.split(".")[1].startswith(("conv", "linear"))
        for ref in list(tensor_refs(node.arguments))[:1]
    }
    return tuple(m for m in group.members if m.tensor in dense and m.dim == 1)


def find_reading(network: Network, channels: ChannelMap, group: ChannelGroup) -> Reading:
    """Find every place where the channels of a group are read."""
    weights, sums = incoming_slices(network, group), _sums(network, channels, group)
    names = {member.tensor for member in weights}
    starts = (
        index
        for index, node in enumerate(network.graph.nodes)
        if node.name in sums or any(ref.name in names for ref in tensor_refs(node.arguments))
    )
    return Reading(group, weights, sums, next(starts, None))


def _sums(network: Network, channels: ChannelMap, group: ChannelGroup) -> _Places:
    found: _Places = {}
    for node in network.graph.nodes:
        source = node.args[0] if node.args else None
        if not node.op.startswith("aten.sum.") or not isinstance(source, Ref):
            continue
        labels = cast("Labels", channels.values[source.name])
        for dim in dims_of(node.args[1] if len(node.args) > 1 else None, len(labels)):
            along = labels[dim]
            if along is not None and np.isin(channels.component[along], group.components).any():
                own = channels.component[along]
                found.setdefault(node.name, []).append((dim, _positions(own, group.components)))
    return found


def _positions(own: np.ndarray, components: np.ndarray) -> Callable[[int], np.ndarray]:
    return lambda channel: np.flatnonzero(own == components[channel])


def _zero(weight: Tensor, places: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    positions = torch.from_numpy(places).to(weight.device)
    columns = weight.index_select(1, positions)
    weight.index_fill_(1, positions, 0.0)
    return weight, positions, columns
