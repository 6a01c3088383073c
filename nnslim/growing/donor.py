"""The teacher as a donor: a seed narrowed from it goes on with its next channels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnslim.channels import channel_groups
from nnslim.channels.magnitude import magnitude
from nnslim.errors import ConfigError
from nnslim.growing.seed import first_channels
from nnslim.surgery import Edit, apply_edit, permute_channels

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.channels.labels import IntArray
    from nnslim.network.network import Network
    from nnslim.settings.grow import GrowConfig

__all__ = ["Donor", "choose_donor", "largest_first"]


@dataclass(frozen=True)
class Donor:
    """A network whose first channels of every group a narrower one's stand for.

    Attributes:
        network: The network.
        channels: Its groups.
    """

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
    for own in channels.free:
        ranked = np.argsort(-scores[own.name][own.by_part], axis=1, kind="stable")
        order[own.name] = np.empty(own.width, dtype=np.int64)
        order[own.name][own.by_part] = np.take_along_axis(own.by_part, ranked, axis=1)
    return permute_channels(teacher, order, channels)


def choose_donor(
    config: GrowConfig, teacher: Network, student: Network, *, given: bool
) -> Donor | None:
    """Return the teacher where planted channels start with its weights, else None.

    Args:
        config: Of the run.
        teacher: The large network, as it was narrowed.
        student: What is planted into.
        given: Whether it is the caller's own, and not the narrowed teacher.

    Raises:
        ConfigError: The teacher's weights are asked for, and the student has no use for them.
    """
    if config.initialisation != "teacher" and (config.initialisation is not None or given):
        return None
    channels = channel_groups(teacher)
    own, other = _groups(channels), _groups(channel_groups(student))
    if given:
        problem = "a seed is given, and only a narrowed teacher can go on with its channels"
    elif own != other:
        names = sorted({name for name, _ in own ^ other})
        problem = f"narrowed, the teacher has other channel groups ({', '.join(names)})"
    else:
        return Donor(teacher, channels)
    if config.initialisation == "teacher":
        raise ConfigError(problem, hint="take another --init, such as random")
    return None


def _groups(channels: ChannelMap) -> set[tuple[str, int]]:
    """Every group that may be narrowed, and its number of parts."""
    return {(own.name, len(own.by_part)) for own in channels.free}
