"""Nine hierarchical sparsity penalties: settings, values and closed-form gradients.

A *channel* is an outer group, its kernels are the inner ones. Each penalty of a channel is

    outer(sum over its kernels of norm(kernel) ** power)

with the L1 or L2 norm of a kernel and a square root or a square outside. The sums run over all
layers that a channel has a part in, so that coupled layers are penalised as one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch

if TYPE_CHECKING:
    from torch import Tensor

    from nnslim.settings.prune import RegularizerName

__all__ = ["Form", "channel_penalties", "form_of", "kernel_pull"]


@dataclass(frozen=True)
class Form:
    """What makes one penalty differ from the others."""

    norm: Literal[1, 2]  # of a kernel: the sum of magnitudes, or the Euclidean norm
    power: float  # of the norm, inside the sum over a channel's kernels
    outer: Literal["root", "square"]  # of that sum

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
    """Return the form of a penalty (Mitsuno et al., IJCNN 2020, with names of this project).

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

    Each kernel has its norm, ``(K,)``, and the number of its channel, ``(K,)``.

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
