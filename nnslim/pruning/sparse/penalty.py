"""Sparse training: pull the weights of whole channels towards zero while the network trains.

loss gradient ──► strength ──┐
weights ──► nine penalties ──┴──► added to ``.grad``, channel by channel as the focus says
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from nnslim.errors import ConfigError
from nnslim.pruning.sparse.kernels import (
    Kernels,
    WeightTable,
    find_kernels,
    find_weights,
    left_out,
    wanted_groups,
)
from nnslim.pruning.sparse.regularizers import channel_penalties, form_of, kernel_pull

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.network.network import Network
    from nnslim.settings.prune import RegularizerConfig
    from nnslim.surgery import Edit

__all__ = ["Focus", "HierarchicalSparsity", "removed_channels"]

Focus: TypeAlias = Callable[[nn.Module, int, int], Mapping[str, np.ndarray]]

# Share of its past that the norm of the loss's gradient keeps each step: about ten steps long.
_MEMORY = 0.9
# Norms below this are taken for zero: their squares leave the range of float32.
_NO_NORM = 1e-18


class HierarchicalSparsity:
    """A ``GradientPenalty`` that makes whole channels small, over all layers that share them.

    Attributes:
        config: The penalty and its strength.
        groups: Names of the penalised groups.
        left_out: Groups that were to be penalised and are not, and why.
        weights: Factor of each channel's penalty by group, ``(width,)``; what the focus set last.

    Example:
        >>> from nnslim.channels import channel_groups; from nnslim.network import trace_network
        >>> from nnslim.settings.prune import RegularizerConfig
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> config = RegularizerConfig("group_lasso", strength=0.1, balance=1.0)
        >>> penalty = HierarchicalSparsity(net, channel_groups(net), config)
        >>> penalty.start_epoch(net, 0, 1)
        >>> penalty.add_(net, 0, 1)
        >>> round(float(net.tensor("2.weight").grad[:, 0].norm()), 6)
        0.1
    """

    def __init__(
        self,
        network: Network,
        channels: ChannelMap,
        config: RegularizerConfig,
        focus: Focus | None = None,
        *,
        groups: Sequence[str] | None = None,
    ) -> None:
        """Look up the weights; nothing is changed.

        Args:
            network: The network that will train; its ``requires_grad`` decides what is penalised.
            channels: Its groups.
            config: The penalty.
            focus: Called at the start of every epoch with the network, the epoch and the number
                of epochs; returns the factor of each channel's penalty by group. None penalises
                all alike.
            groups: Names of the groups to penalise; None takes all that can be cut exactly.

        Raises:
            ConfigError: A group does not exist or is frozen, or nothing is left to penalise.
        """
        self.config = config
        self._focus = focus
        wanted = wanted_groups(channels, groups)
        self.left_out = left_out(network, wanted, config.sides)
        penalised = [group for group in wanted if group.name not in self.left_out]
        if not penalised:
            why = "; ".join(f"{name}: {reason}" for name, reason in self.left_out.items())
            raise ConfigError("there is no channel to penalise", hint=why or None)
        self._form = form_of(config.name)
        self._table: WeightTable = find_weights(network, penalised, config.sides)
        self._kernels = [
            find_kernels(network, channels, self._table, penalised, side) for side in config.sides
        ]
        self.groups = tuple(group.name for group in penalised)
        self.weights: dict[str, np.ndarray] = {g.name: np.ones(g.width) for g in penalised}
        self._share: Tensor | None = None
        self._loss_norm: Tensor | None = None

    def start_epoch(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Ask the focus which channels to penalise in this epoch.

        Raises:
            ConfigError: The focus leaves a group out or gives impossible factors.
        """
        if self._focus is not None:
            factors = self._focus(network, epoch, epochs)
            self.weights = {name: self._checked(name, factors) for name in self.groups}
            self._share = None

    def add_(self, network: nn.Module, step: int, steps: int) -> None:
        """Add the penalty's gradient to that of the loss; a missing gradient counts as zero."""
        tensors = self._tensors(network)
        flat = self._table.gather(tensors)
        kernels, share = self._on(flat)
        hierarchical, plain = self._gradients(flat, kernels, share)
        balance, strength = self.config.balance, self.config.strength
        if strength == "auto":
            total = _unit_(hierarchical).mul_(balance).add_(_unit_(plain), alpha=1 - balance)
            total = _unit_(total).mul_(self._loss_norm_now(tensors, total))
            total.mul_(self.config.ratio_at(step, steps))
        else:
            total = hierarchical.mul_(strength * balance)
            total.add_(plain, alpha=strength * (1 - balance))
        for tensor, piece in zip(tensors, self._table.pieces(total), strict=True):
            if tensor.grad is None:
                tensor.grad = piece.clone()
            else:
                tensor.grad.add_(piece)

    def penalty_value(self, network: nn.Module) -> dict[str, float]:
        """Return the hierarchical penalty, the L1 norm, and their mixture, in double precision.

        They are the values of the formulas, without a floor, at the channels' current factors.
        """
        flat = self._table.gather(self._tensors(network)).double()
        kernels, share = self._on(flat)
        hierarchical = plain = 0.0
        for side in kernels:
            sums = _norms(self._table, side, flat, 1)
            norms = sums if self._form.norm == 1 else _norms(self._table, side, flat, 2)
            values = channel_penalties(self._form, norms, side.channel, len(share))
            hierarchical += float(values @ share)
            plain += float(sums @ share[side.channel])
        balance = self.config.balance
        total = balance * hierarchical + (1 - balance) * plain
        return {"hierarchical": hierarchical, "l1": plain, "total": total}

    def state(self) -> dict[str, float]:
        """Return the smoothed norm of the loss's gradient, once there is one."""
        return {} if self._loss_norm is None else {"loss_norm": float(self._loss_norm)}

    def restore(self, state: Mapping[str, float]) -> None:
        """Take back what ``state`` returned."""
        norm = state.get("loss_norm")
        # Double precision holds the number of any gradient's type, on its way to that type.
        self._loss_norm = None if norm is None else torch.tensor(norm, dtype=torch.float64)

    def identity(self) -> dict[str, object]:
        """Return the settings, the groups and whether there is a focus."""
        focus = self._focus is not None
        return {**asdict(self.config), "groups": list(self.groups), "focus": focus}

    def _tensors(self, network: nn.Module) -> list[Tensor]:
        parameters = dict(network.named_parameters(remove_duplicate=False))
        return [parameters[name] for name in self._table.names]

    def _on(self, flat: Tensor) -> tuple[list[Kernels], Tensor]:
        """Kernels and factors where the weights are."""
        if self._share is None or self._share.device != flat.device:
            self._kernels = [kernels.to(flat.device) for kernels in self._kernels]
            factors = np.concatenate([*(self.weights[name] for name in self.groups), [0.0]])
            self._share = torch.tensor(factors, dtype=flat.dtype, device=flat.device)
        return self._kernels, self._share.to(flat.dtype)

    def _gradients(
        self, flat: Tensor, kernels: Sequence[Kernels], share: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gradients of the hierarchical penalty and of the L1 norm, ``(N,)`` each."""
        table, form = self._table, self._form
        floor = table.typical(flat).mul_(self.config.floor).clamp_(min=_NO_NORM)  # (n_cells,)
        sign = table.scale_(flat.clone(), 1 / floor).clamp_(-1.0, 1.0)
        pull = flat.new_zeros(table.n_cells)
        plain = torch.zeros_like(pull)
        for side in kernels:
            norms = _norms(table, side, flat, form.norm)
            floors = side.sums(table.taps(flat) * floor.pow(form.norm)).pow_(1 / form.norm)
            pull += kernel_pull(form, norms, floors, side.channel, share)[side.kernel]
            plain += share[side.channel][side.kernel]
        outer = sign.clone() if form.norm == 1 else flat
        return table.scale_(outer, pull), table.scale_(sign, plain)

    def _loss_norm_now(self, tensors: Sequence[Tensor], like: Tensor) -> Tensor:
        """Smooth the norm of the loss's gradient over the steps; one that is not finite is not."""
        gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
        now = nn.utils.get_total_norm(gradients).to(like) if gradients else like.new_zeros(())
        last = now.nan_to_num(0.0, 0.0) if self._loss_norm is None else self._loss_norm.to(like)
        mixed = torch.lerp(now, last, _MEMORY)
        self._loss_norm = torch.where(mixed.isfinite(), mixed, last)
        return self._loss_norm

    def _checked(self, name: str, factors: Mapping[str, np.ndarray]) -> np.ndarray:
        if name not in factors:
            raise ConfigError(f"the focus of the regularizer says nothing about {name}")
        width, array = len(self.weights[name]), np.asarray(factors[name], dtype=np.float64)
        if array.shape != (width,) or not np.isfinite(array).all() or (array < 0).any():
            raise ConfigError(
                f"the focus of the regularizer on {name} must be {width} finite numbers of 0 or"
                f" more, got an array of shape {array.shape}"
            )
        return array


def removed_channels(edit: Edit, channels: ChannelMap) -> dict[str, np.ndarray]:
    """Return the focus on what an edit removes: 1 for those channels, 0 for all that stay."""
    return {
        group.name: 1.0 - np.isin(np.arange(group.width), edit.keep[group.name])
        if group.name in edit.keep
        else np.zeros(group.width)
        for group in channels.prunable
    }


def _norms(table: WeightTable, kernels: Kernels, flat: Tensor, norm: int) -> Tensor:
    """L1 or L2 norm of every kernel, ``(K + 1,)``."""
    sums = kernels.sums(table.cell_sums(flat.abs() if norm == 1 else flat.square()))
    return sums if norm == 1 else sums.sqrt_()


def _unit_(gradient: Tensor) -> Tensor:
    """Divide by the norm, in place; what is nearly nothing stays nearly nothing."""
    return gradient.div_(torch.linalg.vector_norm(gradient).clamp_(min=_NO_NORM))
