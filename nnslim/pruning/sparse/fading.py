"""Fading: bring the channels that will go to zero by a deadline, while the network adapts.

Each step is the proximal step of a group lasso whose strength for channel c is ``|w_c| / (T - t)``,
at step t of T: the one that ends at exactly zero at T, whatever the loss's gradient is. A penalty
of one strength for all leaves a remainder, which the removal then takes away at once. T lies before
the end of the run, so that the learning rate is still large when the last of a channel goes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from nnslim.pruning.sparse.kernels import slices

if TYPE_CHECKING:
    from nnslim.channels import ChannelMap
    from nnslim.network.network import Network

__all__ = ["Fading"]


class Fading:
    """A ``GradientPenalty`` that scales the weights that read the channels that will go.

    Example:
        >>> from nnslim.channels import channel_groups; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> fading = Fading(net, channel_groups(net), {"0": np.array([1.0] + 7 * [0.0])})
        >>> fading.add_(net, 9, 10)
        >>> weight = net.tensor("2.weight")
        >>> bool(weight[:, 0].any()), bool(weight[:, 1].any())
        (False, True)
    """

    def __init__(
        self,
        network: Network,
        channels: ChannelMap,
        going: Mapping[str, np.ndarray],
        deadline: float = 0.7,
    ) -> None:
        """Look up the weights; nothing is changed.

        ``going`` has by group 1 for each channel that will be removed, else 0, ``(width,)``;
        ``deadline`` is the part of the run, up to 1, after which they are at zero.
        """
        self._deadline = deadline
        self._going = {name: flags.tolist() for name, flags in going.items() if flags.any()}
        self._masks: dict[str, Tensor] = {}
        for name in self._going:
            for member in slices(network, channels[name], "feature"):
                weight = network.tensor(member.tensor)
                mask = self._masks.setdefault(member.tensor, torch.zeros_like(weight))
                chosen = going[name] > 0
                positions = torch.from_numpy(member.positions[chosen].ravel())
                if member.blocks is None:
                    mask.index_fill_(member.dim, positions.to(mask.device), 1.0)
                    continue
                rows = channels.tensors[member.tensor][member.dim]
                assert rows is not None, "a member stands where labels do"
                blocks = mask.unflatten(0, (len(rows), -1))
                blocks[torch.from_numpy(member.blocks[chosen].ravel()), :, positions] = 1.0

    def start_epoch(self, network: nn.Module, epoch: int, epochs: int) -> None:
        """Nothing: every epoch fades the same channels."""

    def add_(self, network: nn.Module, step: int, steps: int) -> None:
        """Take ``1 / (T - step)`` off the fading weights, and their gradients altogether."""
        parameters = dict(network.named_parameters(remove_duplicate=False))
        share = 1.0 / max(round(self._deadline * steps) - step, 1)
        for name, mask in self._masks.items():
            weight = parameters[name]
            fading = mask.to(weight.device)
            with torch.no_grad():
                weight.mul_(1.0 - share * fading)
                if weight.grad is not None:
                    weight.grad.mul_(1.0 - fading)

    def state(self) -> dict[str, float]:
        """Nothing: the step says how far it has come."""
        return {}

    def restore(self, state: Mapping[str, float]) -> None:
        """Nothing to take back."""

    def identity(self) -> dict[str, object]:
        """Return the channels that fade."""
        return {"fading": self._going, "deadline": self._deadline}
