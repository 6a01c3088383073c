"""The course of a growing run: seed, rounds of planting, polish; each stage resumable.

seed ──► [ try every candidate ──► keep the best ]* ──► polished
"""

from __future__ import annotations

import copy
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from nnslim.channels import channel_groups
from nnslim.growing.candidates import Proposal, propose
from nnslim.growing.judging import Judge, Judged, merit
from nnslim.growing.latency import over_budget
from nnslim.growing.planting import obstacle
from nnslim.growing.report import history_entry
from nnslim.growing.result import GrowResult, Round
from nnslim.growing.rounds import Planter, RoundStart
from nnslim.growing.seed import reset
from nnslim.measure.macs import Costs, count_costs
from nnslim.processes import alone
from nnslim.run.stages import Record, Stages
from nnslim.run.trainer import Trainer
from nnslim.settings.grow import GrowConfig
from nnslim.train.teaching import RememberingTeacher

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.growing.start import Start
    from nnslim.network.network import Network

__all__ = ["GrowCourse"]

# Numbers of the trainings of a run, each with another order of images.
_STAGES = {"seed": 1, "polish": 2}


@dataclass
class GrowCourse:
    """One run, stage after stage."""

    trainer: Trainer[GrowConfig]
    stages: Stages
    judge: Judge
    teacher: RememberingTeacher | None  # over the run, where images come again
    start: Start
    planter: type[Planter] = Planter  # a benchmark's controls are other ones
    rounds: list[Round] = field(default_factory=list)  # that are done
    warnings: list[str] = field(default_factory=list)

    @property
    def _config(self) -> GrowConfig:
        return self.trainer.config

    def run(self) -> GrowResult:
        """Run or resume all stages."""
        teacher_judged = self.judge(self.trainer.teacher)
        seed, seed_judged = self._seed()
        self._report("seed", count_costs(seed), seed_judged)
        if seed_judged.top1_pct > teacher_judged.top1_pct:
            self._warn(
                f"the teacher is worse than the seed: {teacher_judged.top1_pct:.2f} against"
                f" {seed_judged.top1_pct:.2f} % on the validation images"
            )
        start = RoundStart(1, copy.deepcopy(seed), channel_groups(seed), seed_judged)
        network, stopped = self._grow(start)
        self._check_target(self.rounds[-1].judged if self.rounds else seed_judged)
        networks = {"teacher": self.trainer.teacher, "seed": seed, "grown": network}
        polished: Judged | None = None
        if self._config.polish_epochs:
            network, polished = self._polish(network)
            networks["polished"] = network
            self._report("polished", count_costs(network), polished)
        split = self.trainer.data.measured
        if split != "test":
            self.warnings.append("no test images: accuracy is that of the validation images")
        accuracies = {name: self.trainer.accuracy(net, split) for name, net in networks.items()}
        network.history = (*seed.history, history_entry(self._config, seed, network, self.rounds))
        network.classes = network.classes or self.trainer.data.classes
        return GrowResult(
            network.cpu().eval(),
            self._config,
            seed,
            {group.name: group.width for group in start.channels.prunable},
            seed_judged,
            teacher_judged,
            self.start.limits,
            tuple(self.rounds),
            polished,
            stopped,
            split,
            accuracies,
            tuple(self.warnings),
        )

    def _check_target(self, judged: Judged) -> None:
        target = self._config.target_accuracy
        if target is not None and judged.top1_pct < target:
            self._warn(
                f"the target of {target:g} % on the validation images was not reached:"
                f" {judged.top1_pct:.2f} %"
            )

    def _warn(self, message: str) -> None:
        self.warnings.append(message)
        self.trainer.context.sink.warn(message)

    def _seed(self) -> tuple[Network, Judged]:
        config, start = self._config, self.start.network

        def compute(checkpoints: Path | None) -> tuple[Network, Record]:
            if self.start.given:
                return start, asdict(self.judge(start))
            network = copy.deepcopy(start)
            if config.init != "teacher":
                reset(network, config.seed)
            network.history = ()
            if config.seed_network.epochs:
                lr = config.seed_network.lr
                self._train_whole(network, "seed", config.seed_network.epochs, lr, checkpoints)
            else:  # what planting fixes for good must not be the statistics of no image
                self.trainer.calibrate(network)
            return network, asdict(self.judge(network))

        network, record = self.stages.run("seed", compute)
        network.preprocess = network.preprocess or self.trainer.teacher.preprocess
        return network, Judged.of(record)

    def _grow(self, start: RoundStart) -> tuple[Network, str]:
        """Plant until something says stop; returns the network and what that was."""
        config, best = self._config, start
        while True:
            target, n_done = config.target_accuracy, len(self.rounds)
            if config.rounds is not None and n_done >= config.rounds:
                return start.network, f"{config.rounds} rounds were asked for"
            if target is not None and start.judged.top1_pct >= target:
                return start.network, f"the target of {target} % was reached"
            if config.patience is not None and start.number - best.number >= config.patience:
                why = f"{config.patience} rounds without a gain, which are taken back"
                for without_gain in self.rounds[best.number - 1 :]:
                    self.trainer.note(f"round {without_gain.number}", "taken back", why=why)
                del self.rounds[best.number - 1 :]
                return best.network, why
            proposals = self._proposals(start)
            if not proposals:
                return start.network, "the budget is used up"
            planted = self._round(start, proposals)
            if isinstance(planted, str):
                return start.network, planted
            start = planted
            if merit(start.judged, config.gain) > merit(best.judged, config.gain):
                best = start

    def _proposals(self, start: RoundStart) -> list[Proposal]:
        """What can be planted; one group at a time where planting everywhere cannot be."""
        network, channels, donor = start.network, start.channels, self.start.donor
        widest = None if donor is None else donor.widths
        propose_for = partial(propose, network, channels, self.start.limits, widest=widest)
        proposals = propose_for(self._config)
        problems = [obstacle(network, channels, proposal.counts) for proposal in proposals]
        if any(problems) and len(proposals[0].counts) > 1:
            message = f"nothing can be planted everywhere at once, but by group: {problems[0]}"
            if message not in self.warnings:
                self._warn(message)
            proposals = propose_for(replace(self._config, where="group"))
            problems = [obstacle(network, channels, proposal.counts) for proposal in proposals]
        return [p for p, problem in zip(proposals, problems, strict=True) if problem is None]

    def _round(self, start: RoundStart, proposals: list[Proposal]) -> RoundStart | str:
        """Return what the next round starts from, or why this one was taken back."""
        number, trainer, donor = start.number, self.trainer, self.start.donor

        def compute(directory: Path | None) -> tuple[Network, Record]:
            teacher = self.teacher or RememberingTeacher(copy.deepcopy(trainer.teacher))
            planter = self.planter(trainer, self.stages, self.judge, teacher, donor)
            return planter.try_all(start, proposals, directory)

        network, record = self.stages.run(f"round-{number:03d}", compute, together=True)
        channels = channel_groups(network)
        planted = Round.of(number, network, channels, record)
        self.warnings += [
            f"round {number}: {candidate['group']} stays as planted: {candidate['failed']}"
            for candidate in planted.candidates
            if candidate.get("failed")
        ]
        place = f"{planted.count} channels into {planted.group}"
        if (excess := over_budget(self._config.latency, record)) is not None:
            why = f"{place} would take {excess}"
            trainer.note(f"round {number}", "taken back", why=why)
            return why
        self.rounds.append(planted)
        self._report(f"round {number}: {place}", planted.costs, planted.judged)
        return RoundStart(number + 1, network, channels, planted.judged)

    def _polish(self, network: Network) -> tuple[Network, Judged]:
        def compute(checkpoints: Path | None) -> tuple[Network, Record]:
            polished, config = copy.deepcopy(network), self._config
            self._train_whole(
                polished, "polish", config.polish_epochs, config.polish_lr, checkpoints
            )
            return polished, asdict(self.judge(polished))

        polished, record = self.stages.run("polished", compute)
        return polished, Judged.of(record)

    def _train_whole(
        self, network: Network, label: str, epochs: int, lr: float, checkpoints: Path | None
    ) -> None:
        """Train every weight, in the main process: the result is that of a run in one process."""
        # SGD is what trains whole networks best.
        config = replace(
            self._config.training, epochs=epochs, lr=lr, optimizer="sgd", compile="auto"
        )
        with alone():
            self.trainer.train(
                network,
                config,
                label,
                stage=_STAGES[label],
                checkpoints=checkpoints,
                teacher=self.teacher,
            )

    def _report(self, what: str, costs: Costs, judged: Judged) -> None:
        self.trainer.context.sink.info(
            f"{what}: {costs.params:,} parameters, {costs.macs:,} MACs,"
            f" validation top-1 {judged.top1_pct:.2f} %, loss {judged.loss:.4f}"
        )
