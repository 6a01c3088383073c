"""Planning: which channels go, given their scores and the budgets. No tensor is touched here.

All prunable channels stand in one line, cheapest loss first; the plan removes the shortest prefix
that meets every budget. Costs only fall along the line, so a bisection finds it.
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
    """

    limits: Mapping[Metric, Limit]
    min_width: Limit = field(default_factory=partial(Limit, 0.1, relative=True))
    keep: tuple[str, ...] = ()
    approximate: bool = False
    per_cost: bool = True


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
    n_removed = _shortest_prefix(costs, line, limits)
    removed = line.channels[:n_removed]
    keep = {g.name: np.arange(g.width) for g in open_groups}
    for group_index in np.unique(line.groups[:n_removed]):
        name = costs.names[group_index]
        keep[name] = np.setdiff1d(keep[name], removed[line.groups[:n_removed] == group_index])
    edit = Edit({name: kept for name, kept in keep.items() if len(kept) < channels[name].width})
    widths = {name: len(kept) for name, kept in edit.keep.items()}
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
    """Removable channels in the order of removal."""

    groups: np.ndarray
    channels: np.ndarray


def _line(
    groups: Sequence[ChannelGroup], costs: CostModel, scores: Mapping[str, np.ndarray], rules: Rules
) -> _Line:
    index = {name: i for i, name in enumerate(costs.names)}
    weight = _weights(costs, rules)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for group in groups:
        own = np.asarray(scores[group.name], dtype=np.float64)
        if not np.isfinite(own).all():
            raise InputError(
                f"group {group.name}: {int((~np.isfinite(own)).sum())} of {group.width} scores are"
                " not finite",
                hint="the network gives NaN or infinite logits: check its weights",
            )
        assert own.shape == (group.width,), (
            f"{group.name}: {own.shape} scores for {group.width} channels"
        )
        floor = max(1, min(rules.min_width.of(group.width), group.width))
        # The floor keeps the group's best channels, so only the others stand in the line.
        order = np.argsort(own, kind="stable")[: group.width - floor]
        where = index[group.name]
        parts.append((own[order] / weight[where], np.full(len(order), where), order))
    if not parts:
        return _Line(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))
    rank, group_of, channel = (np.concatenate(column) for column in zip(*parts, strict=True))
    line = np.argsort(rank, kind="stable")
    return _Line(group_of[line], channel[line])


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


def _shortest_prefix(costs: CostModel, line: _Line, limits: Mapping[Metric, int]) -> int:
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
            hint="raise the budget, lower --min-width, or protect fewer layers",
        )
    low, high = 0, len(line.groups)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if met(middle) else (middle + 1, high)
    return low


def _widths(costs: CostModel, line: _Line, n: int) -> np.ndarray:
    return costs.widths - np.bincount(line.groups[:n], minlength=len(costs.widths))
