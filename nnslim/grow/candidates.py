"""Which groups a round tries, and with how many new channels. Decides; touches no tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from nnslim.errors import ConfigError
from nnslim.grow.planting import growable
from nnslim.measure.macs import Costs
from nnslim.prune.budget import CostModel, Limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.grow.config import GrowConfig
    from nnslim.network.network import Network
    from nnslim.prune.plan import Metric

__all__ = ["Proposal", "absolute_limits", "propose"]


@dataclass(frozen=True)
class Proposal:
    """Channels that could be planted.

    Attributes:
        group: Name of the group.
        count: New channels.
        width: Of the group before.
        costs: Of the network after.
    """

    group: str
    count: int
    width: int
    costs: Costs


def absolute_limits(config: GrowConfig, teacher: Costs, seed: Costs) -> dict[Metric, int]:
    """Turn shares of the teacher into numbers, and check that there is room to grow.

    Raises:
        ConfigError: The seed is at a limit, or above it.
    """
    limits: dict[Metric, int] = {
        metric: limit.of(cast("int", getattr(teacher, metric)))
        for metric, limit in config.limits.items()
    }
    for metric, most in limits.items():
        own = cast("int", getattr(seed, metric))
        if own >= most:
            raise ConfigError(
                f"the seed has {own:,} {metric}, the budget is {most:,}: nothing can be planted",
                hint="give a larger budget or a smaller seed",
            )
    return limits


def propose(
    network: Network, channels: ChannelMap, limits: Mapping[Metric, int], config: GrowConfig
) -> list[Proposal]:
    """List the plantings that keep to the limits; a group gets fewer channels where it must.

    Args:
        network: As it is.
        channels: Its groups.
        limits: Largest costs.
        config: How many channels are planted at a time.

    Returns:
        One proposal for each group with room for at least one channel (of each part; for pairs
        two), in the order of the groups.
    """
    model = CostModel(network, channels)
    found: list[Proposal] = []
    for group in growable(network, channels):
        unit = _unit(group, config)
        for count in range(_wanted(group, config.growth, unit), 0, -unit):
            costs = model.costs({group.name: group.width + count})
            if all(cast("int", getattr(costs, metric)) <= most for metric, most in limits.items()):
                found.append(Proposal(group.name, count, group.width, costs))
                break
    return found


def _unit(group: ChannelGroup, config: GrowConfig) -> int:
    parts = 1 if group.parts is None else len(group.parts)
    return parts * (2 if config.initialisation == "pairs" else 1)


def _wanted(group: ChannelGroup, growth: Limit, unit: int) -> int:
    """Channels to plant: at least one unit, in whole units."""
    amount = growth.amount * group.width if growth.relative else growth.amount
    return max(round(amount / unit), 1) * unit
