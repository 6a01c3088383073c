"""What a pruning run does, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Literal

from nnslim.budget import LatencyBudget, Limit, Metric
from nnslim.channels.walk import Shrink
from nnslim.errors import ConfigError
from nnslim.prune.regularizers import RegularizerConfig
from nnslim.prune.rules import Allocation, Rules
from nnslim.prune.saliency import Saliency
from nnslim.train.config import TrainConfig

__all__ = [
    "LatencyConfig",
    "PruneConfig",
    "RoundConfig",
    "SaliencyConfig",
    "SparseConfig",
]


def _half() -> Mapping[Metric, Limit]:
    return {"params": Limit(0.5, relative=True)}


@dataclass(frozen=True)
class SaliencyConfig:
    """How channels are scored.

    Attributes:
        kind: ``logits``: measured mean squared change of the logits; ``loss``: measured increase of
            the cross-entropy; ``jacobian``: first-order estimate of ``logits`` for all channels at
            once; ``taylor``: first-order estimate of ``loss``; ``magnitude``: L2 norm of the
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
class SparseConfig:
    """Sparse training of the dense network, before the first removal.

    Attributes:
        epochs: Passes over the training data; 0 does none.
        lr: Peak learning rate.
        focus: Pull only at the channels that a plan for the budget would remove from the dense
            network, so that the others keep their weights; without it at every channel.
        deadline: Part of the sparse training after which faded channels are at zero.
        regularizer: The penalty and its strength; None fades the channels in focus, see
            ``nnslim.prune.fading``.
    """

    epochs: int = 0
    lr: float = 0.01
    focus: bool = True
    deadline: float = 0.7
    regularizer: RegularizerConfig | None = None

    def __post_init__(self) -> None:
        if self.epochs < 0 or not self.lr > 0:
            raise ConfigError(
                f"sparse training of {self.epochs} epochs at learning rate {self.lr}",
                hint="give 0 or more epochs and a positive rate",
            )
        if not 0 < self.deadline <= 1:
            raise ConfigError(f"fading by {self.deadline} of the training: above 0 and up to 1")
        if self.epochs and self.regularizer is None and not self.focus:
            raise ConfigError(
                "fading needs to know which channels will go",
                hint="leave out --no-focus, or name a penalty with --regularizer",
            )


@dataclass(frozen=True)
class RoundConfig:
    """Removal in rounds, each scored on what the one before has left.

    Attributes:
        rounds: How many; the budget is approached by equal factors.
        epochs: Short recovery between two rounds, in epochs.
        lr: Its peak learning rate.
    """

    rounds: int = 1
    epochs: int = 1
    lr: float = 0.02

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.epochs < 0 or not self.lr > 0:
            raise ConfigError(
                f"{self.rounds} rounds with {self.epochs} epochs between at rate {self.lr}",
                hint="give at least 1 round, 0 or more epochs and a positive rate",
            )


@dataclass(frozen=True)
class LatencyConfig:
    """Latency as measured in onnxruntime on the run's device.

    Attributes:
        budget: What may remain at most, or None.
        batch_sizes: Images per run; the budget holds at each, and the result is measured at each.
            None at all measures nothing.
        threads: Threads on the CPU; None is one per core.
    """

    budget: LatencyBudget | None = None
    batch_sizes: tuple[int, ...] = (1,)
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.budget is not None and not self.batch_sizes:
            raise ConfigError("a latency budget needs a batch size to hold at")


@dataclass(frozen=True)
class PruneConfig:
    """A pruning run, except for the network and the data.

    Attributes:
        limits: What may remain at most, by metric.
        min_width: Channels that every group keeps at least: a share of its width or a number.
        keep: Layers whose groups stay whole.
        keep_streams: Whether residual streams stay whole.
        allocation: ``global`` ranks the channels of all groups together, ``even`` takes the same
            share of every group that may be cut.
        per_cost: Rank channels by score per cost in the limited metrics, not by score alone; None
            does so for all but ``magnitude`` (docs/results/saliency.md).
        align: Every group that is cut ends at a multiple of so many channels; ``auto`` chooses by
            measured latency.
        latency: A budget in measured latency, and how latency is measured.
        approximate: Whether groups over which a norm or a mean runs may be cut.
        shrink: What may go where a dimension is split into groups and their members, such as
            attention heads: whole ones, the same number within each, or whichever are more.
        max_drop: Instead of budgets: prune as far as the validation accuracy, after recovery,
            stays within so many percentage points of the dense network's.
        saliency: How channels are scored.
        sparse: Sparse training before the removal.
        rounds: The removal in rounds.
        train: Fine-tuning after the removal; 0 epochs do none.
        batch_size: Images per training step.
        refit_images: Training images on which the weights that are left are fitted anew after each
            removal (``nnslim.prune.refit``); 0 fits none; None takes 512 where no training follows,
            which ends better without (docs/prune.md).
        recalibrate_batches: Without that, training batches for new batch norm statistics after each
            removal; 0 keeps the old statistics.
        seed: Of everything random.
    """

    limits: Mapping[Metric, Limit] = field(default_factory=_half)
    min_width: Limit = field(default_factory=partial(Limit, 0.1, relative=True))
    keep: tuple[str, ...] = ()
    keep_streams: bool = False
    allocation: Allocation = "global"
    per_cost: bool | None = None
    align: int | Literal["auto"] = 1
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    approximate: bool = False
    shrink: Shrink = "auto"
    max_drop: float | None = None
    saliency: SaliencyConfig = field(default_factory=SaliencyConfig)
    sparse: SparseConfig = field(default_factory=SparseConfig)
    rounds: RoundConfig = field(default_factory=RoundConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    batch_size: int = 128
    refit_images: int | None = None
    recalibrate_batches: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        if self.align != "auto" and self.align < 1:
            raise ConfigError(f"--align {self.align}: at least 1 channel is needed")
        if self.max_drop is not None and self.sparse.epochs and self.sparse.regularizer is None:
            raise ConfigError(
                "--max-drop does not say beforehand which channels will go, so none can fade",
                hint="give --sparse-epochs 0, or name a penalty with --regularizer",
            )
        if self.measures_plans and (self.rounds.rounds > 1 or self.max_drop is not None):
            asked = "--align auto" if self.latency.budget is None else "a latency budget"
            raise ConfigError(f"{asked} is met in one round", hint="give --rounds 1")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise ConfigError(f"--max-drop {self.max_drop}: percentage points from 0 to 100")

    @property
    def n_refit(self) -> int:
        """Training images for the fit after a removal."""
        if self.refit_images is not None:
            return self.refit_images
        recovers = self.rounds.epochs > 0 and (self.rounds.rounds > 1 or self.max_drop is not None)
        return 0 if self.train.epochs or recovers else 512

    @property
    def without_data(self) -> PruneConfig:
        """What is left of it where there are no images: one cut, nothing trained or fitted."""
        return replace(
            self,
            sparse=replace(self.sparse, epochs=0),
            rounds=replace(self.rounds, rounds=1),
            train=replace(self.train, epochs=0),
            refit_images=0,
            recalibrate_batches=0,
        )

    @property
    def measures_plans(self) -> bool:
        """Whether plans are measured before one is chosen."""
        return self.latency.budget is not None or self.align == "auto"

    @property
    def rules(self) -> Rules:
        """What a plan respects whatever the network, whose residual streams are not known here."""
        from_data = self.saliency.kind != "magnitude"
        per_cost = from_data if self.per_cost is None else self.per_cost
        return Rules(
            self.limits,
            min_width=self.min_width,
            keep=self.keep,
            approximate=self.approximate,
            allocation=self.allocation,
            per_cost=per_cost,
            align=1 if self.align == "auto" else self.align,
        )

    @property
    def sparse_training(self) -> TrainConfig:
        """Training under the penalty."""
        return replace(self.train, epochs=self.sparse.epochs, lr=self.sparse.lr)

    @property
    def recovery(self) -> TrainConfig:
        """Training between two rounds."""
        return replace(self.train, epochs=self.rounds.epochs, lr=self.rounds.lr)
