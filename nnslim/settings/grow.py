"""What a growing run does, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Literal, TypeAlias

from nnslim.settings.budget import LatencyBudget, Limit, Metric
from nnslim.settings.limits import budgets
from nnslim.settings.option import AUTO, flag, option, section
from nnslim.settings.parse import parse_count, parse_limit, parse_share, write_share
from nnslim.settings.train import TrainConfig
from nnslim.settings.tree import Checked

__all__ = ["Gain", "GrowConfig", "Init", "PerCost", "SeedConfig", "TeacherOrder"]

Init: TypeAlias = Literal["teacher", "random"]
TeacherOrder: TypeAlias = Literal["largest", "given"]
Gain: TypeAlias = Literal["loss", "accuracy"]
PerCost: TypeAlias = Literal["params", "macs", "latency", "none"]


@dataclass(frozen=True)
class SeedConfig(Checked, section="seed_network."):
    """The small network that everything is planted into, where none is given.

    Of every group at least 2 channels remain. Without a ``width`` it is the widest network that
    keeps to ``share`` of every counted budget (an eighth of the width if no budget is counted).
    """

    width: Limit | None = option(
        AUTO,
        "Width of the narrowed teacher's groups: a share or a number; none is the widest within "
        "the share of the budget.",
        auto="2 channels where one round fills the budget",
    )
    share: float | None = option(
        AUTO,
        "Share of every budget that the seed may use up, such as 60%.",
        metavar="PCT",
        above=0,
        below=1,
        read=parse_share,
        write=write_share,
        auto="60%",
    )
    epochs: int = option(
        AUTO,
        "Epochs of training the seed, with distillation.",
        low=0,
        panel="Training",
        auto="10; 0 where it has the teacher's weights and one round fills the budget",
    )
    lr: float = option(0.1, "Peak learning rate of training the seed.", above=0, panel="Training")


@dataclass(frozen=True)
class GrowConfig(Checked, panel="Method"):
    """A growing run, except for the networks and the data.

    What is ``AUTO`` is decided by ``nnslim.settings.resolved`` when the run begins. Shares in
    ``limits`` and ``latency`` are of the teacher. The round that breaks ``latency`` is taken back.

    Example:
        >>> GrowConfig(rounds=3).where
        'everywhere'
    """

    limits: Mapping[Metric, Limit] = budgets(
        "that the grown network may have",
        default="20% of the parameters, without another budget",
        share="20%",
    )
    latency: LatencyBudget | None = flag(
        None,
        "Latency it may have in onnxruntime for one image: 40% of the teacher's, or 1.5ms.",
        panel="Budget",
    )
    target_accuracy: float | None = flag(
        None,
        "Stop at this top-1 accuracy on the validation images, in percent.",
        metavar="PCT",
        low=0,
        high=100,
        panel="Budget",
    )
    rounds: int | None = flag(None, "Stop after this many rounds.", low=0, panel="Budget")
    patience: int | None = option(
        None,
        "Stop after this many rounds without a gain, which are taken back.",
        low=1,
        panel="Budget",
    )
    where: Literal["group", "everywhere"] = flag(
        "everywhere",
        "Plant into all groups at once, or layer by layer into the group that gains most.",
    )
    growth: Limit = flag(
        AUTO,
        "Channels planted into a group in a round: a share of its width, or a number.",
        metavar="25%|N",
        read=partial(parse_limit, most=1000),
        auto="25%; everywhere what the budget has room for",
    )
    candidates: int | None = flag(
        None,
        "Groups tried in a round, chosen by a first-order estimate; all tries every one.",
        metavar="all|M",
        none="all",
        low=1,
        read=parse_count,
    )
    init: Init = flag(
        AUTO,
        "How planted channels start: with the weights of the teacher's channels, or random ones.",
        auto="teacher; random with SEED",
    )
    wiring: Literal["onward", "full"] = option(
        "onward",
        "Which channels read planted ones in a layer that has planted ones itself: those, or all.",
    )
    teacher_order: TeacherOrder = option(
        "largest",
        "Which channels a narrowed teacher keeps first: those with the largest filters, or as "
        "given.",
    )
    gain: Gain = option("loss", "What candidates are judged by, on the validation images.")
    per_cost: PerCost = option(
        "params", "What a candidate's gain is divided by; latency is measured microseconds."
    )
    seed_network: SeedConfig = section(SeedConfig)
    training: TrainConfig = section(TrainConfig)
    polish_epochs: int = flag(
        0, "Epochs of training all weights in the end.", low=0, panel="Training"
    )
    polish_lr: float = option(
        0.02, "Peak learning rate of training all weights in the end.", above=0, panel="Training"
    )
    batch_size: int = flag(128, "Images per training step.", low=2, panel="Training")
    recalibrate_batches: int = option(
        20,
        "Training batches for the statistics of new batch norm channels.",
        low=1,
        panel="Training",
    )
    seed: int = flag(0, "Seed of everything random.", low=0, panel="Expert")
