"""An edit: which channels of which groups stay. Data only; nothing here touches a tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from nnslim.channels import ChannelMap
from nnslim.channels.labels import DimLabels, IntArray
from nnslim.errors import ConfigError

__all__ = ["Cut", "Edit", "resolve_edit"]


@dataclass(frozen=True)
class Edit:
    """Kept channels by group name; a group that is not named keeps all of its channels.

    Attributes:
        keep: Strictly increasing channel indices of each edited group.

    Example:
        >>> Edit({"layer1.0.conv1": np.array([0, 2, 5])}).keep["layer1.0.conv1"].tolist()
        [0, 2, 5]
    """

    keep: Mapping[str, IntArray]


@dataclass(frozen=True)
class Cut:
    """An edit resolved against a network: which channels are alive, label by label."""

    channels: ChannelMap
    alive: np.ndarray

    def kept(self, labels: DimLabels) -> IntArray | None:
        """Indices that stay along a labelled dimension; None where nothing can change."""
        if labels is None:
            return None
        return np.flatnonzero(self.alive[self.channels.component[labels]])

    def size(self, labels: DimLabels, size: int) -> int:
        """New size of a dimension that had ``size`` entries."""
        kept = self.kept(labels)
        return size if kept is None else len(kept)

    def whole(self, labels: IntArray, n_groups: int) -> int:
        """How many of the equal runs of a dimension are left, where runs go whole or not at all."""
        by_group = self.alive[self.channels.component[labels]].reshape(n_groups, -1)
        return int(by_group.any(axis=1).sum())


def resolve_edit(channels: ChannelMap, edit: Edit) -> Cut:
    """Check an edit against the groups and return what lives.

    Raises:
        ConfigError: An unknown or frozen group, an index out of range, an unsorted list, a group
            that would lose all of its channels, or more of one part than of another.
    """
    alive = np.ones(len(channels.frozen), dtype=bool)
    names = {group.name: group for group in channels.groups}
    for name, keep in edit.keep.items():
        if name not in names:
            raise ConfigError(
                f"the network has no channel group {name!r}", hint="see --dry-run for the groups"
            )
        group = names[name]
        if len(keep) == 0:
            raise ConfigError(f"group {name!r} would lose all of its {group.width} channels")
        if np.any(np.diff(keep) <= 0) or keep[0] < 0 or keep[-1] >= group.width:
            raise ConfigError(
                f"group {name!r} needs increasing indices from 0 to {group.width - 1}"
            )
        if group.status == "frozen" and len(keep) < group.width:
            raise ConfigError(f"group {name!r} cannot be cut: {group.reason}")
        removed = np.ones(group.width, dtype=bool)
        removed[keep] = False
        if group.parts is not None and len(set((~removed)[group.parts].sum(axis=1).tolist())) > 1:
            raise ConfigError(
                f"group {name!r} must keep the same number of channels in each of its"
                f" {len(group.parts)} parts"
            )
        alive[group.components[removed]] = False
    return Cut(channels, alive)
