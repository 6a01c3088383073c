"""Which multiple the widths should be of: chosen by measurement, not by rule of thumb.

Kernels work on blocks of channels (8 or 16 on a CPU, more on a GPU): a width that ends within a
block pays for all of it. Aligned widths save that, and cost the freedom to remove the channels that
matter least. Which of the two counts for more only the device can say.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from nnslim.errors import ConfigError
from nnslim.pruning.latency.device import worst
from nnslim.pruning.latency.plan_for import plan_for_latency
from nnslim.pruning.latency.result import LatencyPlan, SearchSettings, ratios_json
from nnslim.pruning.plans.line import rank_channels
from nnslim.pruning.plans.plan import plan_prefix, shortest_prefix
from nnslim.settings.budget import LatencyBudget

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from nnslim.pruning.latency.device import Device, Ratios
    from nnslim.pruning.plans.constraints import Constraints
    from nnslim.pruning.plans.plan import Plan

__all__ = ["Alignment", "AlignmentChoice", "AlignmentSettings", "choose_alignment"]


@dataclass(frozen=True)
class AlignmentSettings:
    """Candidates, and how to measure them.

    Raises:
        ConfigError: A multiple below 1, or no 1 among them.
    """

    candidates: tuple[int, ...] = (1, 4, 8, 16, 32)
    # Without a latency budget, a candidate may lose so much more, as a share of what 1 loses.
    margin: float = 0.1
    search: SearchSettings = field(default_factory=SearchSettings)

    def __post_init__(self) -> None:
        if min(self.candidates) != 1:
            raise ConfigError(f"alignments {self.candidates}: the smallest must be 1")


@dataclass(frozen=True)
class Alignment:
    """One candidate."""

    align: int  # every group that is cut ends at a multiple of so many channels
    plan: Plan | None  # None where a budget cannot be reached
    lost: float  # summed score of what goes, at a latency budget's target; infinite without a plan
    ratios: Ratios  # empty where latency was not measured
    why_not: str | None = None
    search: LatencyPlan | None = None  # how a latency budget was met

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        after = self.plan and self.plan.after
        return {
            "align": self.align,
            "params": after and after.params,
            "macs": after and after.macs,
            "lost_score": None if self.plan is None else self.lost,
            "measured": ratios_json(self.ratios),
            "n_trials": len(self.search.trials) if self.search else int(bool(self.ratios)),
            "why_not": self.why_not,
        }


@dataclass(frozen=True)
class AlignmentChoice:
    """What was chosen, from what (in the order tried), and why."""

    chosen: Alignment
    candidates: tuple[Alignment, ...]
    reason: str

    def to_json(self) -> dict[str, object]:
        """Return plain JSON values."""
        return {
            "align": self.chosen.align,
            "reason": self.reason,
            "candidates": [candidate.to_json() for candidate in self.candidates],
        }


def choose_alignment(
    device: Device,
    scores: Mapping[str, np.ndarray],
    constraints: Constraints,
    budget: LatencyBudget | None = None,
    settings: AlignmentSettings | None = None,
) -> AlignmentChoice:
    """Choose the multiple that widths end at.

    With a latency budget the least loss at that latency wins. Otherwise it is the lowest latency
    among the plans that lose hardly more than the unaligned one; of those that measure within the
    fastest one's interval, the one that loses least. ``constraints.align`` is not used.

    Raises:
        ConfigError: No candidate can reach the budgets.
    """
    settings = settings or AlignmentSettings()
    if budget is None:
        return _fastest(device, scores, constraints, settings)
    return _least_loss(device, scores, constraints, budget, settings)


def _least_loss(
    device: Device,
    scores: Mapping[str, np.ndarray],
    constraints: Constraints,
    budget: LatencyBudget,
    settings: AlignmentSettings,
) -> AlignmentChoice:
    """Search the latency with each candidate, and compare what is lost."""

    def at(align: int) -> Alignment:
        rules = replace(constraints, align=align)
        plan = plan_for_latency(device, scores, rules, budget, settings.search)
        return Alignment(align, plan.plan, plan.lost_at_target, plan.check, search=plan)

    tried = _try_each(settings, at)
    chosen = min(tried, key=lambda candidate: candidate.lost)
    return AlignmentChoice(chosen, tried, f"loses least at {budget} of measured latency")


def _fastest(
    device: Device,
    scores: Mapping[str, np.ndarray],
    constraints: Constraints,
    settings: AlignmentSettings,
) -> AlignmentChoice:
    """Measure the candidates that lose little; of those that measure alike, take the least loss."""
    allowed = float("inf")

    def at(align: int) -> Alignment:
        nonlocal allowed
        rules = replace(constraints, align=align)
        line = rank_channels(device.channels, device.costs, scores, rules)
        n = shortest_prefix(line, rules)
        plan, lost = plan_prefix(line, n), line.lost(n)
        if align == 1:
            allowed = lost + settings.margin * abs(lost)
        if lost > allowed:
            why = f"loses {lost:.4g}, more than the {allowed:.4g} that are allowed"
            return Alignment(align, plan, lost, {}, why_not=why)
        return Alignment(align, plan, lost, device.measure(plan, settings.search.thorough))

    tried = _try_each(settings, at)
    measured = [candidate for candidate in tried if candidate.ratios]
    best = min((worst(candidate.ratios) for candidate in measured), key=lambda ratio: ratio.ratio)
    alike = [candidate for candidate in measured if worst(candidate.ratios).ratio <= best.high]
    chosen = min(alike, key=lambda candidate: candidate.lost)
    reason = (
        f"measures {100 * worst(chosen.ratios).ratio:.1f}% of the latency; of {len(measured)}"
        f" candidates that lose little, {len(alike)} are as fast, and it loses least of those"
    )
    return AlignmentChoice(chosen, tried, reason)


def _try_each(settings: AlignmentSettings, at: Callable[[int], Alignment]) -> tuple[Alignment, ...]:
    """Try every candidate; where all but 1 may be impossible.

    Raises:
        ConfigError: The budgets cannot be reached even without alignment.
    """
    tried: list[Alignment] = []
    for align in settings.candidates:
        try:
            tried.append(at(align))
        except ConfigError as error:
            if align == 1:
                raise
            tried.append(Alignment(align, None, float("inf"), {}, why_not=error.message))
    return tuple(tried)
