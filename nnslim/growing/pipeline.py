"""A growing run: check what is given, narrow the teacher, and take its course."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from nnslim.growing.course import GrowCourse
from nnslim.growing.judging import Judge
from nnslim.growing.start import check_inputs, choose_start
from nnslim.run.context import RunContext
from nnslim.run.stages import Stages
from nnslim.run.trainer import Trainer
from nnslim.settings.grow import GrowConfig
from nnslim.settings.option import AUTO
from nnslim.settings.resolve import resolved
from nnslim.train.checkpoint import fingerprint
from nnslim.train.runtime import check_precision

if TYPE_CHECKING:
    from nnslim.data import Data
    from nnslim.growing.result import GrowResult
    from nnslim.network.network import Network

__all__ = ["grow_network", "prepare"]

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
        >>> config = GrowConfig({"params": Limit(0.3, True)}, seed_network=SeedConfig(epochs=1),
        ...                     where="group", rounds=1, training=TrainConfig(epochs=1))
        >>> result = grow_network(teacher, load_data("digits").with_subset(256, seed=0), config)
        >>> result.network.tensor("0.weight").shape[0], result.rounds[0].group
        (3, '0')
    """
    return prepare(teacher, data, config or GrowConfig(), context or RunContext(), seed).run()


def prepare(
    teacher: Network,
    data: Data,
    config: GrowConfig,
    context: RunContext,
    seed: Network | None = None,
) -> GrowCourse:
    """Check what ``grow_network`` is given and return its run, before the first stage.

    Raises:
        ConfigError: The budget leaves no room, or a setting cannot be used.
        InputError: Teacher, seed and data do not fit each other.
    """
    check_inputs(teacher, data, seed)
    asked, config = config, resolved(config, has_seed=seed is not None)
    start = choose_start(teacher, config, context.device, seed, demanded=asked.init is not AUTO)
    warnings: list[str] = []
    if config.init == "teacher" and start.donor is None:
        warnings.append(_NO_DONOR)
        context.sink.warn(_NO_DONOR)
        config = resolved(replace(asked, init="random"), has_seed=seed is not None)
    trainer = Trainer(teacher.to(context.device), data, config, context)
    identity = {
        **asdict(config),
        **trainer.identity(),
        "seed network": None if seed is None else fingerprint(seed),
    }
    stages = Stages(context.checkpoints, identity, teacher.graph.custom)
    check_precision(context.device, config.training.precision)
    stages.begin()
    remembering = trainer.remembering_teacher()
    return GrowCourse(trainer, stages, Judge(trainer), remembering, start, warnings=warnings)
