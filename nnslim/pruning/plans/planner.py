"""What decides which channels go: scores, budgets, and measurements where latency counts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from nnslim.channels import residual_streams
from nnslim.measure.cost_model import CostModel
from nnslim.pruning.latency.alignment import choose_alignment
from nnslim.pruning.latency.device import open_device
from nnslim.pruning.latency.plan_for import plan_for_latency
from nnslim.pruning.plans.constraints import Constraints, Limits, why_whole
from nnslim.pruning.plans.line import rank_channels
from nnslim.pruning.plans.plan import Plan, make_plan, shortest_prefix
from nnslim.pruning.scores.score import score_channels
from nnslim.settings.session import SessionSettings

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.data import Data
    from nnslim.network.network import Network
    from nnslim.pruning.latency.device import Device
    from nnslim.run.context import RunContext
    from nnslim.settings.prune import PruneConfig

__all__ = ["Planned", "Planner"]


@dataclass(frozen=True)
class Planned:
    """A plan, and how a latency budget was met and the alignment chosen: plain JSON values."""

    plan: Plan
    latency: dict[str, object] | None = None
    alignment: dict[str, object] | None = None
    warnings: tuple[str, ...] = ()

    def to_json(self) -> dict[str, object]:
        """Return everything but the plan."""
        return {
            "latency_search": self.latency,
            "alignment": self.alignment,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Planner:
    """Everything a plan depends on, besides the network at hand."""

    dense: Network  # before any cut; floors are shares of its widths
    channels: ChannelMap  # of the dense network
    data: Data | None  # to score on
    config: PruneConfig
    context: RunContext

    @cached_property
    def costs(self) -> CostModel:
        """The costs of the dense network as a function of its widths."""
        return CostModel(self.dense, self.channels)

    def whole(self) -> dict[str, str | None]:
        """Why each group of the dense network must stay whole; None where it may be cut."""
        return why_whole(self.channels, self._constraints(self.channels))

    def plan(self, network: Network, channels: ChannelMap, limits: Limits) -> Planned:
        """Score a network's channels and choose those that go.

        Raises:
            ConfigError: A limit cannot be reached, or the saliency needs images.
        """
        scores = score_channels(network, channels, self.data, self.config, self.context.sink)
        constraints = replace(self._constraints(channels), limits=limits)
        if not self.config.measures_plans:
            dense = channels is self.channels  # or a copy of it that was trained since
            costs = self.costs if dense else CostModel(network, channels)
            return Planned(make_plan(channels, costs, scores, constraints))
        latency = self.config.latency
        session = SessionSettings(device=str(self.context.device), threads=latency.threads)
        sizes = latency.batch_sizes or (1,)
        self.context.sink.info("measuring plans in onnxruntime: a few minutes")
        with open_device(network, channels, session, sizes) as device:
            return self._measured(device, scores, constraints)

    def check_limits(self) -> None:
        """Refuse budgets that nothing can meet, before any image is seen.

        Raises:
            ConfigError: Says the smallest reachable.
        """
        if self.config.max_drop is not None:
            return
        constraints = self._constraints(self.channels)
        scores = {group.name: np.zeros(group.width) for group in self.channels.prunable}
        line = rank_channels(self.channels, self.costs, scores, constraints)
        shortest_prefix(line, constraints)

    def _constraints(self, channels: ChannelMap) -> Constraints:
        """Those of the run on a network with these groups; the floors are the dense network's."""
        config = self.config
        dense = {group.name: group.width for group in self.channels.groups}
        return Constraints(
            config.limits,
            min_width=config.min_width,
            keep=config.keep,
            approximate=config.approximate,
            allocation=config.allocation,
            per_cost=config.per_cost,
            align=1 if config.align == "auto" else config.align,
            floors={name: config.min_width.of(width) for name, width in dense.items()},
            dense_widths=dense,
            streams=residual_streams(channels) if config.keep_streams else frozenset(),
        )

    def _measured(
        self, device: Device, scores: dict[str, np.ndarray], constraints: Constraints
    ) -> Planned:
        budget = self.config.latency.budget
        if self.config.align != "auto":
            assert budget is not None
            search = plan_for_latency(device, scores, constraints, budget)
            return Planned(search.plan, search.to_json(), None, search.warnings)
        choice = choose_alignment(device, scores, constraints, budget)
        plan, search = choice.chosen.plan, choice.chosen.search
        assert plan is not None
        self.context.sink.info(f"alignment {choice.chosen.align}: {choice.reason}")
        if search is None:
            return Planned(plan, alignment=choice.to_json())
        return Planned(plan, search.to_json(), choice.to_json(), search.warnings)
