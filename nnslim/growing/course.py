"""The course of a growing run: seed, rounds of planting, polish; each stage resumable.

seed ──► [ try every candidate ──► keep the best ]* ──► polished
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, cast

from nnslim.channels import channel_groups
from nnslim.growing.candidates import Proposal, propose
from nnslim.growing.donor import Donor
from nnslim.growing.judging import Judge, Judged, merit
from nnslim.growing.planting import obstacle
from nnslim.growing.result import GrowResult, Round
from nnslim.growing.rounds import Planter
from nnslim.growing.seed import reset
from nnslim.measure.macs import Costs, count_costs
from nnslim.processes import alone
from nnslim.run.stages import Record, Stages
from nnslim.run.trainer import Trainer
from nnslim.settings.grow import GrowConfig
from nnslim.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.network.network import Network
    from nnslim.settings.budget import Metric
    from nnslim.train import TrainConfig
    from nnslim.train.teaching import RememberingTeacher

__all__ = ["GrowCourse"]

# Numbers of the trainings of a run, each with an order of images of its own.
_SEED_STAGE, _POLISH_STAGE = 1, 2


@dataclass
class GrowCourse:
    """One run, stage after stage.

    Attributes:
        trainer: The images, the teacher and the settings.
        stages: Keeps what is finished.
        judge: Judges candidates.
        teacher: Remembers its logits over the run, where images come again.
        donor: The network whose channels are planted, if any.
        rounds: Those that are done.
        warnings: What the user should know.
    """

    trainer: Trainer[GrowConfig]
    stages: Stages
    judge: Judge
    teacher: RememberingTeacher | None
    donor: Donor | None
    rounds: list[Round] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def _config(self) -> GrowConfig:
        return self.trainer.config

    def run(self, small: Network, limits: Mapping[Metric, int], *, trained: bool) -> GrowResult:
        """Run or resume all stages.

        Args:
            small: What is planted into.
            limits: What the result may have at most.
            trained: Whether it is the caller's own, which is left as it is.
        """
        teacher, sink = self.trainer.teacher, self.trainer.context.sink
        teacher_judged = self.judge(teacher)
        seed, seed_judged = self._seed(small, trained=trained)
        self._say("seed", count_costs(seed), seed_judged)
        if seed_judged.top1_pct > teacher_judged.top1_pct:
            self.warnings.append(
                f"the teacher is worse than the seed: {teacher_judged.top1_pct:.2f} against"
                f" {seed_judged.top1_pct:.2f} % on the validation images"
            )
            sink.warn(self.warnings[-1])
        network, stopped = self._grow(copy.deepcopy(seed), seed_judged, limits)
        target = self._config.target_top1
        reached = (self.rounds[-1].judged if self.rounds else seed_judged).top1_pct
        if target is not None and reached < target:
            self.warnings.append(
                f"the target of {target:g} % on the validation images was not reached:"
                f" {reached:.2f} %"
            )
            sink.warn(self.warnings[-1])
        seen = {"teacher": teacher, "seed": seed, "grown": network}
        polished: Judged | None = None
        if self._config.polish_epochs:
            network, polished = self._polish(network)
            seen["polished"] = network
            self._say("polished", count_costs(network), polished)
        split = self.trainer.data.measured
        if split != "test":
            self.warnings.append("no test images: accuracy is that of the validation images")
        accuracies = {name: self.trainer.accuracy(own, split) for name, own in seen.items()}
        return GrowResult(
            self._with_history(network, seed),
            seed,
            seed_judged,
            teacher_judged,
            limits,
            tuple(self.rounds),
            polished,
            stopped,
            split,
            accuracies,
            tuple(self.warnings),
        )

    def _seed(self, small: Network, *, trained: bool) -> tuple[Network, Judged]:
        config, own = self._config, self._config.seed_network

        def compute(checkpoints: Path | None) -> tuple[Network, Record]:
            if trained:
                return small, asdict(self.judge(small))
            network = copy.deepcopy(small)
            if config.initialisation != "teacher":
                reset(network, config.seed)
            network.history = ()
            if config.seed_epochs:
                training = _whole(config.train, config.seed_epochs, own.lr)
                self._train_whole(network, training, "seed", _SEED_STAGE, checkpoints)
            else:  # what planting fixes for good must not be the statistics of no image
                self.trainer.calibrate(network)
            return network, asdict(self.judge(network))

        network, record = self.stages.run("seed", compute)
        network.preprocess = network.preprocess or self.trainer.teacher.preprocess
        return network, Judged(**record)  # pyright: ignore[reportArgumentType]

    def _grow(
        self, network: Network, judged: Judged, limits: Mapping[Metric, int]
    ) -> tuple[Network, str]:
        """Plant until something says stop; returns the network and what that was."""
        config, best, kept = self._config, merit(judged, self._config.gain), network
        good = 0  # rounds until the best
        while True:
            number = len(self.rounds) + 1
            if config.rounds is not None and number > config.rounds:
                return network, f"{config.rounds} rounds were asked for"
            if config.target_top1 is not None and judged.top1_pct >= config.target_top1:
                return network, f"the target of {config.target_top1} % was reached"
            if config.patience is not None and len(self.rounds) - good >= config.patience:
                why = f"{config.patience} rounds without a gain, which are taken back"
                for own in self.rounds[good:]:
                    self.trainer.note(f"round {own.number}", "taken back", why=why)
                del self.rounds[good:]
                return kept, why
            proposals = self._proposals(network, limits)
            if not proposals:
                return network, "the budget is used up"
            planted = self._round(number, network, judged, proposals)
            if isinstance(planted, str):
                return network, planted
            network, judged = planted
            now = merit(judged, config.gain)
            if now > best:
                best, kept, good = now, network, len(self.rounds)

    def _proposals(self, network: Network, limits: Mapping[Metric, int]) -> list[Proposal]:
        """What can be planted; one group at a time where planting everywhere cannot be."""
        channels = channel_groups(network)
        widest = None if self.donor is None else self.donor.widths
        proposals = propose(network, channels, limits, self._config, widest)
        problems = [obstacle(network, channels, proposal.counts) for proposal in proposals]
        if any(problems) and len(proposals[0].counts) > 1:
            said = f"nothing can be planted everywhere at once, but by group: {problems[0]}"
            if said not in self.warnings:
                self.warnings.append(said)
                self.trainer.context.sink.warn(said)
            alone = replace(self._config, where="group")
            proposals = propose(network, channels, limits, alone, widest)
            problems = [obstacle(network, channels, proposal.counts) for proposal in proposals]
        return [own for own, problem in zip(proposals, problems, strict=True) if problem is None]

    def _round(
        self, number: int, network: Network, judged: Judged, proposals: list[Proposal]
    ) -> tuple[Network, Judged] | str:
        """Return the network after a round, or why the round was taken back."""
        planter = Planter(self.trainer, self.stages, self.judge, self.teacher, self.donor)
        compute = partial(planter.try_all, number, network, judged, proposals)
        network, record = self.stages.run(f"round-{number:03d}", compute, together=True)
        after = Judged(**cast("dict[str, float]", record["judged"]))
        costs = count_costs(network)
        channels = channel_groups(network)
        widths = {group.name: group.width for group in channels.prunable}
        found = tuple(cast("list[Record]", record["candidates"]))
        for own in found:
            if own.get("failed"):
                self.warnings.append(
                    f"round {number}: {own['group']} stays as planted: {own['failed']}"
                )
        group, count = str(record["group"]), cast("int", record["count"])
        share = cast("float | None", record.get("latency_share"))
        budget = self._config.latency
        if budget is not None and share is not None:
            most = budget.amount / (1 if budget.relative else cast("float", record["teacher_ms"]))
            if share > most:
                why = (
                    f"{count} channels into {group} would take {100 * share:.1f} % of the teacher's"
                    f" latency, the budget is {100 * most:.1f} %"
                )
                self.trainer.note(f"round {number}", "taken back", why=why)
                return why
        planted = cast("dict[str, int]", record["planted"])
        self.rounds.append(Round(number, group, count, planted, found, after, costs, widths, share))
        self._say(f"round {number}: {count} channels into {group}", costs, after)
        return network, after

    def _polish(self, network: Network) -> tuple[Network, Judged]:
        def compute(checkpoints: Path | None) -> tuple[Network, Record]:
            polished = copy.deepcopy(network)
            training = _whole(
                self._config.train, self._config.polish_epochs, self._config.polish_lr
            )
            self._train_whole(polished, training, "polish", _POLISH_STAGE, checkpoints)
            return polished, asdict(self.judge(polished))

        polished, record = self.stages.run("polished", compute)
        return polished, Judged(**record)  # pyright: ignore[reportArgumentType]

    def _train_whole(
        self,
        network: Network,
        training: TrainConfig,
        label: str,
        stage: int,
        checkpoints: Path | None,
    ) -> None:
        """Train every weight, in the main process: the result is that of a run in one process."""
        with alone():
            self.trainer.train(
                network,
                training,
                label,
                stage=stage,
                checkpoints=checkpoints,
                teacher=self.teacher,
            )

    def _say(self, what: str, costs: Costs, judged: Judged) -> None:
        self.trainer.context.sink.info(
            f"{what}: {costs.params:,} parameters, {costs.macs:,} MACs,"
            f" validation top-1 {judged.top1_pct:.2f} %, loss {judged.loss:.4f}"
        )

    def _with_history(self, network: Network, seed: Network) -> Network:
        before, after = count_costs(seed), count_costs(network)
        entry: dict[str, object] = {
            "step": "grow",
            "nnslim": __version__,
            "seed": self._config.seed,
            "rounds": len(self.rounds),
            "initialisation": self._config.initialisation,
            "polish_epochs": self._config.polish_epochs,
            "params": [before.params, after.params],
            "macs": [before.macs, after.macs],
            "planted": [list(pair) for own in self.rounds for pair in own.planted.items()],
        }
        network.history = (*seed.history, entry)
        network.classes = network.classes or self.trainer.data.classes
        return network.cpu().eval()


def _whole(training: TrainConfig, epochs: int, lr: float) -> TrainConfig:
    """Training of a whole network, which SGD does best."""
    return replace(training, epochs=epochs, lr=lr, optimizer="sgd", compile="auto")
