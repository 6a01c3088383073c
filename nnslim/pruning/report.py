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
    from nnslim.pruning.course import Epochs
    from nnslim.pruning.pipeline import PruneResult
    from nnslim.pruning.plans.plan import Plan, PlanRow
    from nnslim.settings.prune import PruneConfig
    from nnslim.surgery import CutCheck

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


def result_json(result: PruneResult, config: PruneConfig) -> dict[str, object]:
    """Return what a run did and measured, as plain JSON values."""
    accuracies = result.accuracies or {}
    final = next((accuracies[stage] for stage in reversed(accuracies)), None)
    report = plan_json(result.plan)
    report["before"] = _state(result.plan.before, accuracies.get("dense"))
    report["after"] = _state(result.plan.after, final)
    report["settings"] = config_json(config)
    report["stages"] = _stages(result)
    report["check"] = _checks(result.checks)
    report["training"] = _epochs(result.training)
    report |= {"latency_search": None, "alignment": None, **result.planned}
    report["warnings"] = list(result.warnings)
    return report


def _stages(result: PruneResult) -> list[dict[str, object]]:
    """Every stage in order; the last of a kind that stayed was measured on the test images."""
    accuracies = result.accuracies or {}
    last = {own.stage: own for own in result.stages if not own.taken_back}
    return [
        {
            **asdict(own),
            "top1_pct": accuracies[own.stage].top1_pct
            if own is last.get(own.stage) and own.stage in accuracies
            else None,
        }
        for own in result.stages
    ]


def _checks(checks: Sequence[CutCheck]) -> dict[str, object]:
    """The check of the round with the largest error, and how many rounds were checked."""
    return {**max(checks, key=lambda check: check.error).to_json(), "rounds": len(checks)}


def _epochs(training: Sequence[Epochs]) -> list[dict[str, object]]:
    """All epochs of a run, numbered through."""
    records = [(own.stage, record) for own in training for record in own.records]
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
