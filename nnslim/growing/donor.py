"""The teacher as a donor: a seed narrowed from it goes on with its next channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnslim.channels import channel_groups
from nnslim.channels.magnitude import magnitude
from nnslim.growing.seed import first_channels
from nnslim.surgery import Edit, apply_edit, permute_channels

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.channels.labels import IntArray
    from nnslim.network.network import Network

__all__ = ["Donor", "choose_donor", "largest_first"]


@dataclass(frozen=True)
class Donor:
    """A network whose first channels of every group a narrower one's stand for."""

    network: Network
    channels: ChannelMap

    @property
    def widths(self) -> dict[str, int]:
        """Channels of every group that may be narrowed, by name."""
        return {group.name: group.width for group in self.channels.free}

    def narrowed_to(self, student: ChannelMap) -> Network:
        """Return a copy with the first channels of every group, as many as a student has."""
        kept = {g.name: first_channels(g, student[g.name].width) for g in self.channels.free}
        return apply_edit(self.network, Edit(kept), self.channels)


def largest_first(teacher: Network) -> Network:
    """Return a copy whose channels stand in order of the L2 norms of the filters that produce them.

    It computes the same, and what is left when it is narrowed is what matters more.
    """
    channels = channel_groups(teacher)
    scores = magnitude(teacher, channels)
    order: dict[str, IntArray] = {}
    for group in channels.free:
        name, by_part = group.name, group.by_part
        ranked = np.argsort(-scores[name][by_part], axis=1, kind="stable")
        order[name] = np.empty(group.width, dtype=np.int64)
        order[name][by_part] = np.take_along_axis(by_part, ranked, axis=1)
    return permute_channels(teacher, order, channels)


def choose_donor(teacher: Network, narrowed: Network | None) -> Donor | str:
    """Return the teacher as the donor of planted channels, or why it cannot be.

    ``narrowed`` is what is planted into; None where it is not the narrowed teacher.
    """
    if narrowed is None:
        return "a seed is given, and only a narrowed teacher can go on with its channels"
    channels = channel_groups(teacher)
    wide, narrow = _groups(channels), _groups(channel_groups(narrowed))
    if wide == narrow:
        return Donor(teacher, channels)
    names = sorted({name for name, _ in wide ^ narrow})
    return f"narrowed, the teacher has other channel groups ({', '.join(names)})"


def _groups(channels: ChannelMap) -> set[tuple[str, int]]:
    """Every group that may be narrowed, and its number of parts."""
    return {(group.name, len(group.by_part)) for group in channels.free}
