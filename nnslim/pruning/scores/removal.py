"""Trying the removal of a channel in place: no layer reads it, and then it is back.

A layer reads a channel by a slice of its weight, its *incoming slice*: zeroing that is the removal,
exactly. A sum over channels has no weight, so there the channel's entries are zeroed instead.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor

from nnslim.network.graph import tensor_refs

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, Member
    from nnslim.channels.contractions import Operand
    from nnslim.channels.labels import IntArray
    from nnslim.channels.places import Place
    from nnslim.network.interpreter import Call, Step
    from nnslim.network.network import Network

__all__ = ["Reading", "find_reading"]

_Sums: TypeAlias = "dict[str, list[_Sum]]"


@dataclass(frozen=True)
class _Sum:
    """A place where a group is read: the channel of each index there, and those of the group."""

    operand: Operand
    dim: int
    along: IntArray
    components: IntArray

    def without(self, channel: int, value: Tensor) -> Tensor:
        """The operand with the entries of one channel at zero."""
        positions = np.flatnonzero(self.along == self.components[channel])
        return value.index_fill(self.dim, torch.from_numpy(positions).to(value.device), 0.0)


@dataclass(frozen=True)
class Reading:
    """How a group is read."""

    group: ChannelGroup
    weights: tuple[Member, ...]  # incoming slices: input dimensions of weights
    sums: _Sums  # by node: where it sums over the channels themselves, without a weight
    start: int | None  # number of the first node that reads the group

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
            if step.node.name not in self.sums:
                return step.function(*args, **kwargs)
            arguments = step.by_name(args, kwargs)
            for place in self.sums[step.node.name]:
                place.operand.update(arguments, partial(place.without, channel))
            return step.function(**arguments)

        return call


def find_reading(network: Network, places: tuple[Place, ...], group: ChannelGroup) -> Reading:
    """Find every place where the channels of a group are read, among ``reading_places``."""
    slices = {m.tensor: m for m in group.incoming if m.dim == 1}
    weights = tuple(m for m in slices.values() if m.blocks is None)
    names = {member.tensor for member in weights}
    sums: _Sums = {}
    for place in places:
        if place.weight not in names and np.isin(place.components, group.components).any():
            entry = _Sum(place.operand, place.dim, place.components, group.components)
            sums.setdefault(place.node, []).append(entry)
    starts = (
        index
        for index, node in enumerate(network.graph.nodes)
        if node.name in sums or any(ref.name in names for ref in tensor_refs(node.arguments))
    )
    return Reading(group, weights, sums, next(starts, None))


def _zero(weight: Tensor, places: np.ndarray) -> tuple[Tensor, Tensor, Tensor]:
    positions = torch.from_numpy(places).to(weight.device)
    columns = weight.index_select(1, positions)
    weight.index_fill_(1, positions, 0.0)
    return weight, positions, columns
