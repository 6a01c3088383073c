"""Law: channels in another order are the same function, whatever reads and produces them."""

from __future__ import annotations

import copy

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from nnslim.channels import ChannelGroup, channel_groups
from nnslim.channels.labels import IntArray
from nnslim.network import Network, trace_network
from nnslim.surgery import permute_channels
from tests.laws.reference import random_inputs
from tests.laws.strategies import RandomNet, networks
from tests.laws.zoo import EVERY, network_of


def shuffled(group: ChannelGroup, generator: np.random.Generator) -> IntArray:
    """Another order, within the parts."""
    parts = group.by_part
    order = np.empty(group.width, dtype=np.int64)
    for part in parts:
        order[part] = generator.permutation(part)
    return order


def assert_same_function_in_another_order(network: Network, seed: int) -> None:
    channels, generator = channel_groups(network), np.random.default_rng(seed)
    order = {group.name: shuffled(group, generator) for group in channels.free}
    other = permute_channels(network, order, channels)
    inputs = [images.double() for images in random_inputs(network)]
    with torch.no_grad():
        wanted, found = (
            torch.utils._pytree.tree_leaves(copy.deepcopy(own).double()(*inputs))
            for own in (network, other)
        )
    for one, two in zip(wanted, found, strict=True):
        scale = max(float(one.abs().max()), 1e-30)
        assert float((one - two).abs().max()) / scale < 1e-9
    if any((own != np.arange(len(own))).any() for own in order.values()):
        assert any(not own.equal(other.tensor(name)) for name, own in network.tensors().items())


@EVERY
def test_every_kind_of_network(name):
    for seed in range(2):
        assert_same_function_in_another_order(network_of(name), seed)


@given(networks(), st.integers(0, 99))
def test_random_networks(model: RandomNet, seed: int):
    assert_same_function_in_another_order(trace_network(model, torch.zeros(2, 3, 8, 8)), seed)
