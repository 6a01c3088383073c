"""First-order estimate of the loss increase, from gradients by the weights."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nnslim.channels.magnitude import sum_per_channel

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nnslim.channels import ChannelMap
    from nnslim.network.network import Network
    from nnslim.pruning.scores.measured import Batch, Scores

__all__ = ["taylor"]


def taylor(network: Network, channels: ChannelMap, batches: Iterable[Batch]) -> Scores:
    """Squared sum of gradient times incoming slice, summed over batches, ``(width,)`` by group.

    The estimate of Molchanov et al. (CVPR 2019); its first order is exactly that of the removal
    that ``measured`` tries.
    """
    scores: Scores = {group.name: np.zeros(group.width) for group in channels.prunable}
    network = copy.deepcopy(network).eval()
    # Where only a sum reads a channel, the filters that produce it stand in for incoming slices.
    slices = {g.name: g.incoming or g.outgoing or g.members for g in channels.prunable}
    device = next(network.parameters()).device
    names = sorted({m.tensor for members in slices.values() for m in members})
    if not names:
        return scores
    tensors = [network.tensor(name).requires_grad_() for name in names]
    for images, labels in batches:
        logits = network(images.to(device))
        assert isinstance(logits, Tensor), "the network returns more than logits"
        loss = F.cross_entropy(logits, labels.to(device))
        gradients = dict(zip(names, torch.autograd.grad(loss, tensors), strict=True))
        for name, members in slices.items():
            product = np.zeros(len(scores[name]))
            for member in members:
                weight = network.tensor(member.tensor).detach()
                product += sum_per_channel(weight * gradients[member.tensor], member)
            scores[name] += product**2
    return scores
