"""One round of removal: score, plan, cut, prove; and what several rounds come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, cast

import numpy as np

from nnslim.channels import ChannelMap, channel_groups
from nnslim.errors import NnslimError
from nnslim.prune.budget import CostModel, Limit
from nnslim.prune.plan import Plan, PlanRow, make_plan
from nnslim.prune.rules import why_whole
from nnslim.prune.scoring import score_channels
from nnslim.surgery import CutCheck, Edit, apply_edit, compose_edits, verify_cut

if TYPE_CHECKING:
    from nnslim.data import Data
    from nnslim.measure.macs import Costs
    from nnslim.network.network import Network
    from nnslim.prune.config import PruneConfig
    from nnslim.prune.plan import Metric
    from nnslim.report import Sink

__all__ = ["Cut", "Limits", "Planner", "cut_network", "overall_plan", "repeat_cut", "round_limits"]

Limits = Mapping["Metric", Limit]


@dataclass(frozen=True)
class Cut:
    """One removal.

    Attributes:
        channels: The groups before it.
        edit: What stayed.
        check: The proof that the cut network is the masked one.
        network: The network right after it.
    """

    channels: ChannelMap
    edit: Edit
    check: CutCheck
    network: Network

    def to_json(self) -> dict[str, object]:
        """Return what ``repeat_cut`` needs besides the networks, as plain JSON values."""
        keep = {name: kept.tolist() for name, kept in self.edit.keep.items()}
        return {"keep": keep, "check": asdict(self.check)}


@dataclass(frozen=True)
class Planner:
    """What decides which channels go.

    Attributes:
        dense: The network before any cut, whose widths the floors are shares of.
        channels: Its groups.
        data: The images to score on, or None.
        config: The run.
        sink: Where messages go.
    """

    dense: Network
    channels: ChannelMap
    data: Data | None
    config: PruneConfig
    sink: Sink

    def whole(self) -> dict[str, str | None]:
        """Why each group of the dense network must stay whole; None where it may be cut."""
        return why_whole(self.channels, self.config.rules)

    def plan(self, network: Network, channels: ChannelMap, limits: Limits) -> Plan:
        """Score a network's channels and choose those that go.

        Raises:
            ConfigError: A limit cannot be reached, or the saliency needs images.
        """
        scores = score_channels(network, channels, self.data, self.config, self.sink)
        floors = {g.name: self.config.min_width.of(g.width) for g in self.channels.groups}
        rules = replace(self.config.rules, limits=limits, floors=floors)
        return make_plan(channels, CostModel(network, channels), scores, rules)


def round_limits(config: PruneConfig, full: Costs, number: int) -> Limits:
    """What may remain after a round: the budget is approached by equal factors."""
    share = number / config.rounds.rounds
    result: dict[Metric, Limit] = {}
    for metric, limit in config.limits.items():
        total = getattr(full, metric)
        target = min(limit.of(total), total)
        amount = target if share == 1 else total * (target / max(total, 1)) ** share
        result[metric] = Limit(amount, relative=False)
    return result


def cut_network(network: Network, channels: ChannelMap, plan: Plan, seed: int) -> Cut:
    """Carry out a plan and prove the result.

    Raises:
        VerificationError: The cut network is not the masked one.
    """
    cut = apply_edit(network, plan.edit, channels)
    return Cut(channels, plan.edit, verify_cut(network, cut, channels, plan.edit, seed), cut)


def repeat_cut(before: Network, after: Network, earlier: ChannelMap, record: object) -> Cut:
    """Return the removal that led from one network to another, from its record."""
    values = cast("dict[str, dict[str, object]]", record)
    keep = {name: np.array(kept, dtype=np.int64) for name, kept in values["keep"].items()}
    check = CutCheck(**values["check"])  # pyright: ignore[reportArgumentType]
    return Cut(channel_groups(before, earlier=earlier), Edit(keep), check, after)


def overall_plan(dense: Network, channels: ChannelMap, cuts: Sequence[Cut]) -> Plan:
    """Express all removals as one plan for the dense network.

    Raises:
        NnslimError: A later round cut what no removal from the dense network can.
    """
    edit = compose_edits([(cut.channels, cut.edit) for cut in cuts])
    costs = CostModel(dense, channels)
    widths = {name: len(kept) for name, kept in edit.keep.items()}
    after = costs.costs(widths)
    if cuts and after.params != cuts[-1].network.n_parameters:
        raise NnslimError(
            f"the rounds left {cuts[-1].network.n_parameters:,} parameters, which no single cut of"
            f" the dense network gives ({after.params:,})",
            hint="prune with --rounds 1",
        )
    rows = tuple(
        PlanRow(group, group.width, widths.get(group.name, group.width), group.reason)
        for group in channels.groups
    )
    return Plan(edit, rows, costs.costs(costs.widths), after)
