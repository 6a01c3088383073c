"""Several cuts as one: what is left of the first network's groups after all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from nnslim.surgery.edit import Edit

if TYPE_CHECKING:
    from nnslim.channels import ChannelGroup, ChannelMap
    from nnslim.channels.labels import IntArray

__all__ = ["compose_edits"]

# By tensor and dimension: which of the first network's indices are gone.
_Gone = dict[tuple[str, int], np.ndarray]


def compose_edits(steps: Sequence[tuple[ChannelMap, Edit]]) -> Edit:
    """Express cuts made one after the other as one cut of the first network.

    Groups may merge or fall apart between cuts, so channels are followed by where they stand in
    the tensors, which keep their names.

    Args:
        steps: The groups of the network before each cut, and the cut.

    Returns:
        Kept channels of every group of the first network that lost some.

    Example:
        >>> import torch; from torch import nn; from nnslim.network import trace_network
        >>> from nnslim.channels import channel_groups; from nnslim.surgery import apply_edit
        >>> model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3))
        >>> net = trace_network(model, torch.zeros(2, 3, 8, 8))
        >>> first, second = Edit({"0": np.arange(2, 8)}), Edit({"0": np.array([0, 3])})
        >>> cut = apply_edit(net, first)
        >>> steps = [(channel_groups(net), first), (channel_groups(cut), second)]
        >>> compose_edits(steps).keep["0"].tolist()
        [2, 5]
    """
    gone: _Gone = {}
    for channels, edit in steps:
        gone = _after(gone, channels, edit)
    groups = steps[0][0].groups if steps else ()
    kept = ((group, _left(gone, group)) for group in groups)
    return Edit({group.name: keep for group, keep in kept if len(keep) < group.width})


def _after(gone: _Gone, channels: ChannelMap, edit: Edit) -> _Gone:
    """Add what one cut removes; its positions count what the cuts before it left."""
    result = {key: mask.copy() for key, mask in gone.items()}
    for name, keep in edit.keep.items():
        group = channels[name]
        removed = np.setdiff1d(np.arange(group.width), keep)
        for key, positions in _standing(group).items():
            labels = channels.tensors[key[0]][key[1]]
            assert labels is not None, f"{key[0]} has no channels along {key[1]}"
            before = gone.get(key, np.zeros(labels.shape[-1], dtype=bool))
            mask = result.setdefault(key, before.copy())
            mask[np.flatnonzero(~before)[positions[removed].ravel()]] = True
    return result


def _standing(group: ChannelGroup) -> dict[tuple[str, int], IntArray]:
    """Where the channels stand; an index that means another channel in each row says nothing."""
    return {(m.tensor, m.dim): m.positions for m in group.members if m.blocks is None}


def _left(gone: _Gone, group: ChannelGroup) -> IntArray:
    dead = np.zeros(group.width, dtype=bool)
    for key, positions in _standing(group).items():
        if key in gone:
            dead |= gone[key][positions].all(axis=1)
    return np.flatnonzero(~dead)
