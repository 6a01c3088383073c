"""Which groups a round tries, and with how many new channels. Decides; touches no tensor."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, cast

from nnslim.errors import ConfigError
from nnslim.growing.planting import growable
from nnslim.measure.cost_model import CostModel
from nnslim.measure.macs import Costs
from nnslim.settings.budget import Limit

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.network.network import Network
    from nnslim.settings.budget import Metric
    from nnslim.settings.grow import GrowConfig

__all__ = ["Proposal", "absolute_limits", "check_room", "propose"]

# Steps in which planting everywhere shrinks until it keeps to the limits.
_PARTS = 1000


@dataclass(frozen=True)
class Proposal:
    """Channels that could be planted."""

    counts: Mapping[str, int]  # new channels by group
    width: int  # of those groups before, together
    costs: Costs  # of the network after

    @property
    def place(self) -> str:
        """The group, or how many there are."""
        return next(iter(self.counts)) if len(self.counts) == 1 else f"{len(self.counts)} groups"

    @property
    def count(self) -> int:
        """New channels of all groups."""
        return sum(self.counts.values())

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "group": self.place,
            "count": self.count,
            "planted": dict(self.counts),
            "width": self.width,
            "params": self.costs.params,
            "macs": self.costs.macs,
        }


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
        amount = cast("int", getattr(seed, metric))
        if amount >= most:
            raise ConfigError(
                f"the seed has {amount:,} {metric}, the budget is {most:,}: nothing can be planted",
                hint="give a larger budget or a smaller seed",
            )


def propose(
    network: Network,
    channels: ChannelMap,
    limits: Mapping[Metric, int],
    config: GrowConfig,
    widest: Mapping[str, int] | None = None,
) -> list[Proposal]:
    """List the plantings that keep to the limits; a group gets fewer channels where it must.

    One for each group with room for at least one channel (of each part), in the order of the
    groups. Where planting is everywhere, one for all groups: the same share for each that fits, and
    one channel more where there is room, cheapest groups first; none once most of them would get
    nothing. ``widest`` has what groups may have at most, by name.
    """
    wishes: dict[str, _Wish] = {}
    for group in growable(channels):
        unit = len(group.by_part)
        room = sys.maxsize if widest is None else widest[group.name] - group.width
        wanted = _wanted(group, config.growth, unit)
        if most := min(wanted, room // unit * unit):
            wishes[group.name] = _Wish(unit, wanted, most)
    proposer = _Proposer(channels, CostModel(network, channels), limits, wishes)
    return proposer.everywhere() if config.where == "everywhere" else proposer.by_group()


class _Wish(NamedTuple):
    """Channels that a group gets at a time, wants, and may have at most."""

    unit: int
    wanted: int
    most: int


@dataclass(frozen=True)
class _Proposer:
    """Finds numbers of channels that keep to limits: in whole units, as many as wanted or fewer."""

    channels: ChannelMap
    model: CostModel
    limits: Mapping[Metric, int]
    wishes: Mapping[str, _Wish]

    def by_group(self) -> list[Proposal]:
        """For each group as many channels as there is room for; none without room."""
        proposals: list[Proposal] = []
        for name, wish in self.wishes.items():
            sizes = (self._fitting({name: k}) for k in range(wish.most, 0, -wish.unit))
            if largest := next(filter(None, sizes), None):
                proposals.append(largest)
        return proposals

    def everywhere(self) -> list[Proposal]:
        """The same share of what is wanted for every group, and what then still has room."""
        for part in range(_PARTS, 0, -1):
            counts = {
                name: min(units * wish.unit, wish.most)
                for name, wish in self.wishes.items()
                if (units := wish.wanted * part // _PARTS // wish.unit)
            }
            if not counts or 2 * len(counts) < len(self.wishes):
                break
            if proposal := self._fitting(counts):
                return [self._filled(proposal)]
        return []

    def _filled(self, proposal: Proposal) -> Proposal:
        """One unit more in every group where the limits allow, the cheapest first."""

        def with_more(now: Proposal, name: str) -> dict[str, int]:
            return {**now.counts, name: now.counts.get(name, 0) + self.wishes[name].unit}

        first = proposal
        order = sorted(self.wishes, key=lambda n: self._share(self._costs(with_more(first, n))))
        for name in order:
            counts = with_more(proposal, name)
            if counts[name] <= self.wishes[name].most:
                proposal = self._fitting(counts) or proposal
        return proposal

    def _fitting(self, counts: Mapping[str, int]) -> Proposal | None:
        costs, width = self._costs(counts), sum(self.channels[name].width for name in counts)
        return Proposal(counts, width, costs) if self._share(costs) <= 1 else None

    def _costs(self, counts: Mapping[str, int]) -> Costs:
        return self.model.costs({n: self.channels[n].width + k for n, k in counts.items()})

    def _share(self, costs: Costs) -> float:
        """Of that limit of which it is largest."""
        shares = (
            cast("int", getattr(costs, metric)) / most for metric, most in self.limits.items()
        )
        return max(shares, default=0.0)


def _wanted(group: ChannelGroup, growth: Limit, unit: int) -> int:
    """Channels to plant: at least one unit, in whole units."""
    amount = growth.amount * group.width if growth.relative else growth.amount
    return max(round(amount / unit), 1) * unit
