"""What a training run was asked to do, checked, and what makes two runs the same."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nnslim.errors import ConfigError, InputError
from nnslim.processes import world_size
from nnslim.settings.train import TrainConfig
from nnslim.train.checkpoint import fingerprint
from nnslim.train.records import BatchLoader, Callbacks, GradientPenalty

__all__ = ["Task"]


@dataclass(frozen=True)
class Task:
    """The arguments of ``fit``."""

    network: nn.Module
    loader: BatchLoader
    config: TrainConfig
    device: torch.device
    teacher: nn.Module | None
    callbacks: Callbacks
    penalty: GradientPenalty | None

    @property
    def teaching(self) -> nn.Module | None:
        """The teacher, if its logits count."""
        return self.teacher if self.config.distill_weight > 0 else None

    @property
    def steps(self) -> int:
        """Steps of the whole run."""
        return self.config.epochs * len(self.loader)

    def check(self) -> None:
        """Refuse what cannot be trained.

        Raises:
            ConfigError: Nothing trains, or the network is the teacher.
            InputError: There are no batches.
        """
        if len(self.loader) == 0:
            raise InputError("there are no training batches", hint="lower the batch size")
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise ConfigError("the network has no trainable parameters")
        if self.teacher is self.network:
            raise ConfigError("the network cannot teach itself", hint="pass a copy as the teacher")

    def identity(self, *, compiled: bool) -> dict[str, object]:
        """Return, as plain JSON values, what a checkpoint must agree with to be this run's."""
        settings = self.config.to_json()
        del settings["compile"]  # what came of it counts, not how it was chosen
        del settings["cuda_graph"]  # the same kernels
        return settings | {
            "compiled": compiled,
            "processes": world_size(),
            "steps per epoch": len(self.loader),
            "starting weights": fingerprint(self.network),
            "teacher": None if self.teaching is None else fingerprint(self.teaching),
            "gradient penalty": None if self.penalty is None else self.penalty.identity(),
        }
