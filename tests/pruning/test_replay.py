"""A replay from the middle is a full run, however often it is repeated."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnslim.network import Network, trace_network
from nnslim.pruning.scores.replay import Replay
from tests.network.nets import NETS, SHAPE, images, randomise, traced


class InPlace(nn.Module):
    """Writes into values that earlier and later operators read."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        match self.kind:
            case "once":
                y = self.b(F.relu(y, inplace=True))
            case "twice":
                y = self.b(F.relu(y.mul_(2), inplace=True)) + y
            case "late":  # written after it was read
                z = self.b(y)
                y.add_(z)
                y = y * 3
            case "through a view":
                flat = y.flatten(2)
                z = self.b(y)
                flat.mul_(2)
                y = z + y
            case "seen through a view":
                low = y[:, :2]
                z = self.b(y)
                y.mul_(3)
                y = torch.cat([z, low], 1)
            case "view of a view":
                rows = y.permute(0, 2, 3, 1).flatten(1, 2)
                z = self.b(y)
                rows[:, 0].zero_()
                y = z + y.relu()
            case "half":
                z = self.b(y)
                y[:, 2:].relu_()
                y = z + y
        return y.mean((2, 3))


class Normalised(nn.Module):
    """Writes into its input."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        x.mul_(2)
        return self.conv(x).mean((2, 3))


def check(network: Network) -> None:
    """From every node on, three times: the same bits as a run from the start."""
    expected = network(images())
    replay = Replay(network, (images(),))
    for start in range(len(network.graph.nodes) + 1):
        replay.advance(start)
        for _ in range(3):
            assert torch.equal(replay.finish(), expected), f"from node {start}"


@pytest.mark.parametrize("name", NETS)
def test_networks(name):
    check(traced(name))


@pytest.mark.parametrize(
    "kind",
    ["once", "twice", "late", "through a view", "seen through a view", "view of a view", "half"],
)
def test_operators_in_place(kind):
    check(trace_network(randomise(InPlace(kind)), torch.zeros(2, *SHAPE)))


def test_an_input_that_is_written_to():
    check(trace_network(randomise(Normalised()), torch.zeros(2, *SHAPE)))


def test_a_replay_sees_the_weights_as_they_are_now():
    network = traced("Residual")
    replay = Replay(network, (images(),))
    replay.advance(8)
    with torch.no_grad():
        network.tensor("head.weight").mul_(2)
    assert torch.equal(replay.finish(), network(images()))


def test_a_replay_cannot_go_back():
    replay = Replay(traced("Plain"), (images(),))
    replay.advance(3)
    with pytest.raises(AssertionError, match="cannot go back"):
        replay.advance(2)
