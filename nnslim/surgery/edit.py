"""An edit: which channels of which groups stay, and where new ones go. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnslim.channels import ChannelGroup, ChannelMap
from nnslim.channels.labels import DimLabels, IntArray
from nnslim.errors import ConfigError

__all__ = ["PLANT", "Edit", "ResolvedEdit", "resolve_edit"]

# Stands for a new channel in the list of a group.
PLANT = -1


@dataclass(frozen=True)
class Edit:
    """Channels by group name; a group that is not named stays as it is.

    Attributes:
        keep: Increasing channel indices of each edited group, with ``PLANT`` for each new channel,
            which stands after the kept channel before it.

    Example:
        >>> Edit({"layer1.0.conv1": np.array([0, 2, 5])}).keep["layer1.0.conv1"].tolist()
        [0, 2, 5]
        >>> Edit({"layer1.0.conv1": np.array([0, 2, PLANT])}).planted
        {'layer1.0.conv1': 1}
    """

    keep: Mapping[str, IntArray]

    @property
    def planted(self) -> dict[str, int]:
        """Number of new channels of each group that gets some."""
        counts = {name: int((keep == PLANT).sum()) for name, keep in self.keep.items()}
        return {name: n for name, n in counts.items() if n}


@dataclass(frozen=True)
class ResolvedEdit:
    """An edit resolved against a network: how many of each channel there will be.

    Attributes:
        channels: The groups of the network.
        count: By channel: 0 for a removed one, 1 for a kept one, 1 + n where n new ones follow it.
    """

    channels: ChannelMap
    count: IntArray

    @property
    def alive(self) -> np.ndarray:
        """Whether each channel stays."""
        return self.count > 0

    def counts(self, labels: IntArray) -> IntArray:
        """How many entries each entry of a labelled dimension becomes."""
        return self.count[self.channels.component[labels]]

    def kept(self, labels: DimLabels) -> IntArray | None:
        """Indices that stay along a labelled dimension; None where all of them do."""
        alive = None if labels is None else self.counts(labels) > 0
        return None if alive is None or alive.all() else np.flatnonzero(alive)

    def size(self, labels: DimLabels, size: int) -> int:
        """New size of a dimension that had ``size`` entries."""
        return size if labels is None else int(self.counts(labels).sum())

    def whole(self, labels: IntArray, n_groups: int) -> int:
        """How many equal runs a dimension has then, where runs come and go whole or not at all."""
        by_group = self.counts(labels).reshape(n_groups, -1)
        return int(np.maximum(by_group.min(axis=1), by_group.any(axis=1)).sum())


def resolve_edit(channels: ChannelMap, edit: Edit) -> ResolvedEdit:
    """Check an edit against the groups and return what lives.

    Raises:
        ConfigError: An unknown or frozen group, an index out of range, an unsorted list, a group
            that would lose all of its channels, more of one part than of another, or a new channel
            before every kept one.
    """
    count = np.ones(len(channels.frozen), dtype=np.int64)
    names = {group.name: group for group in channels.groups}
    for name, keep in edit.keep.items():
        if name not in names:
            raise ConfigError(
                f"the network has no channel group {name!r}", hint="see [[dry_run]] for the groups"
            )
        group = names[name]
        count[group.components] = _group_count(group, np.asarray(keep, dtype=np.int64))
    return ResolvedEdit(channels, count)


def _group_count(group: ChannelGroup, keep: IntArray) -> IntArray:
    old = keep[keep != PLANT]
    if len(old) == 0:
        raise ConfigError(f"group {group.name!r} would lose all of its {group.width} channels")
    if np.any(np.diff(old) <= 0) or old[0] < 0 or old[-1] >= group.width:
        raise ConfigError(
            f"group {group.name!r} needs increasing indices from 0 to {group.width - 1}"
        )
    if keep[0] == PLANT:
        raise ConfigError(f"a new channel of group {group.name!r} stands before every kept one")
    count = np.zeros(group.width, dtype=np.int64)
    before = np.maximum.accumulate(np.where(keep == PLANT, -1, np.arange(len(keep))))
    np.add.at(count, keep[before], 1)
    if group.status == "frozen" and (count != 1).any():
        what = "cut" if (count == 0).any() else "planted into"
        raise ConfigError(f"group {group.name!r} cannot be {what}: {group.reason}")
    if group.parts is not None and len(set(count[group.parts].sum(axis=1).tolist())) > 1:
        raise ConfigError(
            f"group {group.name!r} must keep the same number of channels in each of its"
            f" {len(group.parts)} parts"
        )
    return count
