"""Law 3: removing exactly what was planted gives back the network, bit for bit.

Law 1 is checked on the way back, with everything planted at random: an undo alone passes on an
order that is wrong in the same way twice.
"""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import assume, given, note
from hypothesis import strategies as st

from nnslim.channels import channel_groups
from nnslim.errors import ConfigError
from nnslim.growing import growable
from nnslim.growing import plant as plant_into
from nnslim.network import Network, trace_network
from nnslim.surgery import PLANT, Edit, Planted, apply_edit, plant, plant_channels
from tests.laws.made import random_planting
from tests.laws.reference import LawBrokenError, check_law_1, random_inputs
from tests.laws.strategies import RandomNet, networks
from tests.laws.test_sweep import FAMILIES
from tests.laws.test_sweep import network_of as published_network
from tests.laws.zoo import EVERY, network_of


def filled(planted: Planted, seed: int) -> Planted:
    """Put random numbers into everything new."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, fresh in planted.fresh.items():
            tensor = planted.network.tensor(name)
            tensor[fresh] = torch.rand(int(fresh.sum()), generator=generator).to(tensor) + 0.1
    return planted


def undo_of(edit: Edit) -> Edit:
    return Edit({name: np.flatnonzero(own != PLANT) for name, own in edit.keep.items()})


def plant_and_undo(network: Network, edit: Edit, seed: int = 0) -> Network:
    """Plant, check laws 1 and 3, and return the planted network."""
    planted = filled(plant_channels(network, edit), seed)
    back = undo_of(edit)
    undone = apply_edit(planted.network, back, planted.channels)
    check_law_1(planted.network, undone, planted.channels, back.keep, seed)
    assert_equal(undone, network)
    return planted.network


def assert_equal(left: Network, right: Network) -> None:
    # What moves channels by numbers, such as a flip, has become an index, and stays one.
    own = [name for name in left.state_dict() if not name.startswith("nnslim_index.")]
    assert own == [name for name in right.state_dict() if not name.startswith("nnslim_index.")]
    for name, tensor in right.state_dict().items():
        assert name not in own or torch.equal(left.state_dict()[name], tensor), name
    for ours, theirs in zip(left.graph.nodes, right.graph.nodes, strict=True):
        assert ours.value == theirs.value, ours.name
    inputs = [x.float() for x in random_inputs(right)]
    with torch.no_grad():
        found, wanted = (torch.utils._pytree.tree_leaves(net(*inputs)) for net in (left, right))
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


@EVERY
@pytest.mark.parametrize("seed", [1, 2])
def test_undo(name, seed):
    network = network_of(name)
    edit = random_planting(channel_groups(network), seed)
    if not edit.planted:
        pytest.skip("no group without a norm over it")
    wider = plant_and_undo(network, edit, seed)
    plant_and_undo(wider, random_planting(channel_groups(wider), seed + 10), seed)


@given(networks(), st.integers(0, 999))
def test_undo_in_random_networks(model: RandomNet, seed: int):
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    edit = random_planting(channel_groups(network), seed)
    assume(edit.planted)
    note(f"{model}: {[(name, list(own)) for name, own in edit.keep.items()]}")
    plant_and_undo(network, edit, seed)


@pytest.mark.parametrize(
    "name", ["Residual", "Dense", "SqueezeExcite", "Grouped", "ChannelsLastHead"]
)
def test_a_wrong_order_is_seen(name, monkeypatch):
    """A planted bug: old entries stand one place further than where they belong."""
    along = plant._Places.along

    def wrong(self, dim, size):
        found = along(self, dim, size)
        same = found.ndim > 1 or np.array_equal(found, np.arange(size))
        new = self.wider.tensors[self.name][dim]
        return found if same or new is None else (found + 1) % new.shape[-1]

    monkeypatch.setattr(plant._Places, "along", wrong)
    network = network_of(name)
    channels = channel_groups(network)
    group = next(g for g in channels.groups if g.status == "free" and g.parts is None)
    edit = Edit({group.name: np.array([0, PLANT, *range(1, group.width)])})
    with pytest.raises((LawBrokenError, AssertionError)):
        plant_and_undo(network, edit)


def test_what_cannot_be_planted_is_refused():
    network = network_of("Residual")
    channels = channel_groups(network)
    group = next(g for g in channels.groups if g.status == "free")
    frozen = next(g for g in channels.groups if g.status == "frozen")
    with pytest.raises(ConfigError, match="before every kept one"):
        plant_channels(network, Edit({group.name: np.array([PLANT, *range(group.width)])}))
    with pytest.raises(ConfigError, match="cannot be planted into"):
        plant_channels(network, Edit({frozen.name: np.array([*range(frozen.width), PLANT])}))
    with pytest.raises(ConfigError, match="make two of it"):
        plant_channels(network, Edit({group.name: np.array([0, PLANT])}))
    other = next(g for g in channels.groups if g.status == "free" and g is not group)
    both = {group.name: np.array([*range(group.width), PLANT]), other.name: np.array([0])}
    with pytest.raises(ConfigError, match="make two of it"):
        plant_channels(network, Edit(both))


FAST = ("mobilenet_v3_small", "shufflenet_v2_x0_5", "cifar_resnet20_A")
PUBLISHED = [
    pytest.param(name, marks=() if name in FAST else pytest.mark.slow) for name in FAMILIES
]


@pytest.mark.parametrize("name", PUBLISHED)
def test_undo_in_published_networks(name):
    network = published_network(name)
    plant_and_undo(network, random_planting(channel_groups(network), 1))
    channels = channel_groups(network)
    inputs = random_inputs(network)[0].double()
    with torch.no_grad():
        wanted = copy.deepcopy(network).double()(inputs)
        for group in growable(channels)[:: max(len(channels.groups) // 6, 1)]:
            planted = plant_into(network, channels, {group.name: 2}, seed=1)
            found = planted.network.double()(inputs)
            assert float((found - wanted).abs().max() / wanted.abs().max()) < 1e-9, group.name
