"""One round of removal: what may remain, the cut and its proof; what several rounds come to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, cast

import numpy as np

from nnslim.errors import NnslimError
from nnslim.pruning.plans.plan import Plan, PlanRow
from nnslim.settings.budget import Limit
from nnslim.surgery import CutCheck, Edit, apply_edit, compose_edits, verify_cut

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.measure.macs import Costs
    from nnslim.network.network import Network
    from nnslim.pruning.plans.constraints import Limits
    from nnslim.pruning.plans.planner import Planner
    from nnslim.settings.budget import Metric
    from nnslim.settings.prune import PruneConfig

__all__ = [
    "Removal",
    "edit_from_json",
    "edit_json",
    "overall_plan",
    "remove_and_verify",
    "round_limits",
]


@dataclass(frozen=True)
class Removal:
    """One removal, and the network right after it."""

    channels: ChannelMap  # before it
    edit: Edit
    check: CutCheck  # the cut network is the masked one
    network: Network

    def to_json(self) -> dict[str, object]:
        """Return what ``of`` needs besides groups and network, as plain JSON values."""
        return {**edit_json(self.edit), "check": asdict(self.check)}

    @classmethod
    def of(cls, channels: ChannelMap, network: Network, record: Mapping[str, object]) -> Removal:
        """Return the removal of which a stage left this network and record."""
        check = CutCheck(**cast("dict[str, object]", record["check"]))  # pyright: ignore[reportArgumentType]
        return cls(channels, edit_from_json(record), check, network)


def edit_json(edit: Edit) -> dict[str, object]:
    """Return an edit as plain JSON values."""
    return {"keep": {name: kept.tolist() for name, kept in edit.keep.items()}}


def edit_from_json(values: object) -> Edit:
    """Return the edit that ``edit_json`` wrote."""
    keep = cast("dict[str, dict[str, list[int]]]", values)["keep"]
    return Edit({name: np.array(kept, dtype=np.int64) for name, kept in keep.items()})


def round_limits(config: PruneConfig, full: Costs, number: int) -> Limits:
    """What may remain after a round: the budget is approached by equal factors."""
    share = number / config.rounds.count
    result: dict[Metric, Limit] = {}
    for metric, limit in config.limits.items():
        total = getattr(full, metric)
        target = min(limit.of(total), total)
        amount = target if share == 1 else total * (target / max(total, 1)) ** share
        result[metric] = Limit(amount, relative=False)
    return result


def remove_and_verify(network: Network, channels: ChannelMap, plan: Plan, seed: int) -> Removal:
    """Carry out a plan and prove the result.

    Raises:
        VerificationError: The cut network is not the masked one.
    """
    cut = apply_edit(network, plan.edit, channels)
    return Removal(channels, plan.edit, verify_cut(network, cut, channels, plan.edit, seed), cut)


def overall_plan(planner: Planner, cuts: Sequence[Removal]) -> Plan:
    """Express all removals as one plan for the dense network.

    Raises:
        NnslimError: A later round cut what no removal from the dense network can.
    """
    edit = compose_edits([(cut.channels, cut.edit) for cut in cuts])
    costs, whole = planner.costs, planner.whole()
    widths = {name: len(kept) for name, kept in edit.keep.items()}
    after = costs.costs(widths)
    if cuts and after.params != cuts[-1].network.n_parameters:
        raise NnslimError(
            f"the rounds left {cuts[-1].network.n_parameters:,} parameters, which no single cut of"
            f" the dense network gives ({after.params:,})",
            hint="prune with [[rounds.count=1]]",
        )
    rows = tuple(
        PlanRow(group, group.width, widths.get(group.name, group.width), whole[group.name])
        for group in planner.channels.groups
    )
    return Plan(edit, rows, costs.costs(costs.widths), after)
