"""The order in which channels go: all possible removals in one line, cheapest loss first.

Channels go in steps: one channel, or as many as the constraints of a group ask for at once (the
same number of each part, a width that is a multiple). A plan is a prefix of the line, and every
cost only falls along it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from nnslim.errors import InputError
from nnslim.pruning.plans.constraints import Constraints, why_whole
from nnslim.surgery import Edit

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.measure.cost_model import CostModel
    from nnslim.settings.budget import Metric

__all__ = ["Line", "rank_channels"]


@dataclass(frozen=True)
class Line:
    """Steps in the order of removal."""

    channels: ChannelMap
    costs: CostModel
    reasons: Mapping[str, str | None]  # why each group stays whole, by name; None: may be cut
    groups: np.ndarray  # number of the group of each step
    counts: np.ndarray  # channels that each step takes
    scores: np.ndarray  # their summed score
    orders: Mapping[int, np.ndarray]  # channels by group, part, and worst first, (n_parts, n)

    def __len__(self) -> int:
        return len(self.groups)

    def widths(self, n: int) -> np.ndarray:
        """Width of every group once the first ``n`` steps are gone, (n_groups,)."""
        taken = np.bincount(self.groups[:n], self.counts[:n], minlength=len(self.costs.widths))
        return self.costs.widths - taken.astype(np.int64)

    def lost(self, n: int) -> float:
        """Summed score of the channels that the first ``n`` steps take."""
        return float(self.scores[:n].sum())

    def edit(self, n: int) -> Edit:
        """The removal of the first ``n`` steps."""
        widths = self.widths(n)
        keep: dict[str, np.ndarray] = {}
        for group, order in self.orders.items():
            left = int(widths[group]) // len(order)
            if left < order.shape[1]:
                kept = order[:, order.shape[1] - left :]
                keep[self.costs.names[group]] = np.sort(kept.ravel())
        return Edit(keep)


def rank_channels(
    channels: ChannelMap,
    costs: CostModel,
    scores: Mapping[str, np.ndarray],
    constraints: Constraints,
    worth: np.ndarray | None = None,
) -> Line:
    """Put all steps that the rules allow in one line, lowest mean score (per cost) first.

    With even allocation the order within a group is the same, and the groups take turns.

    Args:
        channels: The network's groups.
        costs: Its cost model.
        scores: One score per channel and prunable group, ``(width,)``; low goes first.
        constraints: Protections, and whether a score counts per cost.
        worth: What one channel of each group takes of an unlimited total (the latency), a share.

    Raises:
        ConfigError: A protected layer does not exist.
        InputError: A score is not finite.
    """
    reasons = why_whole(channels, constraints)
    weight = _weights(costs, constraints, worth)
    orders: dict[int, np.ndarray] = {}
    steps = [np.zeros((4, 0))]
    free = ((n, g) for n, g in enumerate(channels.groups) if reasons[g.name] is None)
    for number, group in free:
        order, (rank, counts, lost) = _steps(group, _checked(group, scores), constraints)
        if len(rank):
            orders[number] = order
            rank = rank if constraints.allocation == "even" else rank / weight[number]
            steps.append(np.stack([rank, np.full(len(rank), number), counts, lost]))
        elif constraints.align > 1 and group.width > 1:
            align = constraints.align
            reasons[group.name] = f"no multiple of {align} between its floor and its width"
    line = np.concatenate(steps, axis=1)
    _, groups, counts, lost = line[:, np.argsort(line[0], kind="stable")]
    whole = groups.astype(np.int64), counts.astype(np.int64)
    return Line(channels, costs, reasons, *whole, lost, orders)


def _steps(
    group: ChannelGroup, scores: np.ndarray, constraints: Constraints
) -> tuple[np.ndarray, np.ndarray]:
    """Channels of a group by part, worst first, and its steps: rank, count and score, (3, n)."""
    by_part = group.by_part
    order = np.take_along_axis(by_part, np.argsort(scores[by_part], kind="stable"), axis=1)
    n_parts, n = order.shape
    gone = np.arange(1, n + 1)
    left = group.width - gone * n_parts
    floor = max(n_parts, constraints.floor_of(group))
    ends = gone[(left >= floor) & (left % constraints.align == 0)]
    starts = np.concatenate([[0], ends])[:-1]
    totals = np.concatenate([[0.0], np.cumsum(scores[order].sum(axis=0))])
    counts = (ends - starts) * n_parts
    lost = np.diff(totals[ends], prepend=0.0)
    if constraints.allocation == "even":  # who has most left gives, as in the middle of a step
        middle = group.width - (starts + ends) / 2 * n_parts
        rank = -middle / constraints.dense_widths.get(group.name, group.width)
    else:
        rank = lost / counts
    return order, np.stack([rank, counts, lost])


def _checked(group: ChannelGroup, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    array = np.asarray(scores[group.name], dtype=np.float64)
    if bad := int((~np.isfinite(array)).sum()):
        raise InputError(
            f"group {group.name}: {bad} of {group.width} scores are not finite",
            hint="the network gives NaN or infinite logits: check its weights",
        )
    assert array.shape == (group.width,), f"{group.name}: {array.shape}, {group.width} channels"
    return array


def _weights(costs: CostModel, constraints: Constraints, worth: np.ndarray | None) -> np.ndarray:
    """What one channel of each group is worth: its share of what each limited metric must lose."""
    if not constraints.per_cost:
        return np.ones(len(costs.names))
    full = costs.costs(costs.widths)
    weight = np.zeros(len(costs.names)) if worth is None else np.array(worth, dtype=np.float64)
    metrics: tuple[Metric, ...] = tuple(constraints.limits)
    if not metrics and worth is None:
        metrics = ("params",)
    for metric in metrics:
        weight += costs.savings(metric) / max(getattr(full, metric), 1)
    return np.maximum(weight, 1e-12)
