"""Losses and hits of one epoch, left on the device until somebody must look."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from nnslim.processes import sum_

__all__ = ["Tally"]


class Tally:
    """Counts the steps of one epoch.

    Example:
        >>> tally = Tally(2, torch.device("cpu"))
        >>> tally.add(torch.tensor(0.5), torch.eye(2), torch.tensor([0, 0]))
        >>> tally.steps, tally.losses(0), tally.top1()
        (1, [0.5], 50.0)
    """

    def __init__(self, steps: int, device: torch.device) -> None:
        self._losses = torch.zeros(steps, device=device)
        # Right answers and images of this process.
        self._hits = torch.zeros(2, dtype=torch.int64, device=device)
        self.steps = 0

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Count a step: its loss, logits (N, K) and labels (N,)."""
        self._losses[self.steps] = loss.detach()
        self._hits[0] += (logits.detach().argmax(dim=1) == labels).sum()
        self._hits[1] += len(labels)
        self.steps += 1

    def losses(self, start: int) -> list[float]:
        """Return the losses from step ``start``, the first being 0."""
        return self._losses[start : self.steps].tolist()

    def mean_loss(self) -> float:
        """Return the mean over the steps."""
        return math.fsum(self.losses(0)) / self.steps

    def top1(self) -> float:
        """Return the accuracy in percent on the images of all processes."""
        hits = self._hits.clone()
        sum_([hits])
        right, images = hits.tolist()
        return 100.0 * right / images

    def tensors(self) -> dict[str, Tensor]:
        """Return what a checkpoint in the middle of an epoch must keep."""
        return {"losses": self._losses[: self.steps], "hits": self._hits}

    def restore(self, tensors: Mapping[str, Tensor]) -> None:
        """Take back what ``tensors`` returned."""
        self.steps = len(tensors["losses"])
        self._losses[: self.steps] = tensors["losses"]
        self._hits.copy_(tensors["hits"])
