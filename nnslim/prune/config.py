"""What a pruning run does, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial

from nnslim.channels.walk import Shrink
from nnslim.errors import ConfigError
from nnslim.prune.budget import Limit
from nnslim.prune.plan import Metric, Rules
from nnslim.prune.saliency import Saliency
from nnslim.train.config import TrainConfig

__all__ = ["PruneConfig", "SaliencyConfig"]


def _half() -> Mapping[Metric, Limit]:
    return {"params": Limit(0.5, relative=True)}


@dataclass(frozen=True)
class SaliencyConfig:
    """How channels are scored.

    Attributes:
        kind: ``logits``: measured mean squared change of the logits; ``loss``: measured increase of
            the cross-entropy; ``taylor``: its first-order estimate; ``magnitude``: L2 norm of the
            filters, which needs no data.
        samples: Training images to measure on, drawn at random.
        augment: Whether those images are augmented as in training.
        batch_size: Images per forward pass.
    """

    kind: Saliency = "logits"
    samples: int = 512
    augment: bool = True
    batch_size: int = 256

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ConfigError(f"--samples {self.samples}: at least 1 image is needed")


@dataclass(frozen=True)
class PruneConfig:
    """A pruning run, except for the network and the data.

    Attributes:
        limits: What may remain at most, by metric.
        min_width: Channels that every group keeps at least: a share of its width or a number.
        keep: Layers whose groups stay whole.
        per_cost: Rank channels by score per cost in the limited metrics, not by score alone; None
            does so for all but ``magnitude`` (docs/results/saliency.md).
        align: Every group that is cut ends at a multiple of so many channels.
        approximate: Whether groups over which a norm or a mean runs may be cut.
        shrink: What may go where a dimension is split into groups and their members, such as
            attention heads: whole ones, the same number within each, or whichever are more.
        saliency: How channels are scored.
        train: Fine-tuning after the removal; 0 epochs do none.
        batch_size: Images per training step.
        recalibrate_batches: Training batches for new batch norm statistics after the removal; 0
            keeps the old statistics.
        seed: Of everything random.
    """

    limits: Mapping[Metric, Limit] = field(default_factory=_half)
    min_width: Limit = field(default_factory=partial(Limit, 0.1, relative=True))
    keep: tuple[str, ...] = ()
    per_cost: bool | None = None
    align: int = 1
    approximate: bool = False
    shrink: Shrink = "auto"
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    batch_size: int = 128
    recalibrate_batches: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.align < 1:
            raise ConfigError(f"--align {self.align}: at least 1 channel is needed")

    @property
    def rules(self) -> Rules:
        """The part of the configuration that a plan respects."""
        from_data = self.saliency.kind != "magnitude"
        per_cost = from_data if self.per_cost is None else self.per_cost
        return Rules(
            self.limits,
            self.min_width,
            self.keep,
            approximate=self.approximate,
            per_cost=per_cost,
            align=self.align,
        )
