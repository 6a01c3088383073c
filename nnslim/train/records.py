"""What a training run takes, reports and returns, and what makes two runs the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias

import torch
from torch import Tensor, nn

from nnslim.errors import ConfigError, InputError
from nnslim.processes import world_size
from nnslim.settings.train import TrainConfig
from nnslim.train.checkpoint import fingerprint

__all__ = [
    "BatchLoader",
    "Callbacks",
    "EpochRecord",
    "EventKind",
    "FitResult",
    "GradientPenalty",
    "Task",
    "TrainEvent",
]

EventKind: TypeAlias = Literal["start", "step", "epoch", "note", "warning"]


class GradientPenalty(Protocol):
    """Adds the gradient of a penalty to that of the loss, step by step.

    It sees the loss's gradients first, so that its strength can follow from them. What it does
    depends on the weights, those gradients, the step and its ``state`` only.
    """

    def start_epoch(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Prepare for an epoch, 0 for the first; called after a resume too, in eval mode."""
        ...

    def add_(self, network: nn.Module, step: int, steps: int) -> None:
        """Add to ``.grad`` after a step's backward pass; ``step`` counts over the whole run."""
        ...

    def state(self) -> dict[str, float]:
        """Return what a checkpoint must keep."""
        ...

    def restore(self, state: Mapping[str, float]) -> None:
        """Take back what ``state`` returned."""
        ...

    def identity(self) -> dict[str, object]:
        """Return, as plain JSON values, what makes two penalties the same."""
        ...


class BatchLoader(Protocol):
    """Yields (images (N, C, H, W), labels (N,)); the content depends on the epoch set only."""

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]: ...

    def __len__(self) -> int: ...

    def set_epoch(self, epoch: int) -> None:
        """Choose order and augmentation; the first epoch is 0."""
        ...


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch.

    Attributes:
        epoch: 1 for the first.
        loss: Mean over the steps of the loss; a gradient penalty has no part in it.
        train_top1: Accuracy in percent on the training images as they were seen.
        val_top1: What ``evaluate`` returned, or None.
        lr: Learning rate of the last step.
        seconds: Wall time of the epoch without evaluation.
    """

    epoch: int
    loss: float
    train_top1: float
    val_top1: float | None
    lr: float
    seconds: float


@dataclass(frozen=True)
class TrainEvent:
    """Progress, for whoever shows it.

    Attributes:
        kind: ``start`` before anything else, ``step`` after a step (on a GPU, after several),
            ``epoch`` after an epoch whose checkpoint is on disk, ``note`` for something the user
            should know, ``warning`` for something the user should look at.
        epoch: The current epoch, 1 for the first; otherwise the epochs finished.
        epochs: Of the whole run.
        step: Steps done in this epoch; for ``start``, in the epoch that goes on.
        steps: Steps of an epoch.
        loss: Of the last step, or of the epoch.
        lr: Of the last step.
        record: The epoch's record, for ``epoch``.
        history: The records of the epochs finished before, for ``start``.
        note: The text, for ``note`` and ``warning``.
    """

    kind: EventKind
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float | None = None
    lr: float | None = None
    record: EpochRecord | None = None
    history: tuple[EpochRecord, ...] = ()
    note: str | None = None


@dataclass(frozen=True)
class Callbacks:
    """What a training run calls.

    Attributes:
        evaluate: After each epoch, with the network in eval mode and gradients off; returns an
            accuracy for the record.
        on_event: With progress, in the main process.
    """

    evaluate: Callable[[nn.Module], float] | None = None
    on_event: Callable[[TrainEvent], None] | None = None


@dataclass(frozen=True)
class FitResult:
    """What a run did.

    Attributes:
        epochs: Epochs finished, those before a resume included.
        history: One record per epoch.
        resumed_from: Epochs that a checkpoint had already finished, or None.
        notes: What was decided for the user.
        compiled: Whether the training step was compiled.
        graphed: Whether it ran as a CUDA graph.
    """

    epochs: int
    history: tuple[EpochRecord, ...]
    resumed_from: int | None = None
    notes: tuple[str, ...] = ()
    compiled: bool = False
    graphed: bool = False


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
