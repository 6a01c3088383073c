"""The course of a run on images: its stages in order, each resumable, and what was seen.

sparse ──► [ cut ──► refitted ──► recovered ]* ──► cut ──► refitted ──► tuned
                     or calibrated                         or calibrated
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, cast

from nnslim.channels import channel_groups
from nnslim.errors import NotFiniteError
from nnslim.measure.macs import count_costs
from nnslim.pruning.fit import refit_weights
from nnslim.pruning.result import Epochs, StageResult
from nnslim.pruning.rounds import (
    Removal,
    edit_from_json,
    edit_json,
    remove_and_verify,
    round_limits,
)
from nnslim.pruning.sparse.fading import Fading
from nnslim.pruning.sparse.penalty import HierarchicalSparsity, removed_channels
from nnslim.surgery.edit import resolve_edit
from nnslim.train import EpochRecord

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.measure.macs import Costs
    from nnslim.network.network import Network
    from nnslim.pruning.plans.constraints import Limits
    from nnslim.pruning.plans.planner import Planner
    from nnslim.run.stages import Record, Stages
    from nnslim.run.trainer import Trainer
    from nnslim.settings.prune import PruneConfig
    from nnslim.surgery import Edit
    from nnslim.train import GradientPenalty, TrainConfig

__all__ = ["PruneCourse"]


class PruneCourse:
    """One run on images, stage after stage.

    Attributes:
        config: The settings, resolved.
        current: The network after the stages so far.
        cuts: The removals that led to it.
        seen: Networks to measure in the end, by stage: of each kind the last.
        stages: What every stage left behind, in order.
        training: Every training, in order.
        warnings: What the user should know.
        planned: How the last removal was planned, see ``Planned.to_json``.
    """

    def __init__(self, trainer: Trainer[PruneConfig], planner: Planner, stages: Stages) -> None:
        self._trainer, self._planner, self._stages = trainer, planner, stages
        self.config = trainer.config
        self.current: Network = trainer.teacher
        self.cuts: tuple[Removal, ...] = ()
        self.seen: dict[str, Network] = {}
        self.stages: list[StageResult] = []
        self.training: list[Epochs] = []
        self.warnings: list[str] = []
        self.planned: Record = {}

    def run(self) -> None:
        """Run every stage."""
        dense, config = self._trainer.teacher, self.config
        top1 = self._trainer.validation_top1(dense)
        self._dense_costs = self._arrive("dense", 0, dense, top1)
        if config.sparse.epochs:
            self._train("sparse", "sparse", 0, config.sparse_training)
        self._remove_all()
        if config.training.epochs:
            self._fine_tune()

    def _remove_all(self) -> None:
        """Remove in rounds that approach the budget; accuracy decides nothing."""
        for number in range(1, self.config.rounds.count + 1):
            self._remove(number, round_limits(self.config, self._dense_costs, number))
            if number < self.config.rounds.count:
                self._recover(number)

    def _remove(self, number: int, limits: Limits) -> None:
        """Cut, and fit what is left, or calibrate its batch norms.

        Raises:
            ConfigError: A limit cannot be reached.
        """
        before, planner = self.current, self._planner
        channels = planner.channels  # those of the sparsely trained network, too
        if self.cuts:
            channels = channel_groups(before, earlier=self.cuts[-1].channels)

        def compute(_: Path | None) -> tuple[Network, Record]:
            planned = planner.plan(before, channels, limits)
            cut = remove_and_verify(before, channels, planned.plan, self.config.seed)
            record: Record = {"cut": cut.to_json(), "planned": planned.to_json()}
            return cut.network, record | {"top1": self._trainer.validation_top1(cut.network)}

        network, record = self._stages.run(f"cut-{number}", compute)
        self.cuts = (*self.cuts, Removal.of(channels, network, cast("Record", record["cut"])))
        self.planned = cast("Record", record["planned"])
        self.warnings += cast("list[str]", self.planned["warnings"])
        self._arrive("cut", number, network, record["top1"])
        if self.config.refit_images or self.config.recalibrate_batches:
            self._compensate(number, before, network)

    def _recover(self, number: int) -> None:
        """Train for a few epochs after a removal, if the run does so."""
        if self.config.rounds.epochs:
            self._train(f"recovered-{number}", "recovered", number, self.config.recovery)

    def _compensate(self, number: int, before: Network, cut: Network) -> None:
        """Fit the weights to those before the cut, or measure batch norm statistics anew."""
        stage = "refitted" if self.config.refit_images else "calibrated"

        def compute(_: Path | None) -> tuple[Network, Record]:
            network = copy.deepcopy(cut)
            if stage == "refitted":
                self._refit(before, network)
            else:
                self._trainer.calibrate(network)
            return network, {"top1": self._trainer.validation_top1(network)}

        network, record = self._stages.run(f"{stage}-{number}", compute)
        self._arrive(stage, number, network, record["top1"])

    def _refit(self, before: Network, network: Network) -> None:
        resolved = resolve_edit(self.cuts[-1].channels, self.cuts[-1].edit)
        images = self._trainer.some_images(self.config.refit_images)
        for layer in refit_weights(
            copy.deepcopy(before).to(images.device).eval(),
            network.to(images.device).eval(),
            resolved,
            images,
            self.config.seed,
        ):
            self._trainer.context.sink.detail(
                f"  {layer.weight}: {100 * layer.before:.2f} % of its outputs' squares were"
                f" wrong, {100 * layer.after:.2f} % are"
            )

    def _fine_tune(self) -> None:
        """Train last; of other epochs or another rate it is another stage, and begins anew."""
        config = self.config.training
        name = f"tuned-{config.epochs}-{config.lr}"
        if (begun := self._stages.begun("tuned-")) and name not in begun:
            self._trainer.context.sink.warn(
                f"fine-tuning begins anew, now with {config.epochs} epochs at learning rate"
                f" {config.lr}"
            )
        try:
            self._train(name, "tuned", len(self.cuts), config)
        except NotFiniteError as error:
            hint = (
                "with [[resume]] and a lower [[training.lr]] the stages before fine-tuning are kept"
            )
            raise NotFiniteError(error.raw[0], hint=hint) from error

    def _train(self, name: str, stage: str, number: int, config: TrainConfig) -> None:
        """Train in a stage; each training has another order of images."""
        before = self.current
        label, order = {
            "sparse": ("sparse training", 1),
            "recovered": (f"recovery {number}", 1 + number),
            "tuned": ("fine-tuning", 0),
        }[stage]

        def compute(checkpoints: Path | None) -> tuple[Network, Record]:
            network = copy.deepcopy(before)
            penalty, left_out = self._penalty(network) if stage == "sparse" else (None, {})
            result = self._trainer.train(
                network, config, label, stage=order, checkpoints=checkpoints, penalty=penalty
            )
            epochs = [asdict(record) for record in result.history]
            top1 = result.history[-1].val_top1
            return network, {"epochs": epochs, "top1": top1, "left out": left_out}

        network, record = self._stages.run(name, compute, together=True)
        left_out = cast("Mapping[str, str]", record.get("left out", {}))
        self.warnings += [f"sparse training left {g} alone: {why}" for g, why in left_out.items()]
        epochs = cast("list[dict[str, object]]", record["epochs"])
        records = tuple(EpochRecord(**values) for values in epochs)  # pyright: ignore
        self.training.append(
            Epochs(f"{stage} {number}" if stage == "recovered" else stage, records)
        )
        self._arrive(stage, number, network, record["top1"])

    def _penalty(self, network: Network) -> tuple[GradientPenalty, dict[str, str]]:
        """What pulls at the weights in sparse training, and the groups it cannot reach."""
        sparse, planner = self.config.sparse, self._planner
        channels, going = planner.channels, None
        if sparse.focus and self.config.max_drop is None:
            going = removed_channels(self._goal(), channels)
        if sparse.fades:
            assert going is not None, "the configuration demands a focus"
            return Fading(network, channels, going, sparse.deadline), {}
        focus = None if going is None else lambda *_: going
        groups = [name for name, why in planner.whole().items() if why is None]
        penalty = HierarchicalSparsity(network, channels, sparse.regularizer, focus, groups=groups)
        return penalty, dict(penalty.left_out)

    def _goal(self) -> Edit:
        """What the budget would leave of the dense network."""
        dense, planner = self._trainer.teacher, self._planner
        limits = round_limits(self.config, self._dense_costs, self.config.rounds.count)

        def compute(_: Path | None) -> tuple[Network, Record]:
            return dense, edit_json(planner.plan(dense, planner.channels, limits).plan.edit)

        return edit_from_json(self._stages.run("goal", compute)[1])

    def _arrive(self, stage: str, number: int, network: Network, top1: object) -> Costs:
        """Record where the run stands, report it, and return the network's costs."""
        costs, value = count_costs(network), cast("float | None", top1)
        self.stages.append(StageResult(stage, number, costs.params, costs.macs, value))
        self.current = network
        self.seen[stage] = network
        name = f"{stage} {number}" if number else stage
        accuracy = "" if value is None else f", validation top-1 {value:.2f}%"
        self._trainer.context.sink.info(
            f"{name}: {costs.params:,} parameters, {costs.macs:,} MACs{accuracy}"
        )
        return costs
