"""Channel groups: what must be cut together, what may be cut at all, and why not.

One channel is a connected component of labels: all the slices, in all tensors, that must live or
die together. Channels with the same footprint form one group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from nnslim.channels.labels import IntArray, Labels, connected_components
from nnslim.channels.rules import DEFAULT_RULES
from nnslim.channels.walk import Rule, RuleResult, Walk

if TYPE_CHECKING:
    from nnslim.network.network import Network

__all__ = ["ChannelGroup", "ChannelMap", "Member", "channel_groups"]

Status = Literal["free", "approximate", "frozen"]


@dataclass(frozen=True)
class Member:
    """The part of a tensor that belongs to a group.

    Attributes:
        tensor: Name of the parameter or buffer.
        dim: Dimension of the tensor.
        positions: Indices along ``dim`` per channel, ``(width, k)``; ``k`` is 1 but for flattened
            channels, which are runs of pixels, and convolution groups.
    """

    tensor: str
    dim: int
    positions: IntArray


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
    """

    name: str
    members: tuple[Member, ...]
    components: IntArray
    status: Status
    reason: str | None

    @property
    def width(self) -> int:
        """Number of channels."""
        return len(self.components)

    @property
    def layers(self) -> tuple[str, ...]:
        """Module paths of the members, each once."""
        return tuple(dict.fromkeys(member.tensor.rpartition(".")[0] for member in self.members))


@dataclass(frozen=True)
class ChannelMap:
    """All groups of a network, and where each channel stands in every value and tensor.

    Attributes:
        groups: Groups in the order in which the network meets them.
        component: Channel number of each label.
        values: Labels of every value of the graph.
        tensors: Labels of every parameter and float buffer.
        frozen: Whether each channel must stay.
    """

    groups: tuple[ChannelGroup, ...]
    component: IntArray
    values: Mapping[str, RuleResult]
    tensors: Mapping[str, Labels]
    frozen: np.ndarray

    def __getitem__(self, name: str) -> ChannelGroup:
        """Return the group of this name; a ``KeyError`` where there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(f"the network has no channel group {name!r}")

    @property
    def prunable(self) -> tuple[ChannelGroup, ...]:
        """The groups that are not frozen."""
        return tuple(group for group in self.groups if group.status != "frozen")


def channel_groups(network: Network, rules: Mapping[str, Rule] | None = None) -> ChannelMap:
    """Find the channel groups of a network.

    Args:
        network: The network; only integer tensors' values are looked at.
        rules: Additional rules by operator name; they win over the built-in ones.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> for group in channel_groups(trace_network(model, torch.zeros(2, 3, 8, 8))).groups:
        ...     print(group.name, group.width, group.status, group.reason)
        0 8 free None
        0.in 3 frozen meets a fixed size at aten.conv2d.default (0)
        2 4 frozen network output
    """
    walk = Walk(network.graph, network.tensors())
    walk.run(DEFAULT_RULES if rules is None else {**DEFAULT_RULES, **rules})
    component = _solve(walk)
    n = int(component.max()) + 1 if component.size else 0
    frozen, frozen_why = _mark(n, component, [(f.labels, f.reason) for f in walk.freezes])
    approximate, approximate_why = _mark(
        n, component, [(f.labels, f.reason) for f in walk.approximations]
    )
    why = {**approximate_why, **frozen_why}
    groups = _groups(walk, component, frozen.astype(np.int64) * 2 + approximate, why)
    return ChannelMap(groups, component, walk.values, walk.parameters, frozen)


def _solve(walk: Walk) -> IntArray:
    empty = np.zeros(0, dtype=np.int64)
    left = np.concatenate([empty, *(a for a, _ in walk.ties)])
    right = np.concatenate([empty, *(b for _, b in walk.ties)])
    return connected_components(walk.n_labels, left, right)


def _mark(
    n: int, component: IntArray, marks: list[tuple[IntArray, str]]
) -> tuple[np.ndarray, dict[int, str]]:
    """Which components are marked, and the first reason given for each."""
    marked = np.zeros(n, dtype=bool)
    why: dict[int, str] = {}
    for labels, reason in marks:
        own = np.unique(component[labels])
        for index in own[~marked[own]].tolist():
            why[index] = reason
        marked[own] = True
    return marked, why


@dataclass(frozen=True)
class _Slots:
    """Every (channel, tensor dimension, position), sorted by channel."""

    names: list[tuple[str, int]]
    slot: IntArray
    component: IntArray
    position: IntArray


def _slots(walk: Walk, component: IntArray) -> _Slots:
    names = [
        (name, dim)
        for name, labels in walk.parameters.items()
        for dim, along in enumerate(labels)
        if along is not None
    ]
    runs = [component[walk.parameters[name][dim]] for name, dim in names]
    empty = np.zeros(0, dtype=np.int64)
    slot = np.concatenate([empty, *(np.full(run.size, i) for i, run in enumerate(runs))])
    position = np.concatenate([empty, *(np.arange(run.size) for run in runs)])
    return _Slots(names, slot, np.concatenate([empty, *runs]), position)


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
    found: list[IntArray] = []
    for node in walk.graph.nodes:
        values = walk.values[node.name]
        if isinstance(node.value, tuple):
            parts = cast("tuple[Labels, ...]", values)
        elif node.op == "aten.slice.Tensor":
            parts = (cast("Labels", values),)
        else:
            continue
        found += [
            np.unique(component[along]) for own in parts for along in own if along is not None
        ]
    return found


def _groups(
    walk: Walk, component: IntArray, status: IntArray, why: Mapping[int, str]
) -> tuple[ChannelGroup, ...]:
    slots = _slots(walk, component)
    status = np.minimum(status, 2)
    signature = _signatures(slots, _pieces(walk, component), status)
    order = np.lexsort((slots.position, slots.component, slots.slot, signature[slots.component]))
    keys = signature[slots.component][order]
    bounds = np.flatnonzero(np.diff(keys)) + 1
    runs = np.split(order, bounds) if order.size else []
    # A group stands where its first tensor stands: producers (dimension 0) come first in slots.
    runs.sort(key=lambda rows: (int(slots.slot[rows[0]]), int(slots.position[rows[0]])))
    return _named([_group(slots, rows, status, why) for rows in runs])


def _group(slots: _Slots, rows: IntArray, status: IntArray, why: Mapping[int, str]) -> ChannelGroup:
    components = np.unique(slots.component[rows])
    width = len(components)
    members: list[Member] = []
    row_slots = slots.slot[rows]
    for own in np.split(rows, np.flatnonzero(np.diff(row_slots)) + 1):
        name, dim = slots.names[slots.slot[own[0]]]
        members.append(Member(name, dim, slots.position[own].reshape(width, -1)))
    order = np.argsort(members[0].positions[:, 0])
    members = [Member(m.tensor, m.dim, m.positions[order]) for m in members]
    kinds: tuple[Status, ...] = ("free", "approximate", "frozen")
    kind = kinds[int(status[components[0]])]
    return ChannelGroup("", tuple(members), components[order], kind, why.get(int(components[0])))


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
        result.append(
            ChannelGroup(name, group.members, group.components, group.status, group.reason)
        )
    return tuple(result)
