"""Pruning: which channels matter, which go, and how the network recovers."""

from __future__ import annotations

from nnslim.budget import LatencyBudget, Limit
from nnslim.measure.cost_model import CostModel
from nnslim.prune.config import (
    LatencyConfig,
    PruneConfig,
    RoundConfig,
    SaliencyConfig,
    SparseConfig,
)
from nnslim.prune.pipeline import PruneResult, plan_pruning, prune_network
from nnslim.prune.plan import Plan, PlanRow, Rules, make_plan
from nnslim.prune.regularizers import RegularizerConfig
from nnslim.train.trainer import Surroundings

__all__ = [
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
    "Rules",
    "SaliencyConfig",
    "SparseConfig",
    "Surroundings",
    "make_plan",
    "plan_pruning",
    "prune_network",
]
