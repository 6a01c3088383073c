"""Nine hierarchical sparsity penalties: settings, values and closed-form gradients.

A *channel* is an outer group, its kernels are the inner ones. Each penalty of a channel is

    outer(sum over its kernels of norm(kernel) ** power)

with the L1 or L2 norm of a kernel and a square root or a square outside. The sums run over all
layers that a channel has a part in, so that coupled layers are penalised as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import torch

from nnslim.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

__all__ = [
    "Axis",
    "Form",
    "RegularizerConfig",
    "RegularizerName",
    "Side",
    "channel_penalties",
    "form_of",
    "kernel_pull",
]

Side: TypeAlias = Literal["feature", "neuron"]
Axis: TypeAlias = Literal["feature", "neuron", "both"]

RegularizerName: TypeAlias = Literal[
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


@dataclass(frozen=True)
class RegularizerConfig:
    """Which penalty, of what, and how strong.

    Attributes:
        name: The hierarchical penalty.
        axis: What belongs to a channel: ``feature`` the weights that read it, ``neuron`` those that
            produce it, ``both``.
        balance: Share of the hierarchical penalty, in [0, 1]; the rest is the L1 norm of the same
            weights. Of the penalties at a fixed strength, of the norms of their gradients at
            ``auto``, so that a half is a half for all nine.
        strength: Factor of the penalty; ``auto`` scales its gradient with the loss's gradient.
        ratio: At ``auto``: norm of the penalty's gradient, over that of the loss's gradient with
            respect to the same tensors, at the last step.
        growth: At ``auto``: part of ``ratio`` that is reached linearly over the run, in [0, 1]; 0
            holds it from the first step, 1 starts near zero.
        floor: Share of its tensor's root mean square below which a weight is as good as zero: the
            pull fades linearly there, so that steps do not jump across zero.

    Raises:
        ConfigError: A value is outside its range.

    Example:
        >>> RegularizerConfig(strength=1e-4).strength
        0.0001
    """

    name: RegularizerName = "group_lasso"
    axis: Axis = "feature"
    balance: float = 0.5
    strength: float | Literal["auto"] = "auto"
    ratio: float = 100.0
    growth: float = 1.0
    floor: float = 0.05

    def __post_init__(self) -> None:
        if self.name not in get_args(RegularizerName):
            hint = f"take one of {', '.join(get_args(RegularizerName))}"
            raise ConfigError(f"there is no regularizer {self.name!r}", hint=hint)
        infinity = float("inf")
        strength = 0.0 if self.strength == "auto" else self.strength
        checks = {
            f"axis must be feature, neuron or both, got {self.axis}": self.axis in get_args(Axis),
            f"balance must be in [0, 1], got {self.balance}": 0 <= self.balance <= 1,
            f"strength must be auto or a finite number of 0 or more, got {self.strength}": 0
            <= strength
            < infinity,
            f"ratio must be 0 or more and finite, got {self.ratio}": 0 <= self.ratio < infinity,
            f"growth must be in [0, 1], got {self.growth}": 0 <= self.growth <= 1,
            f"floor must be positive and finite, got {self.floor}": 0 < self.floor < infinity,
        }
        if problem := next((text for text, holds in checks.items() if not holds), None):
            raise ConfigError(f"regularizer: {problem}")

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
class Form:
    """What makes one penalty differ from the others.

    Attributes:
        norm: Norm of a kernel: 1 for the sum of magnitudes, 2 for the Euclidean one.
        power: Of the norm, inside the sum over a channel's kernels.
        outer: What is applied to that sum.
    """

    norm: Literal[1, 2]
    power: float
    outer: Literal["root", "square"]

    @property
    def degree(self) -> float:
        """How the penalty of a channel scales with its weights: ``t ** degree``.

        The gradient scales with ``t ** (degree - 1)``: above 1 it vanishes as a channel nears
        zero, at 1 it keeps its size, below 1 it grows.

        Example:
            >>> form_of("exclusive_sparsity").degree, form_of("hierarchical_sqrt_group_l12").degree
            (2.0, 0.25)
        """
        return self.power * (2.0 if self.outer == "square" else 0.5)


def form_of(name: RegularizerName) -> Form:
    """Return the form of a penalty (Mitsuno et al., IJCNN 2020, with this project's own names).

    Raises:
        KeyError: There is no penalty of this name.

    Example:
        >>> form_of("group_lasso")
        Form(norm=2, power=2, outer='root')
    """
    forms: dict[RegularizerName, Form] = {
        "group_lasso": Form(2, 2, "root"),
        "hierarchical_sqrt_group_lasso": Form(2, 1, "root"),
        "hierarchical_squared_group_lasso": Form(2, 1, "square"),
        "exclusive_sparsity": Form(1, 1, "square"),
        "hierarchical_sqrt_exclusive": Form(1, 2, "root"),
        "hierarchical_squared_exclusive": Form(1, 2, "square"),
        "group_l12": Form(1, 1, "root"),
        "hierarchical_sqrt_group_l12": Form(1, 0.5, "root"),
        "hierarchical_squared_group_l12": Form(1, 0.5, "square"),
    }
    return forms[name]


def channel_penalties(form: Form, norms: Tensor, channel: Tensor, n_channels: int) -> Tensor:
    """Return the penalty of every channel, ``(n_channels,)``.

    Args:
        form: The penalty.
        norms: Norm of each kernel, ``(K,)``.
        channel: Number of each kernel's channel, ``(K,)``.
        n_channels: How many channels there are.

    Example:
        >>> norms, channel = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 0, 1])
        >>> channel_penalties(form_of("exclusive_sparsity"), norms, channel, 2)
        tensor([9., 9.])
    """
    sums = _channel_sums(form, norms, channel, n_channels)
    return sums.sqrt() if form.outer == "root" else sums.square()


def kernel_pull(
    form: Form, norms: Tensor, floors: Tensor, channel: Tensor, share: Tensor
) -> Tensor:
    """Return the factor per kernel that makes a gradient of its weights, ``(K,)``.

    The gradient of ``(share * channel_penalties(...)).sum()`` is this factor times ``sign(w)``
    where the form takes L1 norms, times ``w`` where it takes L2 norms. Factors that would grow
    without bound stop growing where a kernel is smaller than its floor, and where a channel is
    smaller than one whose kernels all stand on their floors: together with a sign that fades in
    the same way, a gradient is exact above the floors, bounded below them, and zero at zero.

    Args:
        form: The penalty.
        norms: Norm of each kernel, ``(K,)``.
        floors: Positive floor of each kernel's norm, ``(K,)``.
        channel: Number of each kernel's channel, ``(K,)``.
        share: Factor of each channel's penalty, ``(C,)``.

    Example:
        >>> norms, channel = torch.tensor([3.0, 4.0]), torch.tensor([0, 0])
        >>> floors, share = torch.full((2,), 1e-4), torch.ones(1)
        >>> kernel_pull(form_of("group_lasso"), norms, floors, channel, share)  # w / 5
        tensor([0.2000, 0.2000])
    """
    sums = _channel_sums(form, norms, channel, len(share))
    if form.outer == "square":
        slope = 2.0 * sums
    else:
        lowest = _channel_sums(form, floors, channel, len(share))
        slope = 0.5 * torch.maximum(sums, lowest).clamp_(min=torch.finfo(sums.dtype).tiny).rsqrt_()
    exponent = form.power - form.norm
    inner = (share * slope * form.power)[channel]
    if exponent == 0:
        return inner
    safe = norms if exponent > 0 else torch.maximum(norms, floors)
    return inner * safe.pow(exponent)


def _channel_sums(form: Form, norms: Tensor, channel: Tensor, n_channels: int) -> Tensor:
    """Sum the powers of the kernels' norms over each channel, ``(n_channels,)``."""
    powers = norms if form.power == 1 else norms.pow(form.power)
    return norms.new_zeros(n_channels).index_add_(0, channel, powers)
