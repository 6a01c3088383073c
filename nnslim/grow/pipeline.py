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
from nnslim.errors import InputError
from nnslim.grow.candidates import Proposal, absolute_limits, check_room, propose
from nnslim.grow.config import GrowConfig
from nnslim.grow.donor import Donor, choose_donor, largest_first
from nnslim.grow.judging import Judge, Judged, merit
from nnslim.grow.planting import obstacle
from nnslim.grow.result import GrowResult, Round
from nnslim.grow.rounds import Planter
from nnslim.grow.seed import check_fit, reset, unplanted
from nnslim.measure.macs import Costs, count_costs
from nnslim.train.checkpoint import fingerprint
from nnslim.train.processes import alone
from nnslim.train.stages import Record, Stages
from nnslim.train.trainer import Surroundings, Trainer
from nnslim.version import __version__

if TYPE_CHECKING:
    from pathlib import Path

    from nnslim.budget import Metric
    from nnslim.data import Data
    from nnslim.network.network import Network
    from nnslim.train import TrainConfig
    from nnslim.train.teaching import RememberingTeacher

__all__ = ["grow_network"]

# Numbers of the trainings of a run, each with an order of images of its own.
_SEED_STAGE, _POLISH_STAGE = 1, 2
_NO_DONOR = (
    "narrowed, the teacher has other channel groups than it has, so everything starts with random"
    " weights instead of the teacher's"
)


def grow_network(
    teacher: Network,
    data: Data,
    config: GrowConfig | None = None,
    around: Surroundings | None = None,
    seed: Network | None = None,
) -> GrowResult:
    """Grow a small network by planting channels, taught by a large one (channel planting).

    After Mitsuno, Nomura and Kurita, "Channel Planting for Deep Neural Networks using Knowledge
    Distillation" (2020), whose abstract says what is done and not how; the rest are options.

    Args:
        teacher: The large network; it is only moved to the device.
        data: Labelled images with validation images, on which candidates are judged.
        config: Budgets, seed, planting and training.
        around: Device, messages, checkpoints.
        seed: What to plant into; None narrows the teacher and trains that first.

    Raises:
        ConfigError: The budget leaves no room, or a setting cannot be used.
        InputError: Teacher, seed and data do not fit each other.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> from nnslim.data import load_data
        >>> from nnslim.grow import SeedConfig
        >>> from nnslim.train import TrainConfig
        >>> from nnslim.budget import Limit
        >>> model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
        >>> teacher = trace_network(model, torch.zeros(2, 1, 8, 8))
        >>> config = GrowConfig({"params": Limit(0.3, True)}, SeedConfig(epochs=1), rounds=1,
        ...                     train=TrainConfig(epochs=1, compile=False))
        >>> result = grow_network(teacher, load_data("digits").with_subset(256, seed=0), config)
        >>> result.network.tensor("0.weight").shape[0], result.rounds[0].group
        (3, '0')
    """
    config, around = config or GrowConfig(), around or Surroundings()
    if not data.has("val"):
        raise InputError(
            "growing judges candidates on validation images, and there are none",
            hint="give --validation 1 or more, or data with val images",
        )
    if teacher.n_classes is None:
        raise InputError("the teacher does not return one (N, K) tensor of logits")
    data.require_classes(teacher.n_classes)
    if seed is not None:
        check_fit(seed, teacher)
    limits = absolute_limits(config, count_costs(teacher))
    sorts = seed is None and config.teacher_order == "largest"
    ordered = largest_first(teacher.cpu()) if sorts else teacher
    small = unplanted(ordered, config, limits) if seed is None else seed
    check_room(limits, count_costs(small))
    donor = choose_donor(config, ordered, small, given=seed is not None)
    warnings: list[str] = []
    if config.initialisation is None:
        if donor is None and seed is None:
            warnings.append(_NO_DONOR)
            around.sink.warn(_NO_DONOR)
        config = replace(config, initialisation="random" if donor is None else "teacher")
    trainer = Trainer(teacher.to(around.device), data, config, around)
    identity = {
        **asdict(config),
        "teacher": fingerprint(teacher),
        "seed network": None if seed is None else fingerprint(seed),
        "training images": len(data.train),
        "augmentation": asdict(data.augment),
    }
    stages = Stages(around.checkpoints, identity, teacher.graph.custom)
    remembering = trainer.remembering_teacher()
    growing = _Growing(trainer, stages, Judge(trainer), remembering, donor, warnings=warnings)
    return growing.run(small, limits, trained=seed is not None)


@dataclass
class _Growing:
    """One run, stage after stage."""

    trainer: Trainer[GrowConfig]
    stages: Stages
    judge: Judge
    teacher: RememberingTeacher | None
    donor: Donor | None
    rounds: list[Round] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def config(self) -> GrowConfig:
        return self.trainer.config

    def run(self, small: Network, limits: Mapping[Metric, int], *, trained: bool) -> GrowResult:
        teacher, sink = self.trainer.teacher, self.trainer.around.sink
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
        seen = {"teacher": teacher, "seed": seed, "grown": network}
        polished: Judged | None = None
        if self.config.polish_epochs:
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
        config, own = self.config, self.config.seed_network

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
        config, idle, best = self.config, 0, merit(judged, self.config.gain)
        while True:
            number = len(self.rounds) + 1
            if config.rounds is not None and number > config.rounds:
                return network, f"{config.rounds} rounds were asked for"
            if config.target_top1 is not None and judged.top1_pct >= config.target_top1:
                return network, f"the target of {config.target_top1} % was reached"
            if config.patience is not None and idle >= config.patience:
                return network, f"{idle} rounds without a gain"
            proposals = self._proposals(network, limits)
            if not proposals:
                return network, "the budget is used up"
            planted = self._round(number, network, judged, proposals)
            if isinstance(planted, str):
                return network, planted
            network, judged = planted
            now = merit(judged, config.gain)
            idle = 0 if now > best else idle + 1
            best = max(best, now)

    def _proposals(self, network: Network, limits: Mapping[Metric, int]) -> list[Proposal]:
        """What can be planted; one group at a time where planting everywhere cannot be."""
        channels = channel_groups(network)
        widest = None if self.donor is None else self.donor.widths
        proposals = propose(network, channels, limits, self.config, widest)
        problems = [obstacle(network, channels, proposal.counts) for proposal in proposals]
        if any(problems) and len(proposals[0].counts) > 1:
            said = f"nothing can be planted everywhere at once, but by group: {problems[0]}"
            if said not in self.warnings:
                self.warnings.append(said)
                self.trainer.around.sink.warn(said)
            alone = replace(self.config, where="group")
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
        group, count = str(record["group"]), cast("int", record["count"])
        share = cast("float | None", record.get("latency_share"))
        budget = self.config.latency
        if budget is not None and share is not None:
            most = budget.amount / (1 if budget.relative else cast("float", record["teacher_ms"]))
            if share > most:
                what = f"{count} channels into {group} would take {100 * share:.1f} %"
                return f"{what} of the teacher's latency, the budget is {100 * most:.1f} %"
        planted = cast("dict[str, int]", record["planted"])
        self.rounds.append(Round(number, group, count, planted, found, after, costs, widths, share))
        self._say(f"round {number}: {count} channels into {group}", costs, after)
        return network, after

    def _polish(self, network: Network) -> tuple[Network, Judged]:
        def compute(checkpoints: Path | None) -> tuple[Network, Record]:
            polished = copy.deepcopy(network)
            training = _whole(self.config.train, self.config.polish_epochs, self.config.polish_lr)
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
        self.trainer.around.sink.info(
            f"{what}: {costs.params:,} parameters, {costs.macs:,} MACs,"
            f" validation top-1 {judged.top1_pct:.2f} %, loss {judged.loss:.4f}"
        )

    def _with_history(self, network: Network, seed: Network) -> Network:
        before, after = count_costs(seed), count_costs(network)
        entry: dict[str, object] = {
            "step": "grow",
            "nnslim": __version__,
            "seed": self.config.seed,
            "rounds": len(self.rounds),
            "initialisation": self.config.initialisation,
            "polish_epochs": self.config.polish_epochs,
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
