"""Planning: which channels go, given their scores and the budgets. No tensor is touched here.

Channels go in steps: one channel, or as many as the constraints of a group ask for at once (the
same number of each part, a width that is a multiple). All steps stand in one line, cheapest loss
first; the plan takes the shortest prefix that meets every budget. Costs only fall along the line,
so a bisection finds it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

import numpy as np

from nnslim.errors import ConfigError, InputError
from nnslim.prune.budget import CostModel, Limit
from nnslim.surgery import Edit

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.measure.macs import Costs

__all__ = ["Metric", "Plan", "PlanRow", "Rules", "make_plan"]

Metric = Literal["params", "macs"]


@dataclass(frozen=True)
class Rules:
    """What a plan must respect.

    Attributes:
        limits: What may remain at most, by metric; all of them hold in the end.
        min_width: Channels that every group keeps at least: a share of its width or a number.
        keep: Layers whose groups stay whole; a name protects everything below it too.
        approximate: Whether groups over which a norm runs may be cut.
        per_cost: Rank by score divided by what the channel costs, in the limited metrics.
        align: Every group that is cut ends at a multiple of so many channels.
    """

    limits: Mapping[Metric, Limit]
    min_width: Limit = field(default_factory=partial(Limit, 0.1, relative=True))
    keep: tuple[str, ...] = ()
    approximate: bool = False
    per_cost: bool = True
    align: int = 1


@dataclass(frozen=True)
class PlanRow:
    """One group in the plan; ``reason`` says why it stays whole, if it does."""

    group: ChannelGroup
    before: int
    after: int
    reason: str | None


@dataclass(frozen=True)
class Plan:
    """Which channels stay, and what that costs.

    Attributes:
        edit: Kept channels by group.
        rows: Every group of the network, in its order.
        before: Costs of the network as it is.
        after: Costs of the network after the edit.
    """

    edit: Edit
    rows: tuple[PlanRow, ...]
    before: Costs
    after: Costs


def make_plan(
    channels: ChannelMap, costs: CostModel, scores: Mapping[str, np.ndarray], rules: Rules
) -> Plan:
    """Choose the channels to remove.

    Args:
        channels: The network's groups.
        costs: The network's cost model.
        scores: One score per channel and prunable group, ``(width,)``; low goes first.
        rules: Budgets and protections.

    Returns:
        The smallest removal along the ranking that meets all budgets.

    Raises:
        ConfigError: The floors and protections leave more than a budget allows; says the smallest
            reachable. A protected layer does not exist.
    """
    reasons = _reasons(channels, rules)
    open_groups = [g for g in channels.groups if reasons[g.name] is None]
    line = _line(open_groups, costs, scores, rules)
    limits: dict[Metric, int] = {
        m: limit.of(getattr(costs.costs(costs.widths), m)) for m, limit in rules.limits.items()
    }
    n_removed = _shortest_prefix(costs, line, limits, rules)
    gone = _removed(costs, line, n_removed)
    keep = {g.name: line.kept(costs.names.index(g.name), gone) for g in open_groups}
    edit = Edit({name: kept for name, kept in keep.items() if len(kept) < channels[name].width})
    widths = {name: len(kept) for name, kept in edit.keep.items()}
    reasons |= {costs.names[index]: why for index, why in line.stuck.items()}
    rows = tuple(
        PlanRow(g, g.width, widths.get(g.name, g.width), reasons[g.name]) for g in channels.groups
    )
    return Plan(edit, rows, costs.costs(costs.widths), costs.costs(widths))


def _reasons(channels: ChannelMap, rules: Rules) -> dict[str, str | None]:
    """Why each group stays whole, or None."""
    for name in rules.keep:
        if not any(
            _protects(name, layer) for g in channels.groups for layer in (g.name, *g.layers)
        ):
            layers = ", ".join(g.name for g in channels.prunable[:4])
            raise ConfigError(
                f"--keep {name}: no such layer", hint=f"layers are named like {layers}"
            )
    reasons: dict[str, str | None] = {}
    for group in channels.groups:
        reasons[group.name] = None
        if group.status == "frozen" or (group.status == "approximate" and not rules.approximate):
            reasons[group.name] = group.reason
        elif any(
            _protects(name, layer) for name in rules.keep for layer in (group.name, *group.layers)
        ):
            reasons[group.name] = "kept on request"
    return reasons


def _protects(name: str, layer: str) -> bool:
    return layer == name or layer.startswith((f"{name}.", f"{name}#"))


@dataclass(frozen=True)
class _Line:
    """Steps in the order of removal.

    Attributes:
        groups: Number of the group of each step.
        counts: How many channels each step takes.
        orders: Channels of each group by part, worst first, ``(n_parts, n)``.
        stuck: Groups that no constraint lets go of, and why.
    """

    groups: np.ndarray
    counts: np.ndarray
    orders: Mapping[int, np.ndarray]
    stuck: Mapping[int, str]

    def kept(self, group: int, gone: np.ndarray) -> np.ndarray:
        """Channels of a group that stay when ``gone`` of each group go."""
        order = self.orders[group]
        return np.sort(order[:, gone[group] // len(order) :].ravel())


def _line(
    groups: Sequence[ChannelGroup], costs: CostModel, scores: Mapping[str, np.ndarray], rules: Rules
) -> _Line:
    index = {name: i for i, name in enumerate(costs.names)}
    weight = _weights(costs, rules)
    orders: dict[int, np.ndarray] = {}
    stuck: dict[int, str] = {}
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for group in groups:
        own, where = _checked(group, scores), index[group.name]
        by_part = np.arange(group.width)[None] if group.parts is None else group.parts
        order = np.take_along_axis(by_part, np.argsort(own[by_part], kind="stable"), axis=1)
        orders[where] = order
        ends = _step_ends(group, order, rules)
        if not len(ends):
            if rules.align > 1 and group.width > 1:
                stuck[where] = f"no multiple of {rules.align} between its floor and its width"
            continue
        totals = np.concatenate([[0.0], np.cumsum(own[order].sum(axis=0))])
        counts = np.diff(ends, prepend=0) * len(order)
        means = np.diff(totals[ends], prepend=0.0) / counts
        parts.append((means / weight[where], np.full(len(ends), where), counts))
    if not parts:
        empty = np.zeros(0, dtype=np.int64)
        return _Line(empty, empty, orders, stuck)
    rank, group_of, count = (np.concatenate(column) for column in zip(*parts, strict=True))
    line = np.argsort(rank, kind="stable")
    return _Line(group_of[line], count[line], orders, stuck)


def _step_ends(group: ChannelGroup, order: np.ndarray, rules: Rules) -> np.ndarray:
    """How many channels of each part are gone after each possible step; the floor is kept."""
    n_parts = len(order)
    floor = max(n_parts, min(rules.min_width.of(group.width), group.width))
    gone = np.arange(1, order.shape[1] + 1)
    left = group.width - gone * n_parts
    return gone[(left >= floor) & (left % rules.align == 0)]


def _checked(group: ChannelGroup, scores: Mapping[str, np.ndarray]) -> np.ndarray:
    own = np.asarray(scores[group.name], dtype=np.float64)
    if not np.isfinite(own).all():
        raise InputError(
            f"group {group.name}: {int((~np.isfinite(own)).sum())} of {group.width} scores are"
            " not finite",
            hint="the network gives NaN or infinite logits: check its weights",
        )
    assert own.shape == (group.width,), f"{group.name}: {own.shape} scores, {group.width} channels"
    return own


def _weights(costs: CostModel, rules: Rules) -> np.ndarray:
    """What one channel of each group is worth: its share of what each limited metric must lose."""
    if not rules.per_cost:
        return np.ones(len(costs.names))
    full = costs.costs(costs.widths)
    weight = np.zeros(len(costs.names))
    metrics: tuple[Metric, ...] = tuple(rules.limits) or ("params",)
    for metric in metrics:
        weight += costs.savings(metric) / max(getattr(full, metric), 1)
    return np.maximum(weight, 1e-12)


def _shortest_prefix(
    costs: CostModel, line: _Line, limits: Mapping[Metric, int], rules: Rules
) -> int:
    def met(n: int) -> bool:
        found = costs.costs(_widths(costs, line, n))
        return all(getattr(found, metric) <= limit for metric, limit in limits.items())

    if not met(len(line.groups)):
        smallest, full = (
            costs.costs(_widths(costs, line, len(line.groups))),
            costs.costs(costs.widths),
        )
        metric: Metric = next(m for m, limit in limits.items() if getattr(smallest, m) > limit)
        reach, total = getattr(smallest, metric), getattr(full, metric)
        raise ConfigError(
            f"--{metric} {limits[metric]:,} cannot be reached: the smallest reachable is {reach:,}"
            f" ({100 * reach / total:.1f}% of {total:,})",
            hint=_unreachable_hint(rules),
        )
    low, high = 0, len(line.groups)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if met(middle) else (middle + 1, high)
    return low


def _unreachable_hint(rules: Rules) -> str:
    ways = ["raise the budget", "lower --min-width", "protect fewer layers"]
    if rules.align > 1:
        ways.append("lower --align")
    if not rules.approximate:
        ways.append("allow --approximate groups, over which a norm runs")
    return ", ".join(ways[:-1]) + f", or {ways[-1]}"


def _removed(costs: CostModel, line: _Line, n: int) -> np.ndarray:
    """How many channels of each group the first ``n`` steps take."""
    taken = np.bincount(line.groups[:n], line.counts[:n], minlength=len(costs.widths))
    return taken.astype(np.int64)


def _widths(costs: CostModel, line: _Line, n: int) -> np.ndarray:
    return costs.widths - _removed(costs, line, n)
