"""``report.json`` of a pruning run: everything somebody needs to check it without our code."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from nnslim.measure.macs import Costs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nnslim.channels import Member
    from nnslim.measure.accuracy import Accuracy
    from nnslim.pruning.plans.plan import Plan, PlanRow
    from nnslim.pruning.result import Epochs, PruneResult
    from nnslim.settings.prune import PruneConfig

__all__ = ["SCHEMA", "config_json", "plan_json", "result_json"]

SCHEMA = "nnslim.prune/2"


def plan_json(plan: Plan) -> dict[str, object]:
    """Return the plan: costs, and every group with its tensors and kept indices."""
    return {
        "schema": SCHEMA,
        "before": _state(plan.before, None),
        "after": _state(plan.after, None),
        "groups": [_group(row, plan) for row in plan.rows],
    }


def result_json(result: PruneResult) -> dict[str, object]:
    """Return what a run did and measured, as plain JSON values."""
    accuracies = result.accuracies or {}
    final = next((accuracies[stage] for stage in reversed(accuracies)), None)
    worst = max(result.checks, key=lambda check: check.error)
    return {
        **plan_json(result.plan),
        "before": _state(result.plan.before, accuracies.get("dense")),
        "after": _state(result.plan.after, final),
        "settings": config_json(result.config),
        "stages": _stages(result),
        "check": {**worst.to_json(), "rounds": len(result.checks)},
        "training": _epochs(result.training),
        **result.planned,
        "warnings": list(result.warnings),
        "layers": list(result.layers),
    }


def _stages(result: PruneResult) -> list[dict[str, object]]:
    """Every stage in order; the last of a kind that stayed was measured on the test images."""
    accuracies = result.accuracies or {}
    last = {point.stage: point for point in result.stages if not point.taken_back}
    return [
        {
            **asdict(point),
            "top1_pct": accuracies[point.stage].top1_pct
            if point is last.get(point.stage) and point.stage in accuracies
            else None,
        }
        for point in result.stages
    ]


def _epochs(training: Sequence[Epochs]) -> list[dict[str, object]]:
    """All epochs of a run, numbered through."""
    records = [(epochs.stage, record) for epochs in training for record in epochs.records]
    return [
        {
            "epoch": number,
            "stage": stage,
            "loss": record.loss,
            "train_top1_pct": record.train_top1,
            "val_top1_pct": record.val_top1,
            "lr": record.lr,
            "seconds": record.seconds,
        }
        for number, (stage, record) in enumerate(records, start=1)
    ]


def config_json(config: PruneConfig) -> dict[str, object]:
    """Return the settings of a run, resolved, as plain JSON values."""
    values: dict[str, object] = {**asdict(config), "keep": list(config.keep)}
    if config.max_drop is not None:  # accuracy decides how many rounds there are
        values["rounds"] = {**asdict(config.rounds), "count": None}
    return values


def _state(costs: Costs, accuracy: Accuracy | None) -> dict[str, object]:
    return {
        **asdict(costs),
        "top1_pct": accuracy.top1_pct if accuracy else None,
        "top5_pct": accuracy.top5_pct if accuracy else None,
        "n_images": accuracy.n if accuracy else None,
    }


def _group(row: PlanRow, plan: Plan) -> dict[str, object]:
    group = row.group
    kept = plan.edit.keep.get(group.name, np.arange(group.width))
    return {
        "name": group.name,
        "layers": list(group.layers),
        "status": group.status,
        "reason": row.reason,
        "width_before": row.before,
        "width_after": row.after,
        "kept": kept.tolist(),
        **({} if group.parts is None else {"parts": group.parts.tolist()}),
        "tensors": [_member(member) for member in group.members],
    }


def _member(member: Member) -> dict[str, object]:
    """Where the group's channels stand in one tensor; the regular case in two numbers."""
    positions = member.positions
    start, per_channel = int(positions[0, 0]), positions.shape[1]
    regular = start + np.arange(positions.size).reshape(positions.shape)
    entry: dict[str, object] = {"name": member.tensor, "dim": member.dim}
    if member.blocks is not None:
        return {**entry, "positions": positions.tolist(), "blocks": member.blocks.tolist()}
    if np.array_equal(positions, regular):
        return {**entry, "start": start, "positions_per_channel": per_channel}
    return {**entry, "positions": positions.tolist()}
