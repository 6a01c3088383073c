"""The course of a run on images: its stages in order, each resumable, and what was seen.

sparse ──► [ cut ──► refitted ──► recovered ]* ──► cut ──► refitted ──► tuned
                     or calibrated                         or calibrated
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from nnslim.channels import channel_groups
from nnslim.errors import ConfigError, NotFiniteError
from nnslim.measure.macs import count_costs
from nnslim.pruning.fit import refit_weights
from nnslim.pruning.plans.planner import Planner
from nnslim.pruning.rounds import (
    Limits,
    Removal,
    edit_from_json,
    edit_json,
    remove_and_verify,
    repeat_cut,
    round_limits,
)
from nnslim.pruning.sparse.fading import Fading
from nnslim.pruning.sparse.penalty import HierarchicalSparsity, removed_channels
from nnslim.settings.budget import Limit
from nnslim.train import EpochRecord

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from torch import nn

    from nnslim.network.network import Network
    from nnslim.run.stages import Record, Stages
    from nnslim.run.trainer import Trainer
    from nnslim.settings.prune import PruneConfig
    from nnslim.surgery import Edit
    from nnslim.train import GradientPenalty, TrainConfig

__all__ = ["Epochs", "PruneCourse", "StageResult"]

# Shares of the parameters that a round under a largest drop takes; the next where one was too much.
_BITES = (0.2, 0.1, 0.05)


@dataclass(frozen=True)
class StageResult:
    """The network after one stage.

    Attributes:
        stage: ``dense``, ``sparse``, ``cut``, ``refitted``, ``calibrated``, ``recovered`` or
            ``tuned``.
        round: Of the removal, 1 for the first; 0 before it.
        params: Its parameters.
        macs: Its MACs.
        val_top1_pct: On the validation images, or None.
        taken_back: Whether the run went on from before it, which cost too much accuracy.
    """

    stage: str
    round: int
    params: int
    macs: int
    val_top1_pct: float | None
    taken_back: bool = False


@dataclass(frozen=True)
class Epochs:
    """The epochs of one training in the run."""

    stage: str
    records: tuple[EpochRecord, ...]


class PruneCourse:
    """One run on images, stage after stage.

    Attributes:
        current: The network after the stages so far.
        cuts: The removals that led to it.
        seen: Networks to measure in the end, by stage: of each kind the last.
        stages: What every stage left behind, in order.
        training: Every training, in order.
        warnings: What the user should know.
        planned: How the last removal was planned, see ``Planned.to_json``.
    """

    def __init__(self, trainer: Trainer[PruneConfig], planner: Planner, stages: Stages) -> None:
        """Stand before the first stage."""
        self._trainer, self._planner, self._stages = trainer, planner, stages
        self._config = trainer.config
        self.current: Network = trainer.teacher
        self.cuts: tuple[Removal, ...] = ()
        self.seen: dict[str, Network] = {"dense": trainer.teacher}
        self.stages: list[StageResult] = []
        self.training: list[Epochs] = []
        self.warnings: list[str] = []
        self.planned: Record = {}

    def run(self) -> None:
        """Run every stage."""
        dense, config = self._trainer.teacher, self._config
        top1 = self._trainer.validation_top1(dense)
        self._arrive("dense", 0, dense, top1)
        if config.sparse.epochs:
            self._train_sparsely()
        if config.max_drop is not None:
            self._until_drop(top1, config.max_drop)
        else:
            full = count_costs(dense)
            for number in range(1, config.rounds.count + 1):
                self._remove(number, round_limits(config, full, number))
                if number < config.rounds.count and config.rounds.epochs:
                    self._train(f"recovered-{number}", "recovered", number, config.recovery)
        if config.training.epochs:
            self._fine_tune()

    def _train_sparsely(self) -> None:
        config, dense = self._config, self._trainer.teacher

        def compute(checkpoints: Path | None) -> tuple[Network, Record]:
            network = copy.deepcopy(dense)
            penalty, left_out = self._penalty(network)
            found = self._trainer.train(
                network,
                config.sparse_training,
                "sparse training",
                stage=1,
                checkpoints=checkpoints,
                penalty=penalty,
            )
            return network, {
                "epochs": [asdict(record) for record in found.history],
                "top1": found.history[-1].val_top1,
                "left out": left_out,
            }

        network, record = self._stages.run("sparse", compute, together=True)
        for name, why in cast("Mapping[str, str]", record["left out"]).items():
            self.warnings.append(f"sparse training left {name} alone: {why}")
        self._trained("sparse", record)
        self._arrive("sparse", 0, network, record["top1"])

    def _penalty(self, network: Network) -> tuple[GradientPenalty, dict[str, str]]:
        """What pulls at the weights in sparse training, and the groups it cannot reach."""
        sparse, planner = self._config.sparse, self._planner
        channels, focus, going = planner.channels, None, None
        if sparse.focus and self._config.max_drop is None:
            going = removed_channels(self._goal(), channels)
            focus = partial(_always, going)
        if sparse.fades:
            assert going is not None, "the configuration demands a focus"
            return Fading(network, channels, going, sparse.deadline), {}
        groups = [name for name, why in planner.whole().items() if why is None]
        penalty = HierarchicalSparsity(network, channels, sparse.regularizer, focus, groups=groups)
        return penalty, dict(penalty.left_out)

    def _goal(self) -> Edit:
        """What the budget would leave of the dense network."""
        dense, planner = self._trainer.teacher, self._planner
        limits = round_limits(self._config, count_costs(dense), self._config.rounds.count)

        def compute(_: Path | None) -> tuple[Network, Record]:
            return dense, edit_json(planner.plan(dense, planner.channels, limits).plan.edit)

        return edit_from_json(self._stages.run("goal", compute)[1])

    def _remove(self, number: int, limits: Limits) -> None:
        """Cut, and fit what is left, or calibrate its batch norms."""
        before, planner = self.current, self._planner
        earlier = self.cuts[-1].channels if self.cuts else planner.channels

        def compute(_: Path | None) -> tuple[Network, Record]:
            channels = channel_groups(before, earlier=earlier)
            planned = planner.plan(before, channels, limits)
            cut = remove_and_verify(before, channels, planned.plan, self._config.seed)
            record: Record = {"cut": cut.to_json(), "planned": planned.to_json()}
            return cut.network, record | {"top1": self._trainer.validation_top1(cut.network)}

        network, record = self._stages.run(f"cut-{number}", compute)
        self.cuts = (*self.cuts, repeat_cut(before, network, earlier, record["cut"]))
        self.planned = cast("Record", record["planned"])
        self.warnings += cast("list[str]", self.planned["warnings"])
        self._arrive("cut", number, network, record["top1"])
        if self._config.refit_images:
            self._refit(number, before, network)
        elif self._config.recalibrate_batches:
            self._calibrate(number, network)

    def _refit(self, number: int, before: Network, cut: Network) -> None:
        removal, trainer = self.cuts[-1], self._trainer

        def compute(_: Path | None) -> tuple[Network, Record]:
            images = trainer.some_images(self._config.refit_images)
            network = copy.deepcopy(cut).eval()
            found = refit_weights(
                copy.deepcopy(before).to(images.device).eval(),
                network.to(images.device),
                removal.channels,
                removal.edit,
                images,
                seed=self._config.seed,
            )
            for layer in found:
                trainer.context.sink.detail(
                    f"  {layer.weight}: {100 * layer.before:.2f} % of its outputs' squares were"
                    f" wrong, {100 * layer.after:.2f} % are"
                )
            return network, {"top1": trainer.validation_top1(network)}

        network, record = self._stages.run(f"refitted-{number}", compute)
        self._arrive("refitted", number, network, record["top1"])

    def _calibrate(self, number: int, cut: Network) -> None:
        def compute(_: Path | None) -> tuple[Network, Record]:
            network = copy.deepcopy(cut)
            self._trainer.calibrate(network)
            return network, {"top1": self._trainer.validation_top1(network)}

        network, record = self._stages.run(f"calibrated-{number}", compute)
        self._arrive("calibrated", number, network, record["top1"])

    def _fine_tune(self) -> None:
        """Train last; of other epochs or another rate it is another stage, and begins anew."""
        config = self._config.training
        name = f"tuned-{config.epochs}-{config.lr}"
        if (begun := self._stages.begun("tuned-")) and name not in begun:
            told = f"{config.epochs} epochs at learning rate {config.lr}"
            self._trainer.context.sink.warn(f"fine-tuning begins anew, now with {told}")
        try:
            self._train(name, "tuned", len(self.cuts), config)
        except NotFiniteError as error:
            hint = (
                "with [[resume]] and a lower [[training.lr]] the stages before fine-tuning are kept"
            )
            raise NotFiniteError(error.raw[0], hint=hint) from error

    def _train(self, name: str, stage: str, number: int, config: TrainConfig) -> None:
        before = self.current

        def compute(checkpoints: Path | None) -> tuple[Network, Record]:
            network = copy.deepcopy(before)
            label = "fine-tuning" if stage == "tuned" else f"recovery {number}"
            order = 0 if stage == "tuned" else 1 + number
            found = self._trainer.train(
                network, config, label, stage=order, checkpoints=checkpoints
            )
            epochs = [asdict(record) for record in found.history]
            return network, {"epochs": epochs, "top1": found.history[-1].val_top1}

        network, record = self._stages.run(name, compute, together=True)
        self._trained(stage if stage == "tuned" else f"{stage} {number}", record)
        self._arrive(stage, number, network, record["top1"])

    def _until_drop(self, dense_top1: float | None, max_drop: float) -> None:
        """Take bites off the parameters while the recovered network stays close enough."""
        if dense_top1 is None:
            raise ConfigError(
                "[[max_drop]] is judged on validation images and there are none",
                hint="give [[data.validation=500]], or data with val images",
            )
        number, bites, obstacle = 0, list(_BITES), None
        while bites:
            number += 1
            good = (self.current, self.cuts, dict(self.seen))
            params = self.current.n_parameters
            limit = Limit(int(params * (1 - bites[0])), relative=False)
            try:
                self._remove(number, {"params": limit})
            except ConfigError as error:  # the floors are reached
                obstacle = error
                bites.pop(0)
                continue
            obstacle = None  # a smaller bite can be taken: from here on accuracy decides
            if self._config.rounds.epochs:
                self._train(f"recovered-{number}", "recovered", number, self._config.recovery)
            if dense_top1 - cast("float", self.stages[-1].val_top1_pct) > max_drop:
                self.current, self.cuts, self.seen = good
                self.stages = [
                    replace(point, taken_back=point.taken_back or point.round == number)
                    for point in self.stages
                ]
                bites.pop(0)
        if not self.cuts:
            if obstacle is not None:
                why = f"[[max_drop={max_drop}]]: no channel can go: {obstacle.raw[0]}"
                raise ConfigError(why, hint=obstacle.raw[1]) from obstacle
            raise ConfigError(
                f"[[max_drop={max_drop}]]: taking {100 * _BITES[-1]:.0f}% of the parameters off"
                f" costs more than that after {self._config.rounds.epochs} epochs of recovery",
                hint="allow a larger drop, or more [[rounds.epochs]]",
            )

    def _trained(self, stage: str, record: Record) -> None:
        epochs = cast("list[dict[str, object]]", record["epochs"])
        records = tuple(EpochRecord(**values) for values in epochs)  # pyright: ignore
        self.training.append(Epochs(stage, records))

    def _arrive(self, stage: str, number: int, network: Network, top1: object) -> None:
        """Note where the run stands, and say so."""
        costs = count_costs(network)
        value = cast("float | None", top1)
        self.stages.append(StageResult(stage, number, costs.params, costs.macs, value))
        self.current = network
        self.seen[stage] = network
        where = f" {number}" if number else ""
        found = "" if value is None else f", validation top-1 {value:.2f}%"
        self._trainer.context.sink.info(
            f"{stage}{where}: {costs.params:,} parameters, {costs.macs:,} MACs{found}"
        )


def _always(
    going: Mapping[str, np.ndarray], network: nn.Module, epoch: int, epochs: int
) -> Mapping[str, np.ndarray]:
    """The focus of sparse training that never changes."""
    del network, epoch, epochs
    return going
