"""What a pruning run does, as one value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeAlias

from nnslim.errors import ConfigError
from nnslim.settings.budget import LatencyBudget, Limit, Metric
from nnslim.settings.limits import budgets
from nnslim.settings.option import AUTO, flag, option, section
from nnslim.settings.train import TrainConfig
from nnslim.settings.tree import Checked

__all__ = [
    "Allocation",
    "Axis",
    "LatencyConfig",
    "Penalty",
    "ProfileName",
    "PruneConfig",
    "RegularizerConfig",
    "RegularizerName",
    "RoundConfig",
    "Saliency",
    "SaliencyConfig",
    "Shrink",
    "Side",
    "SparseConfig",
]

Allocation: TypeAlias = Literal["global", "even"]
ProfileName: TypeAlias = Literal["fast", "balanced", "best"]
Saliency: TypeAlias = Literal["loss", "logits", "jacobian", "taylor", "magnitude"]
Shrink: TypeAlias = Literal["auto", "whole", "within"]
Side: TypeAlias = Literal["feature", "neuron"]
Axis: TypeAlias = Literal["feature", "neuron", "both"]
Penalty: TypeAlias = Literal[
    "group_lasso",
    "hierarchical_sqrt_group_lasso",
    "hierarchical_squared_group_lasso",
    "exclusive_sparsity",
    "hierarchical_sqrt_exclusive",
    "hierarchical_squared_exclusive",
    "group_l12",
    "hierarchical_sqrt_group_l12",
    "hierarchical_squared_group_l12",
]
RegularizerName: TypeAlias = Literal["fading", Penalty]


@dataclass(frozen=True)
class SaliencyConfig(Checked, panel="Method", section="saliency."):
    """How channels are scored.

    ``logits`` measures the mean squared change of the logits, ``loss`` the increase of the
    cross-entropy; ``jacobian`` and ``taylor`` are first-order estimates of the two for all channels
    at once; ``magnitude`` is the L2 norm of the filters, which needs no data.
    """

    kind: Saliency = flag(
        AUTO,
        "How channels are scored: loss, logits, jacobian, taylor or magnitude.",
        "saliency",
        metavar="NAME",
        auto="by profile; without data magnitude",
    )
    samples: int = option(
        AUTO, "Training images that channels are scored on.", low=1, auto="by profile"
    )
    augment: bool = option(True, "Score on augmented images, as in training.")
    batch_size: int = option(256, "Images per forward pass of scoring.", low=1)


@dataclass(frozen=True)
class RegularizerConfig(Checked, panel="Method", section="sparse.regularizer."):
    """What pulls channels towards zero in sparse training, and how strongly.

    ``fading`` (``nnslim.pruning.sparse.fading``) ends at zero and has no strength. The other nine
    are penalties (Mitsuno et al., IJCNN 2020, with this project's names);
    docs/explanation/sparse-training.md.

    Example:
        >>> RegularizerConfig(strength=1e-4).strength
        0.0001
    """

    name: RegularizerName = flag(
        "group_lasso",
        "What pulls channels towards zero in sparse training: fading, or one of nine penalties.",
        "regularizer",
        metavar="NAME",
    )
    axis: Axis = option(
        "feature",
        "Weights a penalty is on: those that read a channel, those that produce it, or both.",
    )
    balance: float = option(
        0.5, "Share of the hierarchical penalty beside the L1 norm.", low=0, high=1
    )
    strength: float | Literal["auto"] = option(
        "auto", "Factor of a penalty; auto follows the loss's gradient.", low=0
    )
    ratio: float = option(
        100.0,
        "With strength auto: norm of the penalty's gradient over that of the loss's at the end.",
        low=0,
    )
    growth: float = option(
        1.0,
        "With strength auto: part of the ratio that is reached linearly over the training.",
        low=0,
        high=1,
    )
    floor: float = option(
        0.05,
        "Share of a tensor's root mean square below which the pull on a weight fades.",
        above=0,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == "fading" and self.strength != "auto":
            raise ConfigError(
                f"[[sparse.regularizer.strength={self.strength:g}]]: fading has none",
                hint="name a penalty with [[sparse.regularizer.name]]",
            )

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides of the weights that are penalised."""
        return ("feature", "neuron") if self.axis == "both" else (self.axis,)

    def ratio_at(self, step: int, steps: int) -> float:
        """Return the ratio of the gradients' norms at a step, from 0, of a run.

        Example:
            >>> [RegularizerConfig(ratio=2.0).ratio_at(step, 4) for step in range(4)]
            [0.5, 1.0, 1.5, 2.0]
        """
        return self.ratio * (1 - self.growth + self.growth * (step + 1) / steps)


@dataclass(frozen=True)
class SparseConfig(Checked, panel="Method", section="sparse."):
    """Sparse training of the dense network, before the first removal."""

    epochs: int = flag(
        AUTO,
        "Epochs of sparse training before the removal.",
        "sparse-epochs",
        low=0,
        auto="by profile; at least 2 with a penalty",
    )
    lr: float = option(0.01, "Peak learning rate of the sparse training.", above=0)
    focus: bool = option(True, "Pull only at the channels that the budget would remove.")
    deadline: float = option(
        0.7, "Part of the sparse training after which faded channels are at zero.", above=0, high=1
    )
    regularizer: RegularizerConfig = section(partial(RegularizerConfig, "fading"))

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.fades and not self.focus and self.epochs not in {0, AUTO}:
            raise ConfigError(
                "[[sparse.focus=false]]: fading needs to know which channels will go",
                hint="leave it out, or name a penalty with [[sparse.regularizer.name]]",
            )

    @property
    def fades(self) -> bool:
        """Whether channels fade to zero, instead of a penalty."""
        return self.regularizer.name == "fading"


@dataclass(frozen=True)
class RoundConfig(Checked, panel="Method", section="rounds."):
    """Removal in rounds, each scored on what the one before has left."""

    count: int = option(
        AUTO,
        "Rounds of removal; the budget is approached by equal factors.",
        low=1,
        auto="by profile",
    )
    epochs: int = option(
        AUTO,
        "Epochs of recovery between two rounds.",
        low=0,
        auto="by profile; at least 1 with max_drop",
    )
    lr: float = option(0.02, "Peak learning rate of the recovery between two rounds.", above=0)


@dataclass(frozen=True)
class LatencyConfig(Checked, panel="Budget", section="latency."):
    """Latency as measured in onnxruntime on the run's device."""

    budget: LatencyBudget | None = flag(
        None,
        "Latency that may remain, measured in onnxruntime on this device: 60% or 1.5ms.",
        "latency",
    )
    batch_sizes: tuple[int, ...] = option(
        (1,),
        "Batch sizes that a latency budget holds at, and that latency is measured at: 1,32.",
        low=1,
    )
    threads: int | None = option(
        None, "Threads that latency is measured with on the CPU; none is one per core.", low=1
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.budget is not None and not self.batch_sizes:
            raise ConfigError("[[latency.budget]] needs one of [[latency.batch_sizes]] to hold at")


@dataclass(frozen=True)
class PruneConfig(Checked, panel="Method"):
    """A pruning run, except for the network and the data.

    What is ``AUTO`` is decided by ``nnslim.settings.resolved``, by the profile and by whether there
    are images, when the run begins.

    Example:
        >>> PruneConfig(rounds=RoundConfig(2)).rounds.count
        2
    """

    limits: Mapping[Metric, Limit] = budgets(
        "that may remain", default="50% of the parameters, without another budget", share="50%"
    )
    latency: LatencyConfig = section(LatencyConfig)
    max_drop: float | None = flag(
        None,
        "Instead of a budget: prune as far as this loss of validation accuracy allows, in points.",
        metavar="POINTS",
        low=0,
        high=100,
        panel="Budget",
    )
    profile: ProfileName = flag(
        "balanced",
        "How to cut and how long to train where nothing else says: fast, balanced or best.",
        metavar="NAME",
    )
    saliency: SaliencyConfig = section(SaliencyConfig)
    keep: tuple[str, ...] = flag(
        (),
        "Layer whose channels all stay, those it makes and those it reads; repeatable.",
        metavar="LAYER",
    )
    keep_streams: bool = option(
        AUTO,
        "Leave residual streams whole, the sums of several layers' outputs.",
        auto="by profile; without data false",
    )
    min_width: Limit = option(
        Limit(0.1, relative=True),
        "Channels that every group keeps at least: a share of its width, or a number.",
    )
    align: int | Literal["auto"] = flag(
        1,
        "Every group that is cut ends at a multiple of N channels; auto measures which pays.",
        metavar="N|auto",
        low=1,
    )
    approximate: bool = flag(
        False, "Cut channels that a norm runs over too, such as a transformer's residual stream."
    )
    shrink: Shrink = option(
        "auto", "Drop whole attention heads and groups, as many within each, or the more numerous."
    )
    allocation: Allocation = option(
        AUTO,
        "Where channels go: by score among all groups, or the same share of every group.",
        auto="by profile; without data global",
    )
    per_cost: bool = option(
        AUTO, "Rank by score per cost in the budget, not by score.", auto="for all but magnitude"
    )
    sparse: SparseConfig = section(SparseConfig)
    rounds: RoundConfig = section(RoundConfig)
    refit_images: int = option(
        AUTO,
        "Training images that weights are fitted on after a removal; 0 fits none.",
        low=0,
        auto="512 where no training follows, else 0",
    )
    recalibrate_batches: int = option(
        AUTO,
        "Training batches for new batch norm statistics, without a fit; 0 keeps the old ones.",
        low=0,
        auto="50; without data 0",
    )
    training: TrainConfig = section(TrainConfig)
    batch_size: int = flag(128, "Images per training step.", low=2, panel="Training")
    seed: int = flag(0, "Seed of everything random.", low=0, panel="Expert")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_drop is not None and self.sparse.fades and self.sparse.epochs not in {0, AUTO}:
            raise ConfigError(
                "[[max_drop]] does not say beforehand which channels will go, so none can fade",
                hint="give [[sparse.epochs=0]], or a penalty with [[sparse.regularizer.name]]",
            )
        budgets_said = [*(() if self.limits is AUTO else self.limits)]
        budgets_said += [] if self.latency.budget is None else ["latency.budget"]
        many = self.rounds.count is not AUTO and self.rounds.count > 1
        if self.max_drop is not None and budgets_said:
            raise ConfigError(
                f"[[max_drop]] prunes as far as it allows, [[{budgets_said[0]}]] says how far",
                hint="give one",
            )
        if self.max_drop is not None and many:
            raise ConfigError(
                f"[[rounds.count={self.rounds.count}]]: [[max_drop]] takes as many rounds as it"
                " needs",
                hint="give one",
            )
        if self.measures_plans and (many or self.max_drop is not None):
            asked = "[[align=auto]]" if self.latency.budget is None else "[[latency.budget]]"
            raise ConfigError(f"{asked} is met in one round", hint="give [[rounds.count=1]]")

    @property
    def measures_plans(self) -> bool:
        """Whether plans are measured before one is chosen."""
        return self.latency.budget is not None or self.align == "auto"

    @property
    def sparse_training(self) -> TrainConfig:
        """Training under the penalty."""
        return replace(self.training, epochs=self.sparse.epochs, lr=self.sparse.lr)

    @property
    def recovery(self) -> TrainConfig:
        """Training between two rounds."""
        return replace(self.training, epochs=self.rounds.epochs, lr=self.rounds.lr)
