"""Channel groups: what must be cut together, what may be cut at all, and why not.

One channel is a connected component of labels: all the slices, in all tensors, that must live or
die together. Channels with the same footprint form one group.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

import numpy as np

from nnslim.channels.balance import balanced_components, tie_rows, uneven_balance
from nnslim.channels.footprints import ChannelGroup, group_channels
from nnslim.channels.labels import IntArray, Labels
from nnslim.channels.rules import DEFAULT_RULES
from nnslim.channels.splits import Splits
from nnslim.channels.walk import Freeze, Rule, RuleResult, Walk
from nnslim.network.graph import Arg, Ref, TensorRef
from nnslim.report.shown import Shown
from nnslim.report.table import Table

if TYPE_CHECKING:
    from nnslim.network.graph import Graph
    from nnslim.network.network import Network
    from nnslim.settings.prune import Shrink

__all__ = ["ChannelMap", "channel_groups"]


@dataclass(frozen=True, repr=False)
class ChannelMap(Shown):
    """All groups of a network, and where each channel stands in every value and tensor.

    It holds for every network of this graph, such as copies that were trained since.

    Attributes:
        graph: The network's operators.
        groups: Groups in the order in which the network meets them.
        component: Channel number of each label.
        values: Labels of every value of the graph.
        tensors: Labels of every parameter and float buffer.
        frozen: Whether each channel must stay.
        decisions: What shrinks where a dimension is split into groups and their members, by place.
    """

    graph: Graph
    groups: tuple[ChannelGroup, ...]
    component: IntArray
    values: Mapping[str, RuleResult]
    tensors: Mapping[str, Labels]
    frozen: np.ndarray
    decisions: Mapping[str, int] = field(default_factory=dict)

    def summary(self) -> str:
        """Count the groups, and name the first free ones with their widths."""
        shown = [f"{group.name} ({group.width})" for group in self.free[:4]]
        more = ", ..." if len(self.free) > len(shown) else ""
        names = f": {', '.join(shown)}{more}" if shown else ""
        return f"{len(self.groups)} groups, {len(self.free)} of them free{names}"

    def tables(self) -> tuple[Table, ...]:
        """List every group with its layers, width and status."""
        rows = [
            [own.name, ", ".join(own.layers), str(own.width), own.status, own.reason or ""]
            for own in self.groups
        ]
        headings = ["group", "layers", ">channels", "status", "reason"]
        return (Table.of("Channel groups", headings, rows),)

    def __getitem__(self, name: str) -> ChannelGroup:
        """Return the group of this name; a ``KeyError`` where there is none."""
        for group in self.groups:
            if group.name == name:
                return group
        raise KeyError(f"the network has no channel group {name!r}")

    def labels(self, arg: Arg) -> Labels:
        """Return the labels of a value, parameter or buffer, one entry per dimension."""
        assert isinstance(arg, (Ref, TensorRef))
        table = self.tensors if isinstance(arg, TensorRef) else self.values
        return cast("Labels", table[arg.name])

    @property
    def free(self) -> tuple[ChannelGroup, ...]:
        """The groups whose channels can go without a change to what others compute."""
        return tuple(group for group in self.groups if group.status == "free")

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
            that the network brings for custom operators.
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
        frozen, why = _mark(component, walk.freezes)
        approximate, normalised = _mark(component, walk.approximations)
        status = frozen.astype(np.int64) * 2 + approximate
        groups = group_channels(walk, component, status, {**normalised, **why})
        uneven = uneven_balance(walk, component, [g.components for g in groups], frozen)
        if uneven is None:
            labels, decisions = (walk.values, walk.parameters), walk.splits.decisions
            return ChannelMap(walk.graph, groups, component, *labels, frozen, decisions)
        tie_rows(walk, uneven)


def _walk(
    network: Network, rules: Mapping[str, Rule], shrink: Shrink, earlier: Mapping[str, int]
) -> Walk:
    """Walk until no split of a dimension has a better axis left than the frozen one it took."""
    choices: dict[str, int] | None = {}
    tensors = network.tensors()
    while True:
        walk = Walk(network.graph, tensors, splits=Splits(shrink, choices, earlier))
        walk.run(rules)
        component = balanced_components(walk)
        choices = walk.splits.next_choices(_mark(component, walk.freezes)[0][component])
        if choices is None:
            return walk


def _mark(component: IntArray, marks: list[Freeze]) -> tuple[np.ndarray, dict[int, str]]:
    """Which components are marked, and the first reason given for each."""
    marked = np.zeros(int(component.max(initial=-1)) + 1, dtype=bool)
    why: dict[int, str] = {}
    for mark in marks:
        channels = np.unique(component[mark.labels])
        for index in channels[~marked[channels]].tolist():
            why[index] = mark.reason
        marked[channels] = True
    return marked, why
