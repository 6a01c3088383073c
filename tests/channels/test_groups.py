"""Channel groups: what the walk over a whole network comes to."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnslim.channels import ChannelMap, channel_groups
from nnslim.network import trace_network
from tests.network.nets import NETS, SHAPE, network_of, traced


def summary(channels: ChannelMap) -> dict[str, tuple[int, str]]:
    return {group.name: (group.width, group.status) for group in channels.groups}


def members(channels: ChannelMap, name: str) -> dict[tuple[str, int], list]:
    return {(m.tensor, m.dim): m.positions.tolist() for m in channels[name].members}


def at(channels: ChannelMap, tensor: str, position: int) -> dict[tuple[str, int], list]:
    """Members of the group that this output channel of a layer belongs to."""
    name = next(
        g.name
        for g in channels.groups
        for m in g.members
        if (m.tensor, m.dim) == (tensor, 0) and position in m.positions
    )
    return members(channels, name)


def groups_of(model: nn.Module) -> ChannelMap:
    return channel_groups(trace_network(model, torch.zeros(2, *SHAPE)))


EXPECTED = {
    "Plain": {
        "conv1": (6, "free"),
        "conv1.in": (3, "frozen"),
        "conv2": (5, "free"),
        "head": (4, "frozen"),
    },
    "Residual": {
        "stem": (4, "free"),
        "stem.in": (3, "frozen"),
        "a1": (6, "free"),
        "b1": (5, "free"),
        "b2": (4, "free"),
        "head": (4, "frozen"),
    },
    "Concat": {
        "c1": (5, "free"),
        "c1.in": (3, "frozen"),
        "c2": (3, "free"),
        "squeeze": (3, "free"),
        "c3": (4, "free"),
        "head": (4, "frozen"),
    },
    "Shuffle": {
        "stem": (4, "free"),
        "stem#2": (4, "free"),
        "stem.in": (3, "frozen"),
        "head": (4, "frozen"),
    },
    "Normed": {
        "stem": (6, "approximate"),
        "stem.in": (3, "frozen"),
        "up": (10, "free"),
        "head": (4, "frozen"),
    },
}


@pytest.mark.parametrize("name", NETS)
def test_groups_by_hand(name):
    assert summary(channel_groups(traced(name))) == EXPECTED[name]


def test_a_flattened_channel_is_a_run_of_pixels():
    found = members(channel_groups(traced("Plain")), "conv2")
    assert found["conv2.weight", 0] == [[c] for c in range(5)]
    assert found["head.weight", 1] == [list(range(9 * c, 9 * c + 9)) for c in range(5)]


class ChannelsLast(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 7)
        self.head = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.conv(x).permute(0, 2, 3, 1).flatten(1))


def test_a_channel_flattened_last_is_a_stride():
    found = members(groups_of(ChannelsLast()), "conv")
    assert found["head.weight", 1] == [[c, c + 4, c + 8, c + 12] for c in range(4)]


def test_padded_shortcut_offsets_the_stream():
    """The stem's 4 channels are channels 2 to 5 of the second stage; 0, 1, 6, 7 are its own."""
    channels = channel_groups(traced("Residual"))
    assert members(channels, "stem")["b2.weight", 0] == [[2], [3], [4], [5]]
    assert members(channels, "b2")["b2.weight", 0] == [[0], [1], [6], [7]]


def test_concatenated_channels_stand_behind_those_before_them():
    channels = channel_groups(traced("Concat"))
    assert members(channels, "c2")["c3.weight", 1] == [[0], [1], [2]]
    assert members(channels, "c1")["c3.weight", 1] == [[3], [4], [5], [6], [7]]


def test_halves_go_where_they_were_sent():
    """High half first, low half through branch and depthwise, then shuffled, then grouped by 2."""
    channels = channel_groups(traced("Shuffle"))
    found = at(channels, "stem.weight", 4)
    # Group g of the grouped convolution reads shuffled channels 2g and 2g+1: high g, low g.
    assert found["stem.weight", 0] == [[4], [5], [6], [7]]
    assert found["depthwise.weight", 0] == [[0], [1], [2], [3]]
    assert found["grouped.weight", 0] == [[3 * g, 3 * g + 1, 3 * g + 2] for g in range(4)]
    assert at(channels, "stem.weight", 0) == {
        ("stem.weight", 0): [[0], [1], [2], [3]],
        ("stem.bias", 0): [[0], [1], [2], [3]],
        ("branch.weight", 1): [[0], [1], [2], [3]],
    }


class Halves(nn.Module):
    """The halves of one convolution, added or swapped."""

    def __init__(self, *, equal: bool) -> None:
        super().__init__()
        self.equal = equal
        self.conv = nn.Conv2d(3, 6, 1)
        self.left = nn.Conv2d(3, 2, 1)
        self.right = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        low, high = self.conv(x).split([3, 3], dim=1)
        if self.equal:
            return self.left(low + high).mean((2, 3))
        return (self.left(high) * self.right(low)).mean((2, 3))


def test_halves_that_are_added_live_and_die_together():
    found = members(groups_of(Halves(equal=True)), "conv")
    assert found["conv.weight", 0] == [[0, 3], [1, 4], [2, 5]]


def test_halves_that_are_read_apart_are_cut_apart():
    channels = groups_of(Halves(equal=False))
    low, high = at(channels, "conv.weight", 0), at(channels, "conv.weight", 3)
    assert low["conv.weight", 0] == [[0], [1], [2]]
    assert low["right.weight", 1] == [[0], [1], [2]]
    assert high["conv.weight", 0] == [[3], [4], [5]]
    assert high["left.weight", 1] == [[0], [1], [2]]


def test_groups_of_one_layer_are_numbered_by_position():
    channels = groups_of(Halves(equal=False))
    assert members(channels, "conv")["conv.weight", 0] == [[0], [1], [2]]
    assert members(channels, "conv#2")["conv.weight", 0] == [[3], [4], [5]]


@pytest.mark.parametrize("name", NETS)
def test_every_index_of_every_labelled_dimension_stands_in_one_group(name):
    network = traced(name)
    channels = channel_groups(network)
    seen: dict[tuple[str, int], list[int]] = {}
    for group in channels.groups:
        slots = [(m.tensor, m.dim) for m in group.members]
        assert len(set(slots)) == len(slots)
        for member in group.members:
            assert member.positions.shape[0] == group.width
            seen.setdefault((member.tensor, member.dim), []).extend(
                member.positions.ravel().tolist()
            )
    for (tensor, dim), positions in seen.items():
        assert sorted(positions) == list(range(network.tensor(tensor).shape[dim])), (tensor, dim)
    floats = {
        (n, d)
        for n, t in network.tensors().items()
        if t.is_floating_point()
        for d in range(min(t.dim(), 2))
    }
    unlabelled = {slot for slot in floats - set(seen) if network.tensor(slot[0]).shape[slot[1]] > 1}
    assert unlabelled == ({("grouped.weight", 1)} if name == "Shuffle" else set())


@pytest.mark.parametrize("name", NETS)
def test_channels_of_a_group_are_in_the_order_of_its_first_tensor(name):
    for group in channel_groups(traced(name)).groups:
        first = group.members[0].positions[:, 0]
        assert np.all(np.diff(first) > 0)
        for member in group.members:
            assert np.all(np.diff(member.positions, axis=1) > 0)


@pytest.mark.parametrize("name", NETS)
def test_every_frozen_group_says_why_and_where(name):
    for group in channel_groups(traced(name)).groups:
        if group.status == "free":
            assert group.reason is None
        else:
            where = r"(network output|.*aten\.\w+\.\w+ \(.*network/nets\.py:\d+\).*)"
            assert re.fullmatch(where, group.reason), group.reason


class Cumulated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 5, 1)
        self.third = nn.Conv2d(5, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.third(F.relu(self.second(self.first(x).cumsum(1)))).mean((2, 3))


def test_an_operator_without_a_rule_freezes_both_sides_and_no_more():
    channels = groups_of(Cumulated())
    assert summary(channels) == {
        "first": (4, "frozen"),
        "first.in": (3, "frozen"),
        "second": (5, "free"),
        "second.in": (4, "frozen"),
        "third": (2, "frozen"),
    }
    pattern = r"aten\.cumsum\.default \(channels/test_groups\.py:\d+\) runs over the channels"
    assert re.fullmatch(pattern, channels["first"].reason)


def test_a_rule_of_the_caller_wins():
    network = trace_network(Cumulated(), torch.zeros(2, *SHAPE))
    rules = {"aten.cumsum.default": lambda walk, node, args: walk.labels(args["self"])}
    channels = channel_groups(network, rules)
    assert summary(channels)["first"] == (4, "free")
    assert ("second.weight", 1) in members(channels, "first")


def test_the_logits_of_a_headless_network_are_frozen():
    network = network_of(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(4, 5, 1))
    channels = channel_groups(network)
    assert [(g.name, g.status, g.reason) for g in channels.groups if g.width == 5] == [
        ("2", "frozen", "network output")
    ]


def test_groups_and_frozen_mask_agree():
    channels = channel_groups(traced("Residual"))
    for group in channels.groups:
        assert channels.frozen[group.components].all() == (group.status == "frozen")
    assert [g.name for g in channels.prunable] == ["stem", "a1", "b1", "b2"]
    assert channels["stem"].layers[:3] == ("stem", "stem_bn", "a1")


def test_an_unknown_group_is_an_error():
    with pytest.raises(LookupError, match="layer9"):
        channel_groups(traced("Plain"))["layer9"]


def test_grouping_is_deterministic():
    first, second = channel_groups(traced("Shuffle")), channel_groups(traced("Shuffle"))
    assert [g.name for g in first.groups] == [g.name for g in second.groups]
    for a, b in zip(first.groups, second.groups, strict=True):
        assert all(
            np.array_equal(m.positions, n.positions)
            for m, n in zip(a.members, b.members, strict=True)
        )
