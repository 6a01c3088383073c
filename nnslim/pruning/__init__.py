"""Pruning: which channels matter, which go, and how the network recovers."""

from __future__ import annotations

from nnslim.measure.cost_model import CostModel
from nnslim.pruning.pipeline import plan_pruning, prune_network
from nnslim.pruning.plans.plan import Constraints, Plan, PlanRow, make_plan
from nnslim.pruning.result import PruneResult
from nnslim.run.context import RunContext
from nnslim.settings.budget import LatencyBudget, Limit
from nnslim.settings.prune import (
    LatencyConfig,
    PruneConfig,
    RegularizerConfig,
    RoundConfig,
    SaliencyConfig,
    SparseConfig,
)

__all__ = [
    "Constraints",
    "CostModel",
    "LatencyBudget",
    "LatencyConfig",
    "Limit",
    "Plan",
    "PlanRow",
    "PruneConfig",
    "PruneResult",
    "RegularizerConfig",
    "RoundConfig",
    "RunContext",
    "SaliencyConfig",
    "SparseConfig",
    "make_plan",
    "plan_pruning",
    "prune_network",
]
