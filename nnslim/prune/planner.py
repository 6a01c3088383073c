"""What decides which channels go: scores, budgets, and measurements where latency counts."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from statistics import fmean
from typing import TYPE_CHECKING

import numpy as np

from nnslim.channels import block_places, residual_streams
from nnslim.measure.cost_model import CostModel
from nnslim.onnx import SessionSettings
from nnslim.prune.alignment import choose_alignment
from nnslim.prune.latency import plan_for_latency
from nnslim.prune.latency_device import open_device
from nnslim.prune.line import rank_channels
from nnslim.prune.plan import Plan, make_plan, shortest_prefix
from nnslim.prune.rules import why_whole
from nnslim.prune.scoring import score_channels

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap, Place
    from nnslim.data import Data
    from nnslim.network.network import Network
    from nnslim.prune.config import PruneConfig
    from nnslim.prune.latency_device import Device
    from nnslim.prune.rounds import Limits
    from nnslim.prune.rules import Rules
    from nnslim.train.trainer import Surroundings

__all__ = ["Planned", "Planner"]


@dataclass(frozen=True)
class Planned:
    """A plan and how it was found.

    Attributes:
        plan: Which channels stay.
        latency: How a latency budget was met, as plain JSON values, or None.
        alignment: How the alignment was chosen, as plain JSON values, or None.
        warnings: What the user should know.
    """

    plan: Plan
    latency: dict[str, object] | None = None
    alignment: dict[str, object] | None = None
    warnings: tuple[str, ...] = field(default=())

    def to_json(self) -> dict[str, object]:
        """Return how it was found, without the plan."""
        return {
            "latency_search": self.latency,
            "alignment": self.alignment,
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True)
class Planner:
    """Everything a plan depends on, besides the network at hand.

    Attributes:
        dense: The network before any cut, whose widths the floors are shares of.
        channels: Its groups.
        data: The images to score on, or None.
        config: The run.
        around: Where plans are measured, and where messages go.
    """

    dense: Network
    channels: ChannelMap
    data: Data | None
    config: PruneConfig
    around: Surroundings

    def whole(self) -> dict[str, str | None]:
        """Why each group of the dense network must stay whole; None where it may be cut."""
        return why_whole(self.channels, self._rules(self.channels))

    def plan(self, network: Network, channels: ChannelMap, limits: Limits) -> Planned:
        """Score a network's channels and choose those that go.

        Raises:
            ConfigError: A limit cannot be reached, or the saliency needs images.
        """
        scores = score_channels(network, channels, self.data, self.config, self.around.sink)
        rules = replace(self._rules(channels), limits=limits, floors=self._floors())
        if not self.config.measures_plans:
            return Planned(make_plan(channels, CostModel(network, channels), scores, rules))
        latency = self.config.latency
        session = SessionSettings(device=str(self.around.device), threads=latency.threads)
        sizes = latency.batch_sizes or (1,)
        self.around.sink.info("measuring plans in onnxruntime: a few minutes")
        with open_device(network, channels, session, sizes) as device:
            return self._measured(device, scores, rules)

    def check_limits(self) -> None:
        """Refuse budgets that nothing can meet, before any image is seen.

        Raises:
            ConfigError: Says the smallest reachable.
        """
        if self.config.max_drop is not None:
            return
        dense, channels = self.dense, self.channels
        rules = replace(self._rules(channels), floors=self._floors())
        scores = {group.name: np.zeros(group.width) for group in channels.prunable}
        shortest_prefix(rank_channels(channels, CostModel(dense, channels), scores, rules), rules)

    def _floors(self) -> dict[str, int]:
        return {g.name: self.config.min_width.of(g.width) for g in self.channels.groups}

    def _rules(self, channels: ChannelMap) -> Rules:
        rules = replace(self.config.rules, shares=self._shares())
        if not self.config.keep_streams:
            return rules
        return replace(rules, streams=residual_streams(channels))

    def _shares(self) -> dict[str, float]:
        """What widths are measured by: those of the dense network, tapered along each stage."""
        shares = {group.name: float(group.width) for group in self.channels.groups}
        if self.config.allocation == "tapered":
            for name, place in block_places(self.dense.graph, self.channels).items():
                shares[name] *= _tapered(place)
        return shares

    def _measured(self, device: Device, scores: dict[str, np.ndarray], rules: Rules) -> Planned:
        budget = self.config.latency.budget
        if self.config.align != "auto":
            assert budget is not None
            found = plan_for_latency(device, scores, rules, budget)
            return Planned(found.plan, found.to_json(), None, found.warnings)
        choice = choose_alignment(device, scores, rules, budget)
        chosen = choice.chosen
        assert chosen.plan is not None
        self.around.sink.info(f"alignment {chosen.align}: {choice.reason}")
        search = chosen.search
        warnings = search.warnings if search else ()
        return Planned(chosen.plan, search and search.to_json(), choice.to_json(), warnings)


def _tapered(place: Place) -> float:
    """Share of a block beside those of its stage: as one over the root of its number; mean 1.

    The first stage is cut evenly: in CIFAR ResNets its stream is the stem's, which nothing widens.
    """
    if place.stage == 0:
        return 1.0
    shares = [(1 + block) ** -0.5 for block in range(place.n_blocks)]
    return shares[place.block] / fmean(shares)
