"""Screening: the first order of every removal, against finite differences."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnslim.channels import channel_groups
from nnslim.errors import ConfigError
from nnslim.network import Network, trace_network
from nnslim.pruning.scores.jacobian import jacobian
from nnslim.pruning.scores.measured import measured
from tests.network.nets import NETS, SHAPE, assert_same, images, network_of, randomise, traced

Batches = list[tuple[Tensor, Tensor]]


def batches(*sizes: int) -> Batches:
    return [
        (images(size, seed=20 + n).double(), torch.zeros(size).long())
        for n, size in enumerate(sizes)
    ]


@torch.no_grad()
def slopes(network: Network, samples: Batches, name: str, step: float = 1e-5) -> np.ndarray:
    """Mean squared slope of the logits as the incoming slices of each channel shrink."""
    group = channel_groups(network)[name]
    x, found = torch.cat([x for x, _ in samples]), []
    for channel in range(group.width):
        ends = []
        for factor in (1 + step, 1 - step):
            twin = copy.deepcopy(network)
            for member in group.incoming:
                twin.tensor(member.tensor)[:, member.positions[channel]] *= factor
            ends.append(twin(x.clone()))
        found.append(float(((ends[0] - ends[1]) / (2 * step)).square().mean()))
    return np.array(found)


@pytest.mark.parametrize("name", NETS)
def test_it_is_the_first_order_of_the_removal(name):
    network, samples = traced(name).double(), batches(3, 2)
    channels = channel_groups(network)
    found = jacobian(network, channels, samples)
    assert found.keys() == {group.name for group in channels.prunable}
    for group, scores in found.items():
        expected = slopes(network, samples, group)
        np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-12, err_msg=group)
        assert np.ptp(scores) > 1e-6  # channels differ, so the comparison says something


class Wide(nn.Module):
    """More logits than are differentiated one by one."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 30)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.conv(x)).mean((2, 3)))


def test_random_sums_of_many_logits_are_unbiased():
    network = trace_network(randomise(Wide()), torch.zeros(2, *SHAPE)).double()
    channels, samples = channel_groups(network), batches(4)
    expected = slopes(network, samples, "conv")
    many = jacobian(network, channels, samples, probes=1000)["conv"]
    np.testing.assert_allclose(many, expected, rtol=0.1)
    few = jacobian(network, channels, samples, probes=2)["conv"]
    assert not np.allclose(few, many, rtol=1e-3)
    assert_same(few.tolist(), jacobian(network, channels, samples, probes=2)["conv"].tolist())
    other = jacobian(network, channels, samples, probes=2, seed=1)["conv"]
    assert not np.allclose(few, other, rtol=1e-3)


class Products(nn.Module):
    """A channel that a product contracts with itself: without it, the sum lacks one term."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.q, self.k = nn.Linear(3, 5), nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(2).transpose(1, 2)[:, :4]
        q, k = self.q(x), self.k(x)
        if self.kind == "einsum":
            return torch.einsum("nic,njc->nij", q, k).flatten(1)[:, :9]
        return (q @ k.transpose(1, 2)).flatten(1)[:, :9]


@pytest.mark.parametrize("kind", ["matmul", "einsum"])
def test_a_product_loses_a_channel_once(kind):
    network = trace_network(randomise(Products(kind)), torch.zeros(2, *SHAPE)).double()
    channels, samples = channel_groups(network), batches(3)
    exact = measured(network, channels, samples, "logits")
    found = jacobian(network, channels, samples)
    assert found.keys() == exact.keys() != set()
    for group, scores in exact.items():
        np.testing.assert_allclose(found[group], scores, rtol=1e-9)


class Merged(nn.Module):
    """Values whose first dimension is not the samples, or not them alone."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b, self.head = nn.Linear(3, 5), nn.Linear(5, 6), nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        x = x.flatten(2).transpose(1, 2)  # (N, 64, 3)
        match self.kind:
            case "positions first":
                y = self.b(F.gelu(self.a(x.transpose(0, 1)))).mean(0)
            case "windows":
                y = F.gelu(self.a(x.reshape(n * 4, 16, 3)))
                y = self.b(y).reshape(n, 64, 6).mean(1)
            case _:  # windows before samples
                y = x.reshape(n, 4, 16, 3).transpose(0, 1).reshape(4 * n, 16, 3)
                y = self.b(F.gelu(self.a(y))).reshape(4, n, 16, 6).mean((0, 2))
        return self.head(y)


@pytest.mark.parametrize("kind", ["positions first", "windows", "windows before samples"])
def test_samples_are_told_apart_wherever_they_are(kind):
    network = trace_network(randomise(Merged(kind)), torch.zeros(2, *SHAPE)).double()
    samples = batches(3)
    found = jacobian(network, channel_groups(network), samples)
    for group in ("a", "b"):
        np.testing.assert_allclose(found[group], slopes(network, samples, group), rtol=1e-5)


class Overwritten(nn.Module):
    """The value that a layer has read is written to later."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x).exp()
        z = self.b(y)
        y.add_(z)
        return self.c(y.sigmoid()).mean((2, 3))


def test_what_was_read_counts_not_what_was_written_over_it():
    network = trace_network(randomise(Overwritten()), torch.zeros(2, *SHAPE)).double()
    samples = batches(3)
    found = jacobian(network, channel_groups(network), samples)
    assert found
    for group, scores in found.items():
        np.testing.assert_allclose(scores, slopes(network, samples, group), rtol=1e-5)


@pytest.mark.parametrize("name", ["Plain", "Residual"])
def test_the_network_and_the_samples_are_left_as_they_were(name):
    network = traced(name)
    network.get_parameter("head.weight").requires_grad_(requires_grad=False)
    samples = [(x.float(), labels) for x, labels in batches(3, 4)]
    before, seen = copy.deepcopy(network), [(x.clone(), labels.clone()) for x, labels in samples]
    with torch.no_grad():
        jacobian(network, channel_groups(network), samples)
    assert_same(dict(network.state_dict()), dict(before.state_dict()))
    assert_same(samples, seen)
    assert all(p.grad is None for p in network.parameters())
    assert [n for n, p in network.named_parameters() if not p.requires_grad] == ["head.weight"]


def test_samples_weigh_the_same_however_they_are_batched():
    network, samples = traced("Concat").double(), batches(70, 5)
    channels = channel_groups(network)
    joined = [tuple(torch.cat(column) for column in zip(*samples, strict=True))]
    calls: list[tuple[int, int]] = []
    first = jacobian(network, channels, samples, progress=lambda *call: calls.append(call))
    second = jacobian(network, channels, joined)
    for group, scores in first.items():
        np.testing.assert_allclose(second[group], scores, rtol=1e-9)
    assert calls == [(64, 75), (70, 75), (75, 75)]


def test_nothing_to_score():
    network = network_of(nn.Flatten(), nn.Linear(3 * 64, 4))
    assert jacobian(network.double(), channel_groups(network), batches(2)) == {}


def test_what_cannot_be_screened():
    network = traced("Plain").double()
    with pytest.raises(ConfigError, match="0 probes"):
        jacobian(network, channel_groups(network), batches(2), probes=0)
    network = network_of(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1))
    with pytest.raises(ConfigError, match=r"one \(N, K\) tensor"):
        jacobian(network, channel_groups(network), batches(2))
