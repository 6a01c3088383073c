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
    """How long and how closely to search.

    Attributes:
        tolerance: End no further than this below the target, as a share of the parent's latency.
        reach: The check may find the plan this far below the target before the search goes on.
        max_trials: Networks that are exported and measured, at most.
        quick: How to measure while searching.
        thorough: How to check the plan that was found.
    """

    tolerance: float = 0.02
    reach: float = 0.03
    max_trials: int = 8
    quick: PairedSettings = QUICK
    thorough: PairedSettings = field(default_factory=PairedSettings)


@dataclass(frozen=True)
class Trial:
    """One measured plan on the way.

    Attributes:
        plan: What was cut.
        lost: Summed score of the removed channels.
        estimate: Latency as the layers' times have it, as a share of the parent's.
        ratios: As measured, by batch size.
    """

    plan: Plan
    lost: float
    estimate: float
    ratios: Ratios

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
    """The plan that meets a latency budget, and how it was found.

    Attributes:
        plan: Which channels stay.
        lost: Summed score of the removed channels.
        lost_at_target: About what it would be at exactly the target, to compare plans by.
        budget: What was asked for.
        target: The same as a share of the network's latency.
        check: The plan measured afresh, by batch size.
        control: The network measured against itself: what noise alone does.
        trials: All measurements of the search, in order.
        times: The layers' times, by batch size.
        facts: Where it was measured.
        warnings: What the user should know, one sentence each.
    """

    plan: Plan
    lost: float
    lost_at_target: float
    budget: LatencyBudget
    target: float
    check: Ratios
    control: Ratios
    trials: tuple[Trial, ...]
    times: Mapping[int, LayerTimes]
    facts: Mapping[str, object]
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
