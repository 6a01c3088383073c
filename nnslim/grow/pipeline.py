"""A growing run: check what is given, narrow the teacher, and take its course."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from nnslim.grow.config import GrowConfig
from nnslim.grow.course import Growing
from nnslim.grow.judging import Judge
from nnslim.grow.start import check_inputs, choose_start
from nnslim.train.checkpoint import fingerprint
from nnslim.train.runtime import check_precision
from nnslim.train.stages import Stages
from nnslim.train.trainer import Surroundings, Trainer

if TYPE_CHECKING:
    from nnslim.data import Data
    from nnslim.grow.result import GrowResult
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
    return prepare(teacher, data, config or GrowConfig(), around or Surroundings(), seed).run()


def prepare(
    teacher: Network,
    data: Data,
    config: GrowConfig,
    around: Surroundings,
    seed: Network | None = None,
) -> Growing:
    """Check what ``grow_network`` is given and return its run, before the first stage.

    Raises:
        ConfigError: The budget leaves no room, or a setting cannot be used.
        InputError: Teacher, seed and data do not fit each other.
    """
    check_inputs(teacher, data, seed)
    start = choose_start(teacher, config, around.device, seed)
    warnings: list[str] = []
    if config.initialisation is None:
        if start.donor is None and seed is None:
            warnings.append(_NO_DONOR)
            around.sink.warn(_NO_DONOR)
        config = replace(config, initialisation="random" if start.donor is None else "teacher")
    trainer = Trainer(teacher.to(around.device), data, config, around)
    identity = {
        **asdict(config),
        **trainer.identity(),
        "seed network": None if seed is None else fingerprint(seed),
    }
    stages = Stages(around.checkpoints, identity, teacher.graph.custom)
    check_precision(around.device, config.train.precision)
    stages.begin()
    remembering = trainer.remembering_teacher()
    return Growing(trainer, stages, Judge(trainer), remembering, start, warnings=warnings)
