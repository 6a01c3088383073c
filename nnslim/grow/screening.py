"""Cheap estimates from one batch: how much a planted channel could gain, and which are promising.

A new channel starts with outgoing weights of zero, so the loss falls, to first order, along their
gradient: its squared norm is the gain of a small step (the score that GradMax maximises, Evci et
al., 2022). Batch norms of new channels use the batch's statistics for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from nnslim.channels.places import incoming_slices
from nnslim.distill import classification_loss
from nnslim.grow.planting import plant, planting_edit
from nnslim.grow.training import PlantedEntries
from nnslim.surgery import PLANT, Edit, Planted, apply_edit, plant_channels

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.distill import LossConfig
    from nnslim.network.network import Network

__all__ = ["Batch", "best_channels", "first_order_gain"]

_DRAWN_PER_CHANNEL = 8


@dataclass(frozen=True)
class Batch:
    """Images on a device and the loss that is trained on them.

    Attributes:
        images: (N, C, H, W).
        labels: (N,).
        taught: The teacher's logits (N, K); None where it has no share in the loss.
        loss: The shares of labels and teacher.
    """

    images: Tensor
    labels: Tensor
    taught: Tensor | None
    loss: LossConfig


def first_order_gain(planted: Planted, batch: Batch) -> float:
    """Squared norm of the gradient of the loss by the new entries, over a batch."""
    gradients = _gradients(planted, batch)
    return float(sum(gradient.double().square().sum() for gradient in gradients.values()))


def best_channels(  # noqa: PLR0913 - one batch and one place
    network: Network,
    channels: ChannelMap,
    group: str,
    count: int,
    batch: Batch,
    *,
    seed: int,
) -> Planted:
    """Plant the ``count`` of eight times as many random channels with the largest gradient.

    Args:
        network: The network; it is left alone.
        channels: Its groups.
        group: Name of the group.
        count: Channels to plant.
        batch: What the gradient is taken on.
        seed: Of the draw.
    """
    many = plant(network, channels, {group: count * _DRAWN_PER_CHANNEL}, seed=seed)
    own = many.channels[group]
    scores = _channel_scores(many, group, batch)
    order = planting_edit(channels[group], count * _DRAWN_PER_CHANNEL).keep[group]
    parts = own.by_part
    each = len(planting_edit(channels[group], count).keep[group]) - channels[group].width
    kept = np.flatnonzero(order != PLANT).tolist()
    for part in parts:
        new = part[order[part] == PLANT]
        best = new[np.argsort(-scores[new], kind="stable")[: each // len(parts)]]
        kept += best.tolist()
    chosen = apply_edit(many.network, Edit({group: np.sort(kept)}), many.channels)
    planted = plant_channels(network, planting_edit(channels[group], count), channels)
    with torch.no_grad():
        for name, fresh in planted.fresh.items():
            planted.network.tensor(name)[fresh] = chosen.tensor(name)[fresh]
    return planted


def _gradients(planted: Planted, batch: Batch) -> dict[str, Tensor]:
    """Gradients by the new entries, laid into zeros of each tensor's shape."""
    entries = PlantedEntries(planted).to(batch.images.device).train()
    logits = entries(batch.images)
    classification_loss(logits, batch.labels, batch.taught, batch.loss).backward()
    return entries.gradients()


def _channel_scores(planted: Planted, group: str, batch: Batch) -> np.ndarray:
    """Squared norm of the gradient by the weights that read each channel, ``(width,)``."""
    gradients = _gradients(planted, batch)
    own = planted.channels[group]
    scores = np.zeros(own.width)
    for member in incoming_slices(planted.network, own):
        if member.tensor not in gradients or member.blocks is not None:
            continue
        gradient = gradients[member.tensor].double().square().transpose(0, 1).flatten(1).sum(1)
        scores += gradient.cpu().numpy()[member.positions].sum(axis=1)
    return scores
