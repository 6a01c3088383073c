"""``apply_edit``: the one function that changes a network's widths. It decides nothing."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from nnslim.channels import ChannelMap, channel_groups
from nnslim.channels.labels import IntArray, Labels
from nnslim.network.network import Network, same_kind
from nnslim.surgery.edit import Edit, ResolvedEdit, resolve_edit
from nnslim.surgery.plant import plant_channels
from nnslim.surgery.rebuild import rebuilt

__all__ = ["apply_edit", "cut_network"]


def apply_edit(network: Network, edit: Edit, channels: ChannelMap | None = None) -> Network:
    """Return a new network with the channels of an edit; the given one is left alone.

    Args:
        network: Any network.
        edit: Kept and new channels by group.
        channels: The network's groups, if they are known already.

    Returns:
        A network with rewritten tensors and literals and no trace of the removed channels. New
        channels are zero everywhere, with a variance of 1 in batch norms; see ``plant_channels``.

    Raises:
        ConfigError: The edit does not fit the groups.

    Example:
        >>> import numpy as np; from torch import nn; from nnslim.network import trace_network
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> apply_edit(net, Edit({"0": np.array([1, 5])})).tensor("2.weight").shape
        torch.Size([4, 2, 3, 3])
    """
    channels = channel_groups(network) if channels is None else channels
    if edit.planted:
        return plant_channels(network, edit, channels).network
    return cut_network(network, resolve_edit(channels, edit))


def cut_network(network: Network, resolved: ResolvedEdit) -> Network:
    """Rewrite tensors and literals for a resolved edit that plants nothing."""
    tensors = {
        name: _slice(tensor, resolved, resolved.channels.tensors.get(name))
        for name, tensor in network.tensors().items()
    }
    return rebuilt(network, resolved, tensors)


def _slice(tensor: Tensor, resolved: ResolvedEdit, labels: Labels | None) -> Tensor:
    """The kept entries of a tensor, as a copy of the same kind."""
    result = tensor.detach()
    # Dimension 1 may differ from one run of rows to the next, so it goes before the rows do.
    for dim, along in reversed(list(enumerate(labels or ()))):
        if along is not None and along.ndim > 1:
            result = _slice_blocks(result, resolved, along)
            continue
        kept = resolved.kept(along)
        if kept is not None:
            result = result.index_select(dim, torch.from_numpy(kept).to(tensor.device))
    result = result.clone() if result.data_ptr() == tensor.data_ptr() else result
    return same_kind(tensor, result)


def _slice_blocks(weight: Tensor, resolved: ResolvedEdit, labels: IntArray) -> Tensor:
    """Keep other entries of dimension 1 in each equal run of rows; the same number in all."""
    blocks = len(labels)
    kept = np.nonzero(resolved.alive[resolved.channels.component[labels]])[1].reshape(blocks, -1)
    rows = torch.from_numpy(kept).to(weight.device).repeat_interleave(len(weight) // blocks, 0)
    return weight.take_along_dim(rows.view(*rows.shape, *[1] * (weight.dim() - 2)), dim=1)
