"""What shrinks where a dimension is split into groups and their members: one of the two.

Groups and members are attention heads and the positions in them, or the groups of a convolution or
norm and the channels in each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from nnslim.channels.labels import IntArray

if TYPE_CHECKING:
    from nnslim.settings.prune import Shrink

__all__ = ["Splits"]


@dataclass
class Splits:
    """The decisions of one walk over a graph.

    Attributes:
        shrink: What may shrink: ``whole`` groups, the same number ``within`` each, or ``auto``.
        choices: For splits of a dimension, which of the possible axes to take, by place.
        earlier: What an earlier walk decided at each place, to be decided the same way.
        decisions: What this walk decided, by place: the axis of a split, or 1 for whole groups.
        sites: What each split took: the labels, and how many axes it could take.
    """

    shrink: Shrink = "auto"
    choices: Mapping[str, int] = field(default_factory=dict)
    earlier: Mapping[str, int] = field(default_factory=dict)
    decisions: dict[str, int] = field(default_factory=dict)
    sites: dict[str, tuple[IntArray, int]] = field(default_factory=dict)

    def picks_whole(self, place: str, n_groups: int, n_members: int, only: bool) -> bool:
        """Whether whole groups may go (``only`` they can), or an equal number of members of each.

        What an earlier walk picked stays, even where now only whole groups can go.
        """
        whole = only or self.shrink == "whole" or (self.shrink == "auto" and n_groups >= n_members)
        self.decisions[place] = self.earlier.get(place, int(whole))
        return bool(self.decisions[place])

    def pick_axis(self, place: str, block: IntArray) -> int:
        """The one axis of a split dimension that may shrink.

        A choice that turned out to be frozen is given up for the next one in another walk.
        """
        varied = [a for a in range(block.ndim) if (block != block.take([0], a)).any()] or [0]
        if self.shrink == "within":
            varied.reverse()
        elif self.shrink == "auto":
            varied.sort(key=lambda a: -block.shape[a])
        site = f"{place}#{len(self.sites)}"
        axis = varied[min(self.choices.get(site, 0), len(varied) - 1)]
        self.decisions[site] = axis = self.earlier.get(site, axis)
        along = [slice(None) if a == axis else slice(0, 1) for a in range(block.ndim)]
        self.sites[site] = (block[tuple(along)].ravel(), len(varied))
        return axis

    def next_choices(self, frozen: np.ndarray) -> dict[str, int] | None:
        """Choices for another walk: the next axis where all labels of one are frozen.

        Args:
            frozen: Whether each label must stay.

        Returns:
            None where no split has a better axis left.
        """
        stuck = {
            site: self.choices.get(site, 0) + 1
            for site, (labels, n_axes) in self.sites.items()
            if frozen[labels].all() and self.choices.get(site, 0) < n_axes - 1
        }
        return {**self.choices, **stuck} if stuck else None
