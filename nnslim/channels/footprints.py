"""Footprints: channels that have a part in the same tensors and pieces make one group."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np

from nnslim.channels.labels import IntArray, Labels
from nnslim.channels.walk import Walk

__all__ = ["ChannelGroup", "Member", "group_channels"]

Status = Literal["free", "approximate", "frozen"]


@dataclass(frozen=True)
class Member:
    """The part of a tensor that belongs to a group.

    Attributes:
        tensor: Name of the parameter or buffer.
        dim: Dimension of the tensor.
        positions: Indices along ``dim`` per channel, ``(width, k)``; ``k`` is 1 but for flattened
            channels, which are runs of pixels, attention heads and convolution groups.
        blocks: For the inputs of a grouped convolution that keeps its groups: the convolution
            group that each position belongs to, ``(width, k)``. The position then means that
            entry of dimension 1 in that group's equal run of rows. None everywhere else.
        side: ``incoming`` where a layer reads the channels by this dimension of its weight,
            ``outgoing`` where it produces them; None where the tensor is no layer's weight.
    """

    tensor: str
    dim: int
    positions: IntArray
    blocks: IntArray | None = None
    side: Literal["incoming", "outgoing"] | None = None


@dataclass(frozen=True)
class ChannelGroup:
    """Channels with the same footprint.

    Attributes:
        name: Module path of the tensor that produces the channels.
        members: Every tensor dimension the channels have a part in.
        components: Number of each channel in the ``ChannelMap``, ``(width,)``.
        status: ``free``; ``approximate`` when a norm runs over the channels, so that cutting them
            changes what the norm computes; ``frozen`` when they must stay.
        reason: Why the group is frozen or approximate, naming the operator and the source line.
        parts: Channels by part, ``(n_parts, width // n_parts)``, where every part must keep the
            same number of them, such as the groups of a convolution; None where any may go.
    """

    name: str
    members: tuple[Member, ...]
    components: IntArray
    status: Status
    reason: str | None
    parts: IntArray | None = None

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.components)

    @property
    def by_part(self) -> IntArray:
        """``parts``, or all channels as the one part, ``(n_parts, width // n_parts)``."""
        return np.arange(self.width)[None] if self.parts is None else self.parts

    @property
    def incoming(self) -> tuple[Member, ...]:
        """The slices of weights by which layers read the channels."""
        return tuple(member for member in self.members if member.side == "incoming")

    @property
    def outgoing(self) -> tuple[Member, ...]:
        """The slices of weights by which layers produce the channels."""
        return tuple(member for member in self.members if member.side == "outgoing")

    @property
    def layers(self) -> tuple[str, ...]:
        """Module paths of the members, each once."""
        return tuple(dict.fromkeys(member.tensor.rpartition(".")[0] for member in self.members))


@dataclass(frozen=True)
class _Slots:
    """Every (channel, tensor dimension, position), sorted by channel."""

    names: list[tuple[str, int]]
    slot: IntArray
    component: IntArray
    position: IntArray
    block: IntArray  # -1 where a position means the same in all rows


def _slots(walk: Walk, component: IntArray) -> _Slots:
    names = [
        (name, dim)
        for name, labels in walk.parameters.items()
        for dim, along in enumerate(labels)
        if along is not None
    ]
    labels = [cast("IntArray", walk.parameters[name][dim]) for name, dim in names]
    empty = np.zeros(0, dtype=np.int64)
    slot = [np.full(run.size, i) for i, run in enumerate(labels)]
    position = [np.broadcast_to(np.arange(run.shape[-1]), run.shape).ravel() for run in labels]
    block = [
        np.arange(run.shape[0]).repeat(run.shape[1]) if run.ndim > 1 else np.full(run.size, -1)
        for run in labels
    ]
    channel = [component[run.ravel()] for run in labels]
    return _Slots(
        names, *(np.concatenate([empty, *column]) for column in (slot, channel, position, block))
    )


def _signatures(slots: _Slots, pieces: list[IntArray], status: IntArray) -> IntArray:
    """One number per channel, equal for equal footprint, pieces and status: a sum of words."""
    n_slots = len(slots.names)
    generator = np.random.default_rng(20_20)
    words = generator.integers(1, 2**63, size=n_slots + len(pieces) + 3, dtype=np.uint64)
    signature = words[n_slots + len(pieces) + status]
    np.add.at(signature, slots.component, words[slots.slot])
    for index, piece in enumerate(pieces):
        signature[piece] += words[n_slots + index]
    return signature.view(np.int64)


def _pieces(walk: Walk, component: IntArray) -> list[IntArray]:
    """Channels of every split output and slice: each piece must keep one, so it bounds a group."""
    result: list[IntArray] = []
    for node in walk.graph.nodes:
        if isinstance(node.value, tuple) or node.family == "slice":
            values = walk.values[node.name]
            parts = values if isinstance(node.value, tuple) else (values,)
            runs = (along for labels in cast("tuple[Labels, ...]", parts) for along in labels)
            result += [np.unique(component[along]) for along in runs if along is not None]
    return result + [np.unique(component[balance]) for balance in walk.balances]


def group_channels(
    walk: Walk, component: IntArray, status: IntArray, why: Mapping[int, str]
) -> tuple[ChannelGroup, ...]:
    """Group the channels of a walk by footprint, in the order in which the network meets them.

    Args:
        walk: A finished walk.
        component: Channel number of each label.
        status: Of each channel: 0 free, 1 approximate, 2 and above frozen.
        why: The reason of each channel that is not free.
    """
    slots = _slots(walk, component)
    status = np.minimum(status, 2)
    signature = _signatures(slots, _pieces(walk, component), status)
    order = np.lexsort((slots.position, slots.component, slots.slot, signature[slots.component]))
    keys = signature[slots.component][order]
    bounds = np.flatnonzero(np.diff(keys)) + 1
    runs = np.split(order, bounds) if order.size else []
    # A group stands where its first tensor stands: producers (dimension 0) come first in slots.
    runs.sort(key=lambda rows: (int(slots.slot[rows[0]]), int(slots.position[rows[0]])))
    transposed = walk.graph.layer_weights
    groups = [_group(slots, rows, status, why, transposed) for rows in runs]
    return _named([_with_parts(walk, component, group) for group in groups])


def _with_parts(walk: Walk, component: IntArray, group: ChannelGroup) -> ChannelGroup:
    """Add the finest of the balances that the group takes part in."""
    if group.status == "frozen":
        return group
    rows = np.full(len(component), -1, dtype=np.int64)
    finest: IntArray | None = None
    for balance in walk.balances:
        rows[:] = -1
        rows[component[balance]] = np.arange(len(balance))[:, None]
        row = rows[group.components]
        if row[0] >= 0 and (finest is None or row.max() > finest.max()):
            finest = row
    if finest is None or (finest == finest[0]).all():
        return group
    each = np.unique(np.bincount(finest))
    if len(each) > 1:
        return group  # uneven: the balance is about to be tied
    return replace(group, parts=np.argsort(finest, kind="stable").reshape(-1, each[0]))


def _group(
    slots: _Slots,
    rows: IntArray,
    status: IntArray,
    why: Mapping[int, str],
    transposed: Mapping[str, bool],
) -> ChannelGroup:
    components = np.unique(slots.component[rows])
    width = len(components)
    members: list[Member] = []
    runs = np.split(rows, np.flatnonzero(np.diff(slots.slot[rows])) + 1)
    order = np.argsort(slots.position[runs[0]].reshape(width, -1)[:, 0])
    for run in runs:
        name, dim = slots.names[slots.slot[run[0]]]
        block = slots.block[run].reshape(width, -1)
        block = None if block[0, 0] < 0 else block[order]
        positions = slots.position[run].reshape(width, -1)[order]
        side = None
        if name in transposed and dim < 2:
            side = "outgoing" if dim == int(transposed[name]) else "incoming"
        members.append(Member(name, dim, positions, block, side))
    kinds: tuple[Status, ...] = ("free", "approximate", "frozen")
    kind = kinds[int(status[components[0]])]
    reason = why.get(int(components[0]))
    return ChannelGroup("", tuple(members), components[order], kind, reason)


def _named(groups: list[ChannelGroup]) -> tuple[ChannelGroup, ...]:
    """Name each group after its producer; number those that share one."""
    taken: dict[str, int] = {}
    result: list[ChannelGroup] = []
    for group in groups:
        producer = next((m for m in group.members if m.dim == 0), group.members[0])
        path = producer.tensor.rpartition(".")[0] or producer.tensor
        base = path if producer.dim == 0 else f"{path}.in"
        taken[base] = taken.get(base, 0) + 1
        name = base if taken[base] == 1 else f"{base}#{taken[base]}"
        result.append(replace(group, name=name))
    return tuple(result)
