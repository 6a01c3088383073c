"""The plan that meets a latency budget: plain values, and their JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from nnslim.settings.eval import QUICK, PairedSettings

if TYPE_CHECKING:
    from nnslim.measure.layer_times import LayerTimes
    from nnslim.pruning.latency.device import Ratios
    from nnslim.pruning.plans.plan import Plan
    from nnslim.settings.budget import LatencyBudget

__all__ = ["LatencyPlan", "SearchSettings", "Trial", "ratios_json"]


@dataclass(frozen=True)
class SearchSettings:
    """How long and how closely to search; shares are of the parent's latency."""

    tolerance: float = 0.02  # a trial ends no further than this below the target
    reach: float = 0.03  # the check may lie this far below the target before the search goes on
    max_trials: int = 8  # networks that are exported and measured, at most
    quick: PairedSettings = QUICK  # while searching
    thorough: PairedSettings = field(default_factory=PairedSettings)  # the check


@dataclass(frozen=True)
class Trial:
    """One measured plan on the way."""

    plan: Plan
    lost: float  # summed score of the removed channels
    estimate: float  # latency by the layers' times, as a share of the parent's
    ratios: Ratios  # as measured

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        after = self.plan.after
        cut = {row.group.name: row.after for row in self.plan.rows if row.after < row.before}
        return {
            "widths": cut,
            "params": after.params,
            "macs": after.macs,
            "bytes": after.bytes,
            "lost_score": self.lost,
            "estimated_ratio": self.estimate,
            "measured": ratios_json(self.ratios),
        }


@dataclass(frozen=True)
class LatencyPlan:
    """The plan that meets a latency budget, and how it was found."""

    plan: Plan
    lost: float  # summed score of the removed channels
    lost_at_target: float  # about what it would be at exactly the target, to compare plans by
    budget: LatencyBudget
    target: float  # the budget as a share of the network's latency
    check: Ratios  # the plan measured afresh
    control: Ratios  # the network measured against itself: what noise alone does
    trials: tuple[Trial, ...]  # in order
    times: Mapping[int, LayerTimes]  # by batch size
    facts: Mapping[str, object]  # where it was measured
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "budget": str(self.budget),
            "target_ratio": self.target,
            "lost_score": self.lost,
            "lost_score_at_target": self.lost_at_target,
            "check": ratios_json(self.check),
            "control": ratios_json(self.control),
            "trials": [trial.to_json() for trial in self.trials],
            "layer_times": [{"batch_size": n, **t.to_json()} for n, t in self.times.items()],
            **self.facts,
            "warnings": list(self.warnings),
        }


def ratios_json(ratios: Ratios) -> list[dict[str, object]]:
    """Return ratios by batch size as plain JSON values."""
    return [{"batch_size": size, **ratio.to_json()} for size, ratio in ratios.items()]
