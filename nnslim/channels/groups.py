"""Channel groups: what must be cut together, what may be cut at all, and why not.

One channel is a connected component of labels: all the slices, in all tensors, that must live or
die together. Channels with the same footprint form one group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal, cast

import numpy as np

from nnslim.channels.balance import balanced_components, tie_rows, uneven_balance
from nnslim.channels.labels import IntArray, Labels
from nnslim.channels.rules import DEFAULT_RULES
from nnslim.channels.walk import Freeze, Rule, RuleResult, Shrink, Walk

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
            channels, which are runs of pixels, attention heads and convolution groups.
        blocks: For the inputs of a grouped convolution that keeps its groups: the convolution
            group that each position belongs to, ``(width, k)``. The position then means that
            entry of dimension 1 in that group's equal run of rows. None everywhere else.
    """

    tensor: str
    dim: int
    positions: IntArray
    blocks: IntArray | None = None


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
        decisions: What shrinks where a dimension is split into groups and their members, by place.
    """

    groups: tuple[ChannelGroup, ...]
    component: IntArray
    values: Mapping[str, RuleResult]
    tensors: Mapping[str, Labels]
    frozen: np.ndarray
    decisions: Mapping[str, int] = field(default_factory=dict)

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


def channel_groups(
    network: Network,
    rules: Mapping[str, Rule] | None = None,
    shrink: Shrink = "auto",
    earlier: ChannelMap | None = None,
) -> ChannelMap:
    """Find the channel groups of a network.

    Args:
        network: The network; only integer tensors' values are looked at.
        rules: Additional rules by operator name; they win over the built-in ones and over those
            that the network brings for operators of its own.
        shrink: What may go where a dimension is split into groups and their members, such as
            attention heads and positions in them, or the groups of a convolution or norm: ``whole``
            groups, the same number ``within`` each, or ``auto``: whichever there are more of.
        earlier: The groups before a cut that gave this network: what shrinks stays what it was,
            although ``auto`` would now decide by the sizes that are left.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> for group in channel_groups(trace_network(model, torch.zeros(2, 3, 8, 8))).groups:
        ...     print(group.name, group.width, group.status, group.reason)
        0 8 free None
        0.in 3 frozen meets a fixed size at aten.conv2d.default (0)
        2 4 frozen network output
    """
    table = {**DEFAULT_RULES, **cast("Mapping[str, Rule]", network.graph.custom), **(rules or {})}
    walk = _walk(network, table, shrink, earlier.decisions if earlier else {})
    while True:
        component = balanced_components(walk)
        n = int(component.max(initial=-1)) + 1
        frozen, frozen_why = _mark(n, component, walk.freezes)
        approximate, approximate_why = _mark(n, component, walk.approximations)
        why = {**approximate_why, **frozen_why}
        groups = _groups(walk, component, frozen.astype(np.int64) * 2 + approximate, why)
        uneven = uneven_balance(walk, component, [g.components for g in groups], frozen)
        if uneven is None:
            return ChannelMap(
                groups, component, walk.values, walk.parameters, frozen, walk.decisions
            )
        tie_rows(walk, uneven)


def _walk(
    network: Network, rules: Mapping[str, Rule], shrink: Shrink, earlier: Mapping[str, int]
) -> Walk:
    """Walk until no split of a dimension has a better axis left than the frozen one it took."""
    choices: dict[str, int] = {}
    tensors = network.tensors()
    while True:
        walk = Walk(network.graph, tensors, shrink=shrink, choices=choices, earlier=earlier)
        walk.run(rules)
        component = balanced_components(walk)
        frozen = np.zeros(int(component.max(initial=-1)) + 1, dtype=bool)
        for freeze in walk.freezes:
            frozen[component[freeze.labels]] = True
        stuck = [
            site
            for site, (labels, n_axes) in walk.sites.items()
            if frozen[component[labels]].all() and choices.get(site, 0) < n_axes - 1
        ]
        if not stuck:
            return walk
        choices |= {site: choices.get(site, 0) + 1 for site in stuck}


def _mark(n: int, component: IntArray, marks: list[Freeze]) -> tuple[np.ndarray, dict[int, str]]:
    """Which components are marked, and the first reason given for each."""
    marked = np.zeros(n, dtype=bool)
    why: dict[int, str] = {}
    for mark in marks:
        own = np.unique(component[mark.labels])
        for index in own[~marked[own]].tolist():
            why[index] = mark.reason
        marked[own] = True
    return marked, why


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
    slot = [np.full(own.size, i) for i, own in enumerate(labels)]
    position = [np.broadcast_to(np.arange(own.shape[-1]), own.shape).ravel() for own in labels]
    block = [
        np.arange(own.shape[0]).repeat(own.shape[1]) if own.ndim > 1 else np.full(own.size, -1)
        for own in labels
    ]
    runs = [component[own.ravel()] for own in labels]
    return _Slots(
        names, *(np.concatenate([empty, *column]) for column in (slot, runs, position, block))
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
    return found + [np.unique(component[balance]) for balance in walk.balances]


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
    groups = [_group(slots, rows, status, why) for rows in runs]
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
        own = rows[group.components]
        if own[0] >= 0 and (finest is None or own.max() > finest.max()):
            finest = own
    if finest is None or (finest == finest[0]).all():
        return group
    each = np.unique(np.bincount(finest))
    if len(each) > 1:
        return group  # uneven: the balance is about to be tied
    return replace(group, parts=np.argsort(finest, kind="stable").reshape(-1, each[0]))


def _group(slots: _Slots, rows: IntArray, status: IntArray, why: Mapping[int, str]) -> ChannelGroup:
    components = np.unique(slots.component[rows])
    width = len(components)
    members: list[Member] = []
    row_slots = slots.slot[rows]
    for own in np.split(rows, np.flatnonzero(np.diff(row_slots)) + 1):
        name, dim = slots.names[slots.slot[own[0]]]
        block = slots.block[own].reshape(width, -1)
        positions = slots.position[own].reshape(width, -1)
        members.append(Member(name, dim, positions, None if block[0, 0] < 0 else block))
    order = np.argsort(members[0].positions[:, 0])
    members = [
        replace(
            m, positions=m.positions[order], blocks=None if m.blocks is None else m.blocks[order]
        )
        for m in members
    ]
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
