"""Which groups a round tries, and with how many new channels. Decides; touches no tensor."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from nnslim.budget import Limit
from nnslim.errors import ConfigError
from nnslim.grow.planting import growable
from nnslim.measure.cost_model import CostModel
from nnslim.measure.macs import Costs

if TYPE_CHECKING:
    from nnslim.budget import Metric
    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.grow.config import GrowConfig
    from nnslim.network.network import Network

__all__ = ["Proposal", "absolute_limits", "check_room", "propose"]

# Steps in which planting everywhere shrinks until it keeps to the limits.
_PARTS = 1000
# Planting everywhere fills the budget; a group grows by so many times its width in a round.
_MOST_TIMES = 10.0


@dataclass(frozen=True)
class Proposal:
    """Channels that could be planted.

    Attributes:
        counts: New channels by group.
        width: Of those groups before, together.
        costs: Of the network after.
    """

    counts: Mapping[str, int]
    width: int
    costs: Costs

    @property
    def place(self) -> str:
        """The group, or how many there are."""
        return next(iter(self.counts)) if len(self.counts) == 1 else f"{len(self.counts)} groups"

    @property
    def count(self) -> int:
        """New channels of all groups."""
        return sum(self.counts.values())


def absolute_limits(config: GrowConfig, teacher: Costs) -> dict[Metric, int]:
    """Turn shares of the teacher into numbers."""
    return {
        metric: limit.of(cast("int", getattr(teacher, metric)))
        for metric, limit in config.limits.items()
    }


def check_room(limits: Mapping[Metric, int], seed: Costs) -> None:
    """Check that there is room to grow.

    Raises:
        ConfigError: The seed is at a limit, or above it.
    """
    for metric, most in limits.items():
        own = cast("int", getattr(seed, metric))
        if own >= most:
            raise ConfigError(
                f"the seed has {own:,} {metric}, the budget is {most:,}: nothing can be planted",
                hint="give a larger budget or a smaller seed",
            )


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
        two), in the order of the groups. Where planting is everywhere, one for all groups, with
        fewer channels for each where it must be; none once most of them would get nothing.
    """
    model = CostModel(network, channels)
    groups = growable(network, channels)

    def proposal(counts: Mapping[str, int]) -> Proposal | None:
        widths = {name: channels[name].width for name in counts}
        costs = model.costs({name: widths[name] + count for name, count in counts.items()})
        fits = all(cast("int", getattr(costs, metric)) <= most for metric, most in limits.items())
        return Proposal(counts, sum(widths.values()), costs) if fits else None

    units = {group.name: _unit(group, config) for group in groups}
    growth = config.growth or Limit(_MOST_TIMES if config.in_one_round else 0.25, relative=True)
    wanted = {group.name: _wanted(group, growth, units[group.name]) for group in groups}
    if config.where == "everywhere":
        for part in range(_PARTS, 0, -1):
            shrunk = {n: most * part // _PARTS // units[n] * units[n] for n, most in wanted.items()}
            counts = {name: count for name, count in shrunk.items() if count}
            if not counts or 2 * len(counts) < len(groups):
                break
            if found := proposal(counts):
                return [found]
        return []
    each = (
        next(filter(None, (proposal({n: count}) for count in range(most, 0, -units[n]))), None)
        for n, most in wanted.items()
    )
    return [found for found in each if found is not None]


def _unit(group: ChannelGroup, config: GrowConfig) -> int:
    parts = 1 if group.parts is None else len(group.parts)
    return parts * (2 if config.initialisation == "pairs" else 1)


def _wanted(group: ChannelGroup, growth: Limit, unit: int) -> int:
    """Channels to plant: at least one unit, in whole units."""
    amount = growth.amount * group.width if growth.relative else growth.amount
    return max(round(amount / unit), 1) * unit
