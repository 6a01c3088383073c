"""A cheap estimate, from one batch, of how much planted channels could gain.

A new channel starts with outgoing weights of zero, so the loss falls, to first order, along their
gradient: its squared norm is the gain of a small step (the score that GradMax maximises, Evci et
al., 2022). Batch norms of new channels use the batch's statistics for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch

from nnslim.distill import classification_loss
from nnslim.growing.training import PlantedEntries

if TYPE_CHECKING:
    from torch import Tensor

    from nnslim.run.trainer import Trainer
    from nnslim.settings.grow import GrowConfig
    from nnslim.settings.train import LossConfig
    from nnslim.surgery import Planted

__all__ = ["Batch", "first_batch", "first_order_gain"]


@dataclass(frozen=True)
class Batch:
    """Images on a device and the loss that is trained on them."""

    images: Tensor  # (N, C, H, W)
    labels: Tensor  # (N,)
    teacher_logits: Tensor | None  # (N, K); None where they have no share in the loss
    loss: LossConfig


def first_batch(trainer: Trainer[GrowConfig], stage: int) -> Batch:
    """Return the first images of a training, on the device, with the teacher's answer to them."""
    images, labels = next(iter(trainer.images(stage)))
    loss, device = trainer.config.training.loss, trainer.context.device
    images, logits = images.to(device), None
    if loss.distill_weight > 0:
        with torch.no_grad():
            logits = cast("Tensor", trainer.teacher.to(device).eval()(images))
    return Batch(images, labels.to(device), logits, loss)


def first_order_gain(planted: Planted, batch: Batch) -> float:
    """Squared norm of the gradient of the loss by the new entries, over a batch."""
    entries = PlantedEntries(planted).to(batch.images.device).train()
    logits = entries(batch.images)
    classification_loss(logits, batch.labels, batch.teacher_logits, batch.loss).backward()
    gradients = entries.gradients().values()
    return float(sum(gradient.double().square().sum() for gradient in gradients))
