"""Planning: which channels go, given their scores and the budgets. No tensor is touched here.

A plan is the shortest prefix of the line of removals (``nnslim.pruning.plans.line``) that meets
every budget. Costs only fall along the line, so a bisection finds it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from nnslim.errors import ConfigError
from nnslim.pruning.plans.constraints import Constraints
from nnslim.pruning.plans.line import Line, rank_channels

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np

    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.measure.cost_model import CostModel
    from nnslim.measure.macs import Costs
    from nnslim.settings.budget import Metric
    from nnslim.surgery import Edit

__all__ = [
    "Constraints",
    "Plan",
    "PlanRow",
    "first_that",
    "make_plan",
    "plan_prefix",
    "shortest_prefix",
    "unreachable_hint",
]


@dataclass(frozen=True)
class PlanRow:
    """One group in the plan; ``reason`` says why it stays whole, if it does."""

    group: ChannelGroup
    before: int
    after: int
    reason: str | None


@dataclass(frozen=True)
class Plan:
    """Which channels stay, and what the network costs before and after."""

    edit: Edit
    rows: tuple[PlanRow, ...]  # every group, in the network's order
    before: Costs
    after: Costs


def make_plan(
    channels: ChannelMap,
    costs: CostModel,
    scores: Mapping[str, np.ndarray],
    constraints: Constraints,
) -> Plan:
    """Choose the smallest removal along the ranking that meets all budgets.

    Args:
        channels: The network's groups.
        costs: The network's cost model.
        scores: One score per channel and prunable group, ``(width,)``; low goes first.
        constraints: Budgets and protections.

    Raises:
        ConfigError: The floors and protections leave more than a budget allows; says the smallest
            reachable. A protected layer does not exist.
        InputError: A score is not finite.
    """
    line = rank_channels(channels, costs, scores, constraints)
    return plan_prefix(line, shortest_prefix(line, constraints))


def plan_prefix(line: Line, n: int) -> Plan:
    """The removal of the first ``n`` steps of a line."""
    costs, widths = line.costs, line.widths(n)
    after = dict(zip(costs.names, widths.tolist(), strict=True))
    rows = tuple(
        PlanRow(g, g.width, after[g.name], line.reasons[g.name]) for g in line.channels.groups
    )
    return Plan(line.edit(n), rows, costs.costs(costs.widths), costs.costs(widths))


def shortest_prefix(line: Line, constraints: Constraints) -> int:
    """Number of steps after which all limits hold for the first time.

    Raises:
        ConfigError: They do not even hold at the end of the line; says the smallest reachable.
    """
    full = line.costs.costs(line.costs.widths)
    limits: dict[Metric, int] = {
        m: lim.of(getattr(full, m)) for m, lim in constraints.limits.items()
    }

    def met(n: int) -> bool:
        costs = line.costs.costs(line.widths(n))
        return all(getattr(costs, metric) <= limit for metric, limit in limits.items())

    smallest = line.costs.costs(line.widths(len(line)))
    for metric, limit in limits.items():
        reach, total = getattr(smallest, metric), getattr(full, metric)
        if reach > limit:
            raise ConfigError(
                f"[[{metric}]] {limit:,} cannot be reached: the smallest reachable is"
                f" {reach:,} ({100 * reach / total:.1f}% of {total:,})",
                hint=unreachable_hint(constraints),
            )
    return first_that(met, 0, len(line))


def first_that(holds: Callable[[int], bool], low: int, high: int) -> int:
    """Smallest of ``low..high`` for which ``holds``, which is True from there on; ``high`` holds.

    Example:
        >>> first_that(lambda n: n * n >= 50, 0, 100)
        8
    """
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def unreachable_hint(constraints: Constraints) -> str:
    """Say what would let a plan go further."""
    ways = ["raise the budget", "lower [[min_width]]", "protect fewer layers"]
    if constraints.streams:
        ways.append("cut residual streams too ([[keep_streams=false]])")
    if constraints.align > 1:
        ways.append("lower [[align]]")
    if not constraints.approximate:
        ways.append("allow groups over which a norm runs ([[approximate]])")
    return ", ".join(ways[:-1]) + f", or {ways[-1]}"
