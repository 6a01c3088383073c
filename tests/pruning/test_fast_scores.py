"""The short ways of ``measured`` lead where the long one does: every channel, the whole network."""

from __future__ import annotations

import copy
from collections import Counter

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnslim.channels import channel_groups
from nnslim.channels.places import reading_places
from nnslim.network import Network, trace_network
from nnslim.network.graph import tensor_refs
from nnslim.pruning.scores.contribution import Layer, enter
from nnslim.pruning.scores.jacobian import jacobian
from nnslim.pruning.scores.measured import measured
from nnslim.pruning.scores.removal import find_reading
from nnslim.pruning.scores.replay import Replay
from nnslim.pruning.scores.streamline import streamlined
from tests.laws.zoo import NETS as ZOO
from tests.laws.zoo import network_of as from_zoo
from tests.network.nets import NETS, SHAPE, images, randomise, traced

ONE_INPUT = sorted(name for name, case in ZOO.items() if len(case.shapes) == 1)


@torch.no_grad()
def naive(network: Network, x: Tensor) -> dict[str, list[float]]:
    """Zero the incoming slices of every channel, run the whole network, compare the logits."""
    channels, network = channel_groups(network), copy.deepcopy(network).eval()
    places, dense = reading_places(channels), network(x.clone())
    found: dict[str, list[float]] = {}
    for group in channels.prunable:
        reading = find_reading(network, places, group)
        for channel in range(group.width):
            with reading.without(network, channel) as call:
                env = {network.graph.inputs[0].name: x.clone()}
                logits = network.program.run(network, env, x.device, 0, call)
            score = float((logits - dense).square().mean())
            found.setdefault(group.name, []).append(score)
    return found


def check(network: Network, x: Tensor) -> None:
    found = measured(network, channel_groups(network), [(x, torch.zeros(len(x)).long())], "logits")
    expected = naive(network, x)
    assert found.keys() == expected.keys()
    for group, scores in expected.items():
        np.testing.assert_allclose(found[group], scores, rtol=1e-9, atol=1e-20, err_msg=group)
        assert np.array_equal(np.argsort(found[group]), np.argsort(scores))


class Written(nn.Module):
    """Layers whose outputs, inputs or weights are used in more than one way."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.a, self.b = nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 3, padding=1)
        self.c, self.d, self.e = nn.Conv2d(4, 5, 1), nn.Conv2d(5, 5, 1), nn.Conv2d(4, 5, 1)
        self.bn, self.bn2, self.bn3 = nn.BatchNorm2d(4), nn.BatchNorm2d(5), nn.BatchNorm2d(4)
        self.head = nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu(self.bn(self.a(x)), inplace=True)
        match self.kind:
            case "norm of a value that is read twice":
                z = self.b(y)
                y = F.relu(z + self.bn3(z))
            case "two norms with one layer":
                y = self.bn3(self.b(F.relu(self.bn(self.b(y)))))
            case "output overwritten after it was read":
                z = self.b(y)
                w = self.bn3(z)
                y = F.relu(w) + F.relu(z, inplace=True)
            case "view written to":
                z = self.b(y)
                z[:, :2].relu_()
                y = y + z
            case "input overwritten":
                z = self.bn3(self.b(y))
                y = F.gelu(z).add_(y.mul_(2))
            case "sum with itself":
                z = self.b(y)
                y = F.relu(z).add_(z.transpose(2, 3))
            case "one layer for two inputs":
                y = self.b(y) + self.b(y.exp())
            case "shared weight":
                y = F.relu(self.b(F.relu(self.b(y))))
            case _:
                y = F.dropout(self.b(y), 0.5, self.training).relu_()
        y = self.d(F.silu(self.bn2(self.c(y)), inplace=True)) * torch.sigmoid(self.e(y))
        return self.head(y.mean((2, 3)))


WRITTEN = [
    "norm of a value that is read twice",
    "two norms with one layer",
    "output overwritten after it was read",
    "view written to",
    "input overwritten",
    "sum with itself",
    "shared weight",
    "one layer for two inputs",
    "plain",
]


def written(kind: str) -> Network:
    return trace_network(randomise(Written(kind)).eval(), torch.zeros(2, *SHAPE)).double()


@pytest.mark.parametrize("kind", WRITTEN)
def test_values_used_in_several_ways(kind):
    check(written(kind), images(3).double())


def test_a_channel_that_is_dead_where_it_is_read_first_may_be_read_again():
    network = written("one layer for two inputs")
    with torch.no_grad():
        network.tensor("bn.bias")[1] = -1000.0  # the second time, exp(0) is read
    check(network, images(3).double())
    assert naive(network, images(3).double())["a"][1] > 0


@pytest.mark.parametrize("name", NETS)
def test_networks(name):
    check(traced(name).double(), images(3).double())


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_INPUT)
def test_the_zoo(name):
    network = copy.deepcopy(from_zoo(name)).double()
    x = torch.randn(2, *ZOO[name].shapes[0], generator=torch.Generator().manual_seed(3))
    if isinstance(network(x.double()), Tensor):
        check(network, x.double())


@pytest.mark.slow
@pytest.mark.parametrize("name", ONE_INPUT)
def test_the_screen_of_the_zoo(name):
    """Where only weights read a group: the slope of the logits as its slices shrink."""
    network = copy.deepcopy(from_zoo(name)).double()
    x = torch.randn(2, *ZOO[name].shapes[0], generator=torch.Generator().manual_seed(3)).double()
    if network.n_classes is None:
        return
    channels, step = channel_groups(network), 1e-5
    found = jacobian(network, channels, [(x, torch.zeros(2).long())], probes=4)
    places = reading_places(channels)
    uses = Counter(r.name for node in network.graph.nodes for r in tensor_refs(node.arguments))
    readings = (find_reading(network, places, group) for group in channels.prunable)
    for reading in readings:
        # A slice of a weight with a second use is more than the removal: only inputs are read.
        if reading.sums or any(uses[m.tensor] > 1 for m in reading.weights):
            continue
        ends = []
        for factor in (1 + step, 1 - step):
            twin = copy.deepcopy(network)
            with torch.no_grad():
                for member in reading.weights:
                    twin.tensor(member.tensor)[:, member.positions[0]] *= factor
                ends.append(twin(x.clone()))
        slope = float(((ends[0] - ends[1]) / (2 * step)).square().mean())
        assert found[reading.group.name][0] == pytest.approx(slope, rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("kind", WRITTEN)
def test_a_streamlined_network_computes_the_same(kind):
    network, x = written(kind), images(3).double()
    before = copy.deepcopy(network.state_dict())
    fast = streamlined(network)
    torch.testing.assert_close(fast(x), network(x), rtol=1e-12, atol=1e-12)
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


def test_norms_are_folded_and_in_place_operators_are_plain():
    operators = [node.op for node in streamlined(traced("Residual")).graph.nodes]
    assert not any("batch_norm" in op or "relu_" in op or "add_" in op for op in operators)
    kept = [n.op for n in streamlined(written("two norms with one layer")).graph.nodes]
    assert sum("batch_norm" in op for op in kept) == 3  # they share a weight or statistics


def entered(network: Network) -> dict[str, bool]:
    """Whether each group's first reader need not run again, by group."""
    channels, fast = channel_groups(network), streamlined(network.double())
    places, found = reading_places(channels), {}
    number = {node.name: index for index, node in enumerate(fast.graph.nodes)}
    for group in channels.prunable:
        reading = find_reading(network, places, group)
        start = number[network.graph.nodes[reading.start].name]
        with torch.inference_mode():
            layer = enter(fast, Replay(fast, (images(2).double(),)), start, [reading])
        found[group.name] = isinstance(layer, Layer)
    return found


def test_the_short_way_is_taken():
    assert all(entered(traced("Plain")).values())
    assert all(entered(traced("Residual")).values())
    assert entered(written("shared weight"))["a"]


def test_the_long_way_is_taken_where_a_later_node_writes_into_the_output():
    assert not entered(written("view written to"))["a"]


def test_single_precision_is_as_exact_as_the_naive_loop():
    network, x = traced("Residual"), images(16)
    samples = [(x, torch.zeros(16).long())]
    found = measured(network, channel_groups(network), samples, "logits")
    rough, exact = naive(network, x), naive(copy.deepcopy(network).double(), x.double())
    for group, scores in exact.items():
        own = np.abs(found[group] - scores) / np.max(scores)
        assert own.max() <= max(np.abs(np.array(rough[group]) - scores).max() / max(scores), 1e-6)
