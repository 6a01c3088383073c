"""A growing run: check what is given, narrow the teacher, and take its course."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from nnslim.errors import InputError
from nnslim.growing.candidates import absolute_limits, check_room
from nnslim.growing.course import GrowCourse
from nnslim.growing.donor import choose_donor, largest_first
from nnslim.growing.judging import Judge
from nnslim.growing.latency import check_latency
from nnslim.growing.seed import check_fit, check_images, unplanted
from nnslim.measure.macs import count_costs
from nnslim.run.context import RunContext
from nnslim.run.stages import Stages
from nnslim.run.trainer import Trainer
from nnslim.settings.grow import GrowConfig
from nnslim.train.checkpoint import fingerprint
from nnslim.train.checks import require_finite
from nnslim.train.runtime import check_precision

if TYPE_CHECKING:
    from nnslim.data import Data
    from nnslim.growing.result import GrowResult
    from nnslim.network.network import Network

__all__ = ["grow_network"]

_NO_DONOR = (
    "narrowed, the teacher has other channel groups than it has, so everything starts with random"
    " weights instead of the teacher's"
)


def grow_network(
    teacher: Network,
    data: Data,
    config: GrowConfig | None = None,
    context: RunContext | None = None,
    seed: Network | None = None,
) -> GrowResult:
    """Grow a small network by planting channels, taught by a large one (channel planting).

    After Mitsuno, Nomura and Kurita, "Channel Planting for Deep Neural Networks using Knowledge
    Distillation" (2020), whose abstract says what is done and not how; the rest are options.

    Args:
        teacher: The large network; it is only moved to the device.
        data: Labelled images with validation images, on which candidates are judged.
        config: Budgets, seed, planting and training.
        context: Device, messages, checkpoints.
        seed: What to plant into; None narrows the teacher and trains that first.

    Raises:
        ConfigError: The budget leaves no room, or a setting cannot be used.
        InputError: Teacher, seed and data do not fit each other.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> from nnslim.data import load_data
        >>> from nnslim.growing import SeedConfig
        >>> from nnslim.train import TrainConfig
        >>> from nnslim.settings.budget import Limit
        >>> model = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(576, 10))
        >>> teacher = trace_network(model, torch.zeros(2, 1, 8, 8))
        >>> config = GrowConfig({"params": Limit(0.3, True)}, SeedConfig(epochs=1), rounds=1,
        ...                     train=TrainConfig(epochs=1, compile=False))
        >>> result = grow_network(teacher, load_data("digits").with_subset(256, seed=0), config)
        >>> result.network.tensor("0.weight").shape[0], result.rounds[0].group
        (3, '0')
    """
    config, context = config or GrowConfig(), context or RunContext()
    if not data.has("val"):
        raise InputError(
            "growing judges candidates on validation images, and there are none",
            hint="give --validation 1 or more, or data with val images",
        )
    if teacher.n_classes is None:
        raise InputError("the teacher does not return one (N, K) tensor of logits")
    data.require_classes(teacher.n_classes)
    check_images(teacher, data)
    require_finite(teacher, "the teacher")
    if seed is not None:
        check_fit(seed, teacher)
        require_finite(seed, "the seed")
    limits = absolute_limits(config, count_costs(teacher))
    sorts = seed is None and config.teacher_order == "largest"
    ordered = largest_first(teacher.cpu()) if sorts else teacher
    small = unplanted(ordered, config, limits) if seed is None else seed
    check_room(limits, count_costs(small))
    if config.latency is not None:
        check_latency(config.latency, small, teacher, context.device)
    donor = choose_donor(config, ordered, small, given=seed is not None)
    warnings: list[str] = []
    if config.initialisation is None:
        if donor is None and seed is None:
            warnings.append(_NO_DONOR)
            context.sink.warn(_NO_DONOR)
        config = replace(config, initialisation="random" if donor is None else "teacher")
    trainer = Trainer(teacher.to(context.device), data, config, context)
    identity = {
        **asdict(config),
        **trainer.identity(),
        "seed network": None if seed is None else fingerprint(seed),
    }
    stages = Stages(context.checkpoints, identity, teacher.graph.custom)
    check_precision(context.device, config.train.precision)
    stages.begin()
    remembering = trainer.remembering_teacher()
    growing = GrowCourse(trainer, stages, Judge(trainer), remembering, donor, warnings=warnings)
    return growing.run(small, limits, trained=seed is not None)
