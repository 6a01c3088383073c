"""What a growing run does, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Literal, TypeAlias

from nnslim.budget import LatencyBudget, Limit, Metric
from nnslim.errors import ConfigError
from nnslim.train.config import TrainConfig

__all__ = ["Gain", "GrowConfig", "Initialisation", "PerCost", "SeedConfig", "TeacherOrder"]

Initialisation: TypeAlias = Literal["teacher", "random"]
TeacherOrder: TypeAlias = Literal["largest", "given"]
Gain: TypeAlias = Literal["loss", "accuracy"]
PerCost: TypeAlias = Literal["params", "macs", "latency", "none"]


@dataclass(frozen=True)
class SeedConfig:
    """The small network that everything is planted into, where none is given.

    Attributes:
        width: Of every channel group: a share of the teacher's or a number; at least 2 remain. None
            takes the widest that keeps to ``budget_share`` (an eighth if no budget is counted).
        budget_share: Of every counted budget (parameters, MACs, bytes) that the seed may use. None
            is 0.6, or, where one round fills the budget, 2 channels in each group.
        epochs: Of its training, with distillation. None is 10, or 0 where it has the teacher's
            weights and one round fills the budget.
        lr: Peak learning rate of it.
    """

    width: Limit | None = None
    budget_share: float | None = None
    epochs: int | None = None
    lr: float = 0.1

    def __post_init__(self) -> None:
        if (self.epochs or 0) < 0 or not self.lr > 0:
            raise ConfigError(
                f"a seed trained {self.epochs} epochs at learning rate {self.lr}",
                hint="give 0 or more epochs and a positive rate",
            )
        if self.budget_share is not None and not 0 < self.budget_share < 1:
            raise ConfigError(
                f"a seed that uses {100 * self.budget_share:g} % of the budget",
                hint="give more than 0 % and less than 100 %: the rest is planted",
            )


@dataclass(frozen=True)
class GrowConfig:
    """A growing run, except for the networks and the data.

    Attributes:
        limits: What the grown network may have at most, by metric; shares are of the teacher.
        seed_network: How the seed is made and trained where none is given.
        latency: Largest latency, measured after every round; a share is of the teacher's. The round
            that breaks it is taken back, and growing ends.
        growth: Channels planted into a group at a time: a share of its width or a number. None is a
            quarter of it; everywhere, what the counted budgets have room for.
        where: ``group``: a round plants into the best of the candidates; ``everywhere``: into all
            groups at once, until the budget has no room for most of them.
        wiring: What reads new channels where a layer's own are planted, too: ``onward``, only its
            new ones, so that earlier channels go on as they are; ``full``, all. Where a layer's own
            are not planted, all of them read what is new.
        candidates: Groups tried in a round, chosen by a first-order estimate; None tries all.
        rounds: Most rounds; None grows until the budget is used up.
        patience: Rounds without a gain after which growing ends; None never gives up.
        target_top1: Validation accuracy in percent at which growing ends.
        initialisation: Of planted channels, whose outgoing weights start so that nothing changes:
            ``teacher``: with the weights of the teacher's next channel, as the narrowed seed has
            those of its first; ``random``, and so the seed. None is ``teacher``, or ``random``
            where a seed is given.
        teacher_order: Which of the teacher's channels a narrowed one keeps, and planted ones go on
            with: those whose filters have the ``largest`` L2 norm first, or all as ``given``.
        gain: What a candidate is judged by, on the validation images: the fall of the loss
            that is trained (labels and teacher) or the rise of the top-1 accuracy.
        per_cost: What the gain is divided by; ``latency`` is microseconds in onnxruntime, measured
            for every trained candidate.
        train: Training of each candidate's planted weights.
        polish_epochs: Epochs of training everything in the end, by SGD.
        polish_lr: Peak learning rate of it.
        batch_size: Images per training step.
        recalibrate_batches: Training batches for the statistics of new batch norm channels.
        seed: Of everything random.
    """

    limits: Mapping[Metric, Limit] = field(
        default_factory=lambda: {"params": Limit(0.2, relative=True)}
    )
    seed_network: SeedConfig = field(default_factory=SeedConfig)
    latency: LatencyBudget | None = None
    growth: Limit | None = None
    where: Literal["group", "everywhere"] = "group"
    wiring: Literal["onward", "full"] = "onward"
    candidates: int | None = None
    rounds: int | None = None
    patience: int | None = None
    target_top1: float | None = None
    initialisation: Initialisation | None = None
    teacher_order: TeacherOrder = "largest"
    gain: Gain = "loss"
    per_cost: PerCost = "params"
    train: TrainConfig = field(
        default_factory=partial(TrainConfig, epochs=2, lr=0.03, optimizer="adamw", compile=False)
    )
    polish_epochs: int = 0
    polish_lr: float = 0.02
    batch_size: int = 128
    recalibrate_batches: int = 20
    seed: int = 0

    @property
    def in_one_round(self) -> bool:
        """Whether a round plants as much as the counted budgets have room for."""
        return self.where == "everywhere" and self.growth is None and bool(self.limits)

    @property
    def seed_epochs(self) -> int:
        """Epochs of training the seed, see ``SeedConfig``."""
        if self.seed_network.epochs is not None:
            return self.seed_network.epochs
        return 0 if self.in_one_round and self.initialisation in {None, "teacher"} else 10

    def __post_init__(self) -> None:
        problems = {
            f"{self.candidates} candidates: at least 1 is needed": self.candidates is not None
            and self.candidates < 1,
            f"{self.rounds} rounds: 0 or more": self.rounds is not None and self.rounds < 0,
            f"patience of {self.patience} rounds: at least 1": self.patience is not None
            and self.patience < 1,
            f"polishing for {self.polish_epochs} epochs: 0 or more": self.polish_epochs < 0,
            "candidates must be trained for at least 1 epoch": self.train.epochs < 1,
            f"a target of {self.target_top1} % accuracy: from 0 to 100": self.target_top1
            is not None
            and not 0 <= self.target_top1 <= 100,
        }
        for problem, found in problems.items():
            if found:
                raise ConfigError(problem)
