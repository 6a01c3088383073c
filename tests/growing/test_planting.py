"""Law 2: a planted network computes what it did before, wherever and however it was planted."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from nnslim.channels import channel_groups
from nnslim.errors import ConfigError
from nnslim.growing import growable, plant
from nnslim.growing.donor import choose_donor, largest_first
from nnslim.growing.planting import obstacle
from nnslim.growing.seed import narrowed, reset, widest
from nnslim.measure.macs import count_costs
from nnslim.network import Network, trace_network
from nnslim.settings.budget import Limit
from tests.laws.reference import random_inputs
from tests.laws.strategies import RandomNet, networks
from tests.laws.zoo import EVERY, network_of

# Half as wide, some of their channels belong together, or apart, that do not now.
OTHERWISE_GROUPED = ("Grouped", "SeparateAttention", "ManyHeads", "SharedKeys")


def logits(network: Network) -> list[torch.Tensor]:
    inputs = [x.double() for x in random_inputs(network)]
    with torch.no_grad():
        return torch.utils._pytree.tree_leaves(copy.deepcopy(network).double()(*inputs))


def assert_same_function(network: Network, groups: list[str], seed: int) -> None:
    planted = plant(network, channel_groups(network), dict.fromkeys(groups, 2), seed=seed)
    before = [tensor.clone() for tensor in logits(network)]
    for found, wanted in zip(logits(planted.network), before, strict=True):
        scale = max(float(wanted.abs().max()), 1e-30)
        assert float((found - wanted).abs().max()) / scale < 1e-9, groups
    drawn = [planted.network.tensor(n)[f] for n, f in planted.fresh.items() if "weight" in n]
    assert any(bool(values.any()) for values in drawn), "everything new is zero: it cannot learn"


@EVERY
def test_planting_changes_nothing(name):
    groups = growable(channel_groups(network_of(name)))
    for number, group in enumerate(groups):
        assert_same_function(network_of(name), [group.name], number)


@EVERY
def test_planting_everywhere_changes_nothing(name):
    network = network_of(name)
    names = [group.name for group in growable(channel_groups(network))]
    if names:
        assert_same_function(network, names, 0)


@EVERY
def test_what_the_teacher_gives_is_the_teachers(name):
    """Law 2 for its channels; and what produces them is the teacher's, entry for entry."""
    teacher = largest_first(network_of(name))
    student = narrowed(teacher, Limit(0.5, relative=True))
    channels = channel_groups(student)
    donor = choose_donor(teacher, student)
    if isinstance(donor, str):
        assert donor.startswith("narrowed, the teacher has other channel groups")
        assert name in OTHERWISE_GROUPED
        return
    most = donor.widths
    groups = [g for g in growable(channels) if g.width < most[g.name]]
    counts = {group.name: most[group.name] - group.width for group in groups}
    if not counts or obstacle(student, channels, counts) is not None:
        return
    planted = plant(student, channels, counts, donor=donor)
    for found, wanted in zip(logits(planted.network), logits(student), strict=True):
        scale = max(float(wanted.abs().max()), 1e-30)
        assert float((found - wanted).abs().max()) / scale < 1e-9
    like = donor.narrowed_to(planted.channels)
    compared = 0
    for group in groups:
        own = planted.channels[group.name]
        reading = {member.tensor for member in own.incoming}
        for member in own.outgoing:
            fresh = planted.fresh[member.tensor]
            rows = [i for i in member.positions.ravel().tolist() if bool(fresh[i].all())]
            found = planted.network.tensor(member.tensor)[rows]
            # What reads the channels that it produces starts without the new ones.
            same = found != 0 if member.tensor in reading else slice(None)
            assert torch.equal(found[same], like.tensor(member.tensor)[rows][same]), member.tensor
            compared += len(rows)
    assert compared
    for tensor, fresh in planted.fresh.items():
        if planted.network.tensor(tensor).dim() == 1:
            assert torch.equal(planted.network.tensor(tensor)[fresh], like.tensor(tensor)[fresh])


def test_new_channels_read_each_other_where_many_groups_are_planted():
    network = network_of("Residual")
    channels = channel_groups(network)
    names = [group.name for group in growable(channels)]
    planted = plant(network, channels, dict.fromkeys(names, 2))
    new = {name: planted.channels[name].width - channels[name].width for name in names}
    joints = [
        planted.network.tensor(tensor)[-new[a] :, -new[b] :]
        for a in names
        for b in names
        if a != b
        for tensor in {m.tensor for m in planted.channels[a].outgoing}
        & {m.tensor for m in planted.channels[b].incoming}
    ]
    assert joints
    assert all(bool(joint.any()) for joint in joints)


@given(networks(), st.integers(0, 99))
def test_planting_changes_nothing_in_random_networks(model: RandomNet, seed: int):
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    channels = channel_groups(network)
    names = [group.name for group in growable(channels)]
    assume(names)
    for chosen in ([names[seed % len(names)]], names):
        if obstacle(network, channels, dict.fromkeys(chosen, 2)) is None:
            assert_same_function(network, chosen, seed)


def test_an_obstacle_is_named_and_not_planted_into():
    """A depthwise layer of two outputs a channel, chunked: a new channel would shift the chunks."""
    model = nn.Sequential(
        nn.Conv2d(3, 5, 1), nn.Conv2d(5, 10, 3, groups=5), Chunked(), nn.Conv2d(5, 4, 1)
    )
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    channels = channel_groups(network)
    counts = {group.name: 2 for group in growable(channels)}
    assert counts
    assert "would belong together in another way" in obstacle(network, channels, counts)
    with pytest.raises(ConfigError, match="would belong together in another way"):
        plant(network, channels, counts)


class Chunked(nn.Module):
    def forward(self, x):
        a, b = x.chunk(2, 1)
        return a + b


def test_a_planted_bug_is_seen(monkeypatch):
    """Outgoing weights that do not start at zero change the function."""
    from nnslim.growing import planting

    monkeypatch.setattr(planting._Drawing, "_readers", lambda *_, **__: None)
    network = network_of("Residual")
    group = growable(channel_groups(network))[0]
    monkeypatch.setattr(planting, "plant_channels", _everywhere_random)
    with pytest.raises(AssertionError):
        assert_same_function(network, [group.name], 0)


def _everywhere_random(network, edit, channels):
    from nnslim.surgery import plant_channels

    planted = plant_channels(network, edit, channels)
    with torch.no_grad():
        for name, fresh in planted.fresh.items():
            planted.network.tensor(name)[fresh] = 1.0
    return planted


def test_frozen_groups_have_no_place():
    network = network_of("Residual")
    channels = channel_groups(network)
    frozen = next(g for g in channels.groups if g.status == "frozen")
    with pytest.raises(ConfigError, match="nothing can be planted"):
        plant(network, channels, {frozen.name: 1})


def test_a_seed_is_the_teacher_in_small_and_knows_nothing():
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 4, 3), nn.Flatten()
    )
    teacher = trace_network(model, torch.zeros(2, 3, 8, 8))
    seed = reset(narrowed(teacher, Limit(0.125, relative=True)), 0)
    assert seed.tensor("0.weight").shape == (2, 3, 3, 3)
    assert seed.tensor("3.weight").shape == (4, 2, 3, 3)
    assert not torch.equal(seed.tensor("0.weight"), teacher.tensor("0.weight")[:2])
    assert torch.equal(seed.tensor("1.weight"), torch.ones(2))
    again = reset(narrowed(teacher, Limit(0.125, relative=True)), 0)
    assert torch.equal(seed.tensor("3.weight"), again.tensor("3.weight"))
    assert narrowed(teacher, Limit(1, relative=False)).tensor("0.weight").shape[0] == 2


@pytest.mark.parametrize("metric", ["params", "macs", "size"])
def test_the_widest_seed_is_that_of_trying_every_width(metric):
    model = nn.Sequential(
        nn.Conv2d(3, 30, 3, padding=1), nn.BatchNorm2d(30), nn.ReLU(),
        nn.Conv2d(30, 30, 3, padding=1, groups=30), nn.ReLU(),
        nn.Conv2d(30, 7, 3, padding=1), nn.Flatten(), nn.Linear(448, 4),
    )  # fmt: skip
    teacher = trace_network(model, torch.zeros(2, 3, 8, 8))
    tried = [Limit(step / 200, relative=True) for step in range(1, 201)]
    costs = {w.amount: getattr(count_costs(narrowed(teacher, w)), metric) for w in tried[9::10]}
    for most in (costs[1.0], (costs[0.25] + costs[0.3]) // 2, costs[0.5]):
        width = widest(teacher, {metric: most})
        assert getattr(count_costs(narrowed(teacher, width)), metric) <= most
        wider = [own for amount, own in costs.items() if amount > width.amount]
        assert not wider or min(wider) > most
    assert widest(teacher, {metric: 1}) == tried[0]
