"""Saliency: what is measured in place is what the really cut network does."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnslim.channels import ChannelMap, channel_groups
from nnslim.channels.magnitude import magnitude
from nnslim.network import Network, trace_network
from nnslim.pruning.scores.measured import measured
from nnslim.pruning.scores.taylor import taylor
from nnslim.surgery import Edit, apply_edit
from tests.network.nets import NETS, SHAPE, assert_same, images, network_of, randomise, traced

EXACT = sorted(set(NETS) - {"Normed"})


def batches(*sizes: int) -> list[tuple[Tensor, Tensor]]:
    """Double precision images, and labels."""
    return [
        (images(size, seed=10 + n).double(), torch.arange(size) * (n + 1) % 4)
        for n, size in enumerate(sizes)
    ]


def without(network: Network, channels: ChannelMap, name: str, channel: int) -> Network:
    """The network really cut by one channel, in double precision."""
    keep = np.delete(np.arange(channels[name].width), channel)
    return apply_edit(network, Edit({name: keep}), channels).double()


@torch.no_grad()
def naive(
    network: Network, samples: list[tuple[Tensor, Tensor]], criterion: str
) -> dict[str, np.ndarray]:
    """Build every cut network and evaluate it on all samples."""
    channels, dense = channel_groups(network), copy.deepcopy(network).double()
    x, labels = (torch.cat(column) for column in zip(*samples, strict=True))

    def score(cut: Network) -> float:
        if criterion == "logits":
            return float((cut(x.clone()) - dense(x.clone())).square().mean())
        return float(
            F.cross_entropy(cut(x.clone()), labels) - F.cross_entropy(dense(x.clone()), labels)
        )

    return {
        group.name: np.array(
            [score(without(network, channels, group.name, c)) for c in range(group.width)]
        )
        for group in channels.prunable
        if group.status == "free"
    }


@pytest.mark.parametrize("criterion", ["loss", "logits"])
@pytest.mark.parametrize("name", EXACT)
def test_measured_is_what_the_cut_network_does(name, criterion):
    network, samples = traced(name), batches(3, 5)
    expected = naive(network, samples, criterion)
    found = measured(network.double(), channel_groups(network), samples, criterion)
    assert found.keys() == expected.keys()
    for group, scores in expected.items():
        np.testing.assert_allclose(found[group], scores, rtol=1e-6, atol=1e-12, err_msg=group)
        assert np.ptp(scores) > 1e-6  # channels differ, so the comparison says something


def test_exact_groups_beside_a_norm_are_exact():
    network, samples = traced("Normed"), batches(4)
    found = measured(network.double(), channel_groups(network), samples, "logits")
    np.testing.assert_allclose(
        found["up"], naive(traced("Normed"), samples, "logits")["up"], rtol=1e-6
    )
    assert set(found) == {"stem", "up"}


class ReadBySum(nn.Module):
    """A channel that a sum reads too, which has no weights to put to zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.first(x))
        return (self.second(y) * y.sum(1, keepdim=True)).mean((2, 3))


class OnlySummed(nn.Module):
    """Channels that no layer with weights reads."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.other = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return (self.other(x) * F.relu(self.first(x)).sum(1, keepdim=True)).mean((2, 3))


@pytest.mark.parametrize("kind", [ReadBySum, OnlySummed])
def test_a_sum_reads_channels_too(kind):
    network = trace_network(randomise(kind()), torch.zeros(2, *SHAPE))
    expected = naive(network, batches(4), "logits")["first"]
    found = measured(network.double(), channel_groups(network), batches(4), "logits")["first"]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_taylor_of_a_network_without_readers():
    network = trace_network(randomise(OnlySummed()), torch.zeros(2, *SHAPE)).double()
    assert taylor(network, channel_groups(network), batches(4))["first"].shape == (4,)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("method", ["loss", "logits", "taylor", "magnitude"])
def test_the_network_is_left_as_it_was(name, method):
    network = traced(name)
    before = copy.deepcopy(network)
    channels = channel_groups(network)
    samples = [(x.float(), labels) for x, labels in batches(3, 4)]
    seen = [(x.clone(), labels.clone()) for x, labels in samples]
    score(network, channels, samples, method)
    assert_same(dict(network.state_dict()), dict(before.state_dict()))
    assert_same(samples, seen)
    assert all(p.grad is None for p in network.parameters())


def score(
    network: Network, channels: ChannelMap, samples: list, method: str
) -> dict[str, np.ndarray]:
    match method:
        case "magnitude":
            return magnitude(network, channels)
        case "taylor":
            return taylor(network, channels, samples)
        case _:
            return measured(network, channels, samples, method)


@pytest.mark.parametrize(
    "method",
    [
        "loss",
        "logits",
        "taylor",
        "magnitude",
    ],
)
def test_frozen_parameters_stay_frozen(method):
    network = traced("Plain")
    network.get_parameter("conv2.weight").requires_grad_(requires_grad=False)
    samples = [(x.float(), labels) for x, labels in batches(3)]
    score(network, channel_groups(network), samples, method)
    frozen = [name for name, p in network.named_parameters() if not p.requires_grad]
    assert frozen == ["conv2.weight"]


@pytest.mark.parametrize("method", ["loss", "taylor", "magnitude"])
@pytest.mark.parametrize("name", NETS)
def test_every_prunable_group_gets_one_finite_score_per_channel(name, method):
    network = traced(name)
    channels = channel_groups(network)
    found = score(network.double(), channels, batches(3), method)
    assert {g: s.shape for g, s in found.items()} == {g.name: (g.width,) for g in channels.prunable}
    assert all(np.isfinite(s).all() for s in found.values())


def test_a_channel_that_nothing_reads_costs_nothing():
    network = traced("Plain")
    with torch.no_grad():
        network.tensor("conv2.weight")[:, 3] = 0
    samples, channels = batches(3), channel_groups(network)
    for method in ("loss", "logits", "taylor"):
        assert score(network.double(), channels, samples, method)["conv1"][3] == 0
    assert magnitude(network, channels)["conv1"][3] > 0


@torch.no_grad()
def scaled_loss(network: Network, members, channel: int, factor: float, batch) -> float:
    """Loss with the incoming slices of one channel multiplied by a factor."""
    twin = copy.deepcopy(network)
    for member in members:
        twin.tensor(member.tensor)[:, member.positions[channel]] *= factor
    return float(F.cross_entropy(twin(batch[0].clone()), batch[1]))


@pytest.mark.parametrize("name", NETS)
def test_taylor_is_the_first_order_of_the_removal(name):
    """The derivative of the loss as the slices shrink, by central differences, batch by batch."""
    network, samples, step = traced(name).double(), batches(3, 5), 1e-5
    channels = channel_groups(network)
    found = taylor(network, channels, samples)
    for group in channels.prunable:
        members = group.incoming
        for channel in range(group.width):
            slopes = [
                scaled_loss(network, members, channel, 1 + step, batch)
                - scaled_loss(network, members, channel, 1 - step, batch)
                for batch in samples
            ]
            expected = sum((slope / (2 * step)) ** 2 for slope in slopes)
            assert found[group.name][channel] == pytest.approx(expected, rel=1e-4, abs=1e-12)


def test_taylor_and_removal_agree_where_the_loss_is_nearly_linear():
    """For a small slice the measured increase is the square root of the estimate."""
    network = traced("Plain").double()
    with torch.no_grad():
        network.tensor("conv2.weight").mul_(1e-4)
    channels, samples = channel_groups(network), batches(6)
    estimate = np.sqrt(taylor(network, channels, samples)["conv1"])
    increase = np.abs(measured(network, channels, samples, "loss")["conv1"])
    np.testing.assert_allclose(increase, estimate, rtol=1e-2)


def test_magnitude_by_hand():
    first, second = nn.Conv2d(1, 2, 1, bias=False), nn.Conv2d(2, 1, 1)
    network = network_of(first, nn.ReLU(), second, shape=(1, 4, 4))
    with torch.no_grad():
        network.tensor("0.weight").copy_(torch.tensor([3.0, -4.0]).reshape(2, 1, 1, 1))
    found = magnitude(network, channel_groups(network))
    assert {name: scores.tolist() for name, scores in found.items()} == {"0": [3.0, 4.0]}


def test_magnitude_of_a_large_weight_leaves_it_alone():
    """Larger than the pieces in which it is read, in either precision."""
    network = network_of(nn.Linear(600, 300), nn.ReLU(), nn.Linear(300, 2), shape=(600,))
    for own in (network, copy.deepcopy(network).double()):
        before = own.tensor("0.weight").detach().clone()
        found = magnitude(own, channel_groups(own))["0"]
        assert torch.equal(own.tensor("0.weight"), before)
        np.testing.assert_allclose(found, before.double().norm(dim=1), rtol=1e-12)


def test_magnitude_adds_up_the_producers_of_a_stream():
    """Channel c of the stem is row c of the stem and of a2, and row c + 2 of b2."""
    network = traced("Residual")
    rows = [
        network.tensor(f"{n}.weight").detach().double().flatten(1) for n in ("stem", "a2", "b2")
    ]
    expected = [
        float(
            (
                rows[0][c].square().sum()
                + rows[1][c].square().sum()
                + rows[2][c + 2].square().sum()
            ).sqrt()
        )
        for c in range(4)
    ]
    found = magnitude(network, channel_groups(network))["stem"]
    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_progress_counts_every_channel_of_every_batch():
    calls: list[tuple[int, int]] = []
    network = traced("Plain")
    samples = [(x.float(), labels) for x, labels in batches(2, 2)]
    measured(network, channel_groups(network), samples, "loss", lambda *call: calls.append(call))
    assert calls == [(6, 22), (11, 22), (17, 22), (22, 22)]


def test_the_order_of_the_samples_does_not_matter():
    network, samples = traced("Concat").double(), batches(3, 5)
    channels = channel_groups(network)
    joined = [tuple(torch.cat(column) for column in zip(*samples, strict=True))]
    for criterion in ("loss", "logits"):
        first = measured(network, channels, samples, criterion)
        for other in (samples[::-1], joined):
            second = measured(network, channels, other, criterion)
            for group, scores in first.items():
                np.testing.assert_allclose(second[group], scores, rtol=1e-9, atol=1e-12)
