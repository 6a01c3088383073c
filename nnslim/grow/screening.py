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

from nnslim.distill import classification_loss
from nnslim.grow.planting import plant, planting_edit
from nnslim.grow.training import PlantedEntries
from nnslim.surgery import PLANT, Edit, Planted, apply_edit, plant_channels

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap, Member
    from nnslim.distill import LossConfig
    from nnslim.network.network import Network

__all__ = ["Batch", "Site", "best_channels", "first_order_gain", "gradmax_channels"]

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


@dataclass(frozen=True)
class Site:
    """Where channels are planted.

    Attributes:
        network: The network; it is left alone.
        channels: Its groups.
        group: Name of the group.
        count: Channels to plant.
        seed: Of the draw.
    """

    network: Network
    channels: ChannelMap
    group: str
    count: int
    seed: int


def first_order_gain(planted: Planted, batch: Batch) -> float:
    """Squared norm of the gradient of the loss by the new entries, over a batch."""
    gradients = _gradients(planted, batch)
    return float(sum(gradient.double().square().sum() for gradient in gradients.values()))


def best_channels(site: Site, batch: Batch) -> Planted:
    """Plant those of eight times as many random channels whose gradient is largest."""
    drawing = _draw(site)
    scores = _norms(drawing.reading_gradients(batch))
    best = [
        new[np.argsort(-scores[new], kind="stable")[: drawing.each]] for new in drawing.new_by_part
    ]
    return drawing.chosen(np.concatenate(best))


def gradmax_channels(site: Site, batch: Batch) -> Planted:
    """Plant the orthogonal combinations of random channels whose gradient is largest.

    To first order the gradient by what reads a channel is linear in the weights that produce it, so
    the unit combinations with the largest gradients are singular vectors (GradMax, Evci et al.,
    2022, there over all weights; here over the span of eight times as many draws as channels). Of a
    combination and its negative, between which an activation differs, the better one is kept.
    """
    drawing = _draw(site)
    gradients = drawing.reading_gradients(batch)
    for new in drawing.new_by_part:
        mix = _singular(drawing.weights(new), gradients[new])[: drawing.each]
        drawing.combine(new, np.concatenate([mix, -mix]))
    scores = _norms(drawing.reading_gradients(batch))
    best: list[np.ndarray] = []
    for new in drawing.new_by_part:
        pairs = new[: 2 * drawing.each].reshape(2, -1)
        best.append(np.where(scores[pairs[0]] >= scores[pairs[1]], *pairs))
    return drawing.chosen(np.concatenate(best))


def _singular(weights: np.ndarray, gradients: np.ndarray) -> np.ndarray:
    """Coefficients (n, D) of D draws, for combinations as large as a draw, largest gradient first.

    Args:
        weights: What produces each draw, (D, n_inputs).
        gradients: By what reads each draw, (D, n_outputs).
    """
    left, sizes, _ = np.linalg.svd(weights, full_matrices=False)
    whole = sizes > 1e-9 * sizes[0]
    basis = left[:, whole] / sizes[whole]  # orthonormal combinations of the draws, as columns
    directions, _, _ = np.linalg.svd(basis.T @ gradients)
    mean_norm = np.linalg.norm(weights, axis=1).mean()
    mix = mean_norm * (basis @ directions).T
    # More channels than dimensions: the rest are the draws themselves.
    return np.concatenate([mix, np.eye(len(weights))])


@dataclass(frozen=True)
class _Drawn:
    """Many channels planted at a site, of which a few are to stay."""

    site: Site
    many: Planted

    @property
    def each(self) -> int:
        """Channels to plant into each part."""
        own = self.site.channels[self.site.group]
        return (len(self._edit(self.site.count)) - own.width) // len(own.by_part)

    @property
    def new_by_part(self) -> list[np.ndarray]:
        """The drawn channels of each part."""
        order = self._edit(self.site.count * _DRAWN_PER_CHANNEL)
        parts = self.many.channels[self.site.group].by_part
        return [own[order[own] == PLANT] for own in parts]

    def reading_gradients(self, batch: Batch) -> np.ndarray:
        """Gradients by the weights that read each channel of the group, (width, n_outputs)."""
        gradients = _gradients(self.many, batch)
        own = self.many.channels[self.site.group]
        found = [np.zeros((own.width, 0))]
        for member in own.incoming:
            if member.tensor not in gradients or member.blocks is not None:
                continue
            gradient = gradients[member.tensor].double().transpose(0, 1).flatten(1).cpu().numpy()
            found.append(gradient[member.positions].reshape(own.width, -1))
        return np.concatenate(found, axis=1)

    def weights(self, drawn: np.ndarray) -> np.ndarray:
        """What produces each of some drawn channels, (n, n_inputs)."""
        parts = [self.many.network.tensor(m.tensor)[_rows(m, drawn)] for m in self._members()]
        flat = [part.detach().double().reshape(len(drawn), -1) for part in parts]
        return torch.cat(flat, dim=1).numpy()

    def combine(self, drawn: np.ndarray, mix: np.ndarray) -> None:
        """Replace the first of some drawn channels by combinations of all of them, in place."""
        with torch.no_grad():
            for member in self._members():
                weight = self.many.network.tensor(member.tensor)
                rows = weight[_rows(member, drawn)].double().reshape(len(drawn), -1)
                mixed = torch.from_numpy(mix) @ rows
                first = _rows(member, drawn[: len(mix)])
                weight[first] = mixed.reshape(weight[first].shape).to(weight)

    def chosen(self, best: np.ndarray) -> Planted:
        """Plant some of the drawn channels, as many as were asked for, and no others."""
        site = self.site
        order = self._edit(site.count * _DRAWN_PER_CHANNEL)
        kept = np.sort(np.concatenate([np.flatnonzero(order != PLANT), best]))
        source = apply_edit(self.many.network, Edit({site.group: kept}), self.many.channels)
        edit = planting_edit(site.channels[site.group], site.count)
        planted = plant_channels(site.network, edit, site.channels)
        with torch.no_grad():
            for name, fresh in planted.fresh.items():
                planted.network.tensor(name)[fresh] = source.tensor(name)[fresh]
        return planted

    def _edit(self, count: int) -> np.ndarray:
        return planting_edit(self.site.channels[self.site.group], count).keep[self.site.group]

    def _members(self) -> tuple[Member, ...]:
        return self.many.channels[self.site.group].outgoing


def _draw(site: Site) -> _Drawn:
    """Plant eight times as many random channels, to choose from."""
    counts = {site.group: site.count * _DRAWN_PER_CHANNEL}
    return _Drawn(site, plant(site.network, site.channels, counts, seed=site.seed))


def _rows(member: Member, drawn: np.ndarray) -> Tensor:
    return torch.from_numpy(member.positions[drawn].ravel())


def _gradients(planted: Planted, batch: Batch) -> dict[str, Tensor]:
    """Gradients by the new entries, laid into zeros of each tensor's shape."""
    entries = PlantedEntries(planted).to(batch.images.device).train()
    logits = entries(batch.images)
    classification_loss(logits, batch.labels, batch.taught, batch.loss).backward()
    return entries.gradients()


def _norms(gradients: np.ndarray) -> np.ndarray:
    """Squared norm of each row."""
    return np.square(gradients).sum(axis=1)
