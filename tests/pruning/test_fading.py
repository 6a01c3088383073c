"""What fades is nothing at the end, and the rest is trained as ever."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from nnslim.channels import channel_groups
from nnslim.pruning.sparse.fading import Fading
from nnslim.pruning.sparse.penalty import removed_channels
from nnslim.surgery import Edit, apply_edit
from tests.laws.made import half_edit
from tests.laws.zoo import network_of

STEPS = 6


def faded(network, edit, rate=0.05):
    channels = channel_groups(network)
    fading = Fading(network, channels, removed_channels(edit, channels))
    generator = torch.Generator().manual_seed(0)
    optimizer = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.9, weight_decay=1e-3)
    inputs = tuple(
        torch.randn(3, *entry.info.shape[1:], generator=generator) for entry in network.graph.inputs
    )
    for step in range(STEPS):
        for group in optimizer.param_groups:
            group["lr"] = rate * (1 - step / STEPS)
        optimizer.zero_grad()
        sum(
            leaf.square().mean() for leaf in torch.utils._pytree.tree_leaves(network(*inputs))
        ).backward()
        fading.add_(network, step, STEPS)
        optimizer.step()
    return inputs


@pytest.mark.parametrize("name", ["Plain", "Residual", "Dense", "SplitInOrder", "Grouped"])
def test_removal_after_fading_changes_nothing(name):
    network = copy.deepcopy(network_of(name))  # it will train
    channels = channel_groups(network)
    edit = half_edit(channels, 1)
    before = apply_edit(network, edit, channels)
    inputs = faded(network, edit)
    cut = apply_edit(network, edit, channels)
    with torch.no_grad():
        whole = torch.utils._pytree.tree_leaves(network(*inputs))
        left = torch.utils._pytree.tree_leaves(cut(*inputs))
        old = torch.utils._pytree.tree_leaves(before(*inputs))
    scale = max(float(leaf.abs().max()) for leaf in whole)
    for a, b, c in zip(whole, left, old, strict=True):
        assert float((a - b).abs().max()) < 0.02 * scale
        assert float((a - c).abs().max()) > 0.02 * scale  # the network did train


def test_channels_that_stay_are_not_touched():
    network = copy.deepcopy(network_of("Plain"))
    channels = channel_groups(network)
    name = channels.prunable[0].name
    edit = Edit({name: np.arange(1, channels[name].width)})
    fading = Fading(network, channels, removed_channels(edit, channels))
    before = {key: t.detach().clone() for key, t in network.tensors().items()}
    fading.add_(network, 0, 6)  # the first of four steps to the deadline
    changed = {key: before[key] != t for key, t in network.tensors().items()}
    assert {key for key, own in changed.items() if own.any()} == set(fading._masks)
    for key, mask in fading._masks.items():
        assert (
            torch.equal(changed[key] | (before[key] == 0), mask > 0)
            or not changed[key][mask == 0].any()
        )
        torch.testing.assert_close(network.tensor(key)[mask > 0], 0.75 * before[key][mask > 0])


def test_identity_names_what_fades():
    network = network_of("Plain")
    channels = channel_groups(network)
    one, other = (removed_channels(half_edit(channels, seed), channels) for seed in (1, 2))
    assert Fading(network, channels, one).identity() != Fading(network, channels, other).identity()
