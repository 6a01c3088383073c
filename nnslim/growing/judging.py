"""How the validation images see a network, and what candidates are compared by."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from nnslim.distill import classification_loss

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from nnslim.measure.macs import Costs
    from nnslim.network.network import Network
    from nnslim.run.trainer import Trainer
    from nnslim.settings.grow import Gain, GrowConfig, PerCost

__all__ = ["Judge", "Judged", "added_cost", "merit"]


@dataclass(frozen=True)
class Judged:
    """A network on the validation images: top-1 accuracy, and mean of the loss that is trained.

    The loss includes the teacher's share, and is infinity where a logit is not finite. The
    cross-entropy alone may rise while both this and accuracy improve.
    """

    top1_pct: float
    loss: float

    @classmethod
    def of(cls, record: Mapping[str, object]) -> Judged:
        """Return what ``asdict`` wrote into the record of a stage."""
        return cls(**cast("Mapping[str, float]", record))


class Judge:
    """Judges networks by the validation images; the teacher answers once."""

    def __init__(self, trainer: Trainer[GrowConfig]) -> None:
        self._trainer = trainer
        self._teacher_logits: list[Tensor] | None = None

    def __call__(self, network: Network | nn.Module) -> Judged:
        """Return accuracy and loss; the network stays on the device, in eval mode."""
        config = self._trainer.config.training
        if self._teacher_logits is None and config.distill_weight > 0:
            self._teacher_logits = [logits for logits, _ in self._logits(self._trainer.teacher)]
        right, count, total = 0, 0, 0.0
        for number, (logits, labels) in enumerate(self._logits(network)):
            teacher = None if self._teacher_logits is None else self._teacher_logits[number]
            loss = classification_loss(logits, labels, teacher, config.loss).item()
            total += loss * len(labels)
            finite = logits.isfinite().all(dim=1)  # the largest of NaNs would be class 0
            right += int(((logits.argmax(dim=1) == labels) & finite).sum())
            count += len(labels)
        mean = total / count
        return Judged(100 * right / count, min(float("inf"), mean))

    def _logits(self, network: nn.Module) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield logits (n, K) and labels (n,), both on the CPU."""
        device = self._trainer.context.device
        network.to(device).eval()
        for images, labels in self._trainer.still_images("val"):
            with torch.no_grad():
                yield cast("Tensor", network(images.to(device))).double().cpu(), labels


def merit(judged: Judged, gain: Gain) -> float:
    """What candidates are compared by; more is better."""
    return -judged.loss if gain == "loss" else judged.top1_pct


def added_cost(before: Costs, after: Costs, per_cost: PerCost) -> float:
    """What a gain is divided by, at least 1."""
    match per_cost:
        case "params":
            return float(max(after.params - before.params, 1))
        case "macs" | "latency":  # latency is measured once a candidate is there
            return float(max(after.macs - before.macs, 1))
        case "none":
            return 1.0
