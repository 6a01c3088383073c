"""Parameters, MACs and bytes: predicted = counted = closed form = torch's own counter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from nnslim.channels import channel_groups
from nnslim.measure.cost_model import CostModel
from nnslim.measure.macs import Costs, count_costs, count_macs
from nnslim.network import Network, trace_network
from nnslim.settings.budget import Limit
from nnslim.surgery import Edit, apply_edit
from tests.network.nets import NETS, SHAPE, network_of, traced


def random_edit(draw, network: Network) -> Edit:
    keep = {}
    for group in channel_groups(network).prunable:
        indices = st.lists(st.integers(0, group.width - 1), min_size=1, unique=True)
        keep[group.name] = np.array(sorted(draw(indices)))
    return Edit(keep)


def widths(edit: Edit) -> dict[str, int]:
    return {name: len(kept) for name, kept in edit.keep.items()}


@given(data=st.data())
@pytest.mark.parametrize("name", NETS)
def test_predicted_costs_are_those_of_the_cut_network(name, data):
    network = traced(name)
    edit = random_edit(data.draw, network)
    counted = count_costs(apply_edit(network, edit))
    predicted = CostModel(network, channel_groups(network)).costs(widths(edit))
    assert predicted == counted


def test_predicted_bytes_follow_a_constant_index():
    network = traced("Shuffle")
    edit = Edit({"stem": np.array([0, 3])})
    counted = count_costs(apply_edit(network, edit)).bytes
    assert CostModel(network, channel_groups(network)).costs(widths(edit)).bytes == counted


@pytest.mark.parametrize("name", NETS)
def test_costs_of_the_whole_network(name):
    network = traced(name)
    model = CostModel(network, channel_groups(network))
    assert model.costs({}) == count_costs(network) == model.costs(model.widths)
    assert model.costs({}).params == sum(p.numel() for p in network.parameters())
    tensors = network.state_dict().values()
    assert model.costs({}).bytes == sum(t.numel() * t.element_size() for t in tensors)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("metric", ["params", "macs", "size"])
def test_savings_are_what_one_channel_less_saves(name, metric):
    network = traced(name)
    channels = channel_groups(network)
    model = CostModel(network, channels)
    full = getattr(model.costs({}), metric)
    for group, saving in zip(channels.groups, model.savings(metric), strict=True):
        rest = getattr(model.costs({group.name: group.width - 1}), metric)
        assert saving == full - rest > 0


@pytest.mark.parametrize("name", NETS)
def test_macs_equal_half_of_what_torch_counts(name):
    network = traced(name)
    counter = FlopCounterMode(display=False)
    with counter:
        network(torch.zeros(1, *SHAPE))
    assert count_macs(network).total * 2 == counter.get_total_flops()


CLOSED = {
    "convolution": ((nn.Conv2d(3, 5, 3, padding=1),), 8 * 8 * 5 * 3 * 9),
    "stride": ((nn.Conv2d(3, 5, 3, stride=2, padding=1, bias=False),), 4 * 4 * 5 * 3 * 9),
    "same padding": ((nn.Conv2d(3, 5, 3, padding="same"),), 8 * 8 * 5 * 3 * 9),
    "grouped": ((nn.Conv2d(3, 6, 3, groups=3),), 6 * 6 * 6 * 1 * 9),
    "transposed": ((nn.ConvTranspose2d(3, 5, 2, stride=2),), 8 * 8 * 3 * 5 * 4),
    "linear": ((nn.Flatten(), nn.Linear(192, 7)), 192 * 7),
    "linear on rows": ((nn.Linear(8, 5),), 3 * 8 * 8 * 5),
    "nothing": ((nn.BatchNorm2d(3), nn.ReLU(), nn.MaxPool2d(2)), 0),
}


@pytest.mark.parametrize(("layers", "macs"), CLOSED.values(), ids=CLOSED)
def test_macs_by_closed_form(layers, macs):
    assert count_macs(network_of(*layers)).total == macs


def test_a_weight_used_twice_counts_twice():
    shared = nn.Conv2d(3, 3, 1, bias=False)
    network = network_of(shared, nn.ReLU(), shared)
    assert count_macs(network).total == 2 * 64 * 9
    model = CostModel(network, channel_groups(network))
    assert model.costs({}) == Costs(params=9, macs=2 * 64 * 9, bytes=36)


class Product(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.matmul(x, x.transpose(-1, -2)).mean((2, 3))


def test_products_of_activations_are_named_as_not_counted():
    counted = count_macs(trace_network(Product(), torch.zeros(2, *SHAPE)))
    assert counted.total == 0
    (place,) = counted.not_counted
    assert place.startswith("aten.matmul.default (pruning/test_costs.py:")


@pytest.mark.parametrize(
    ("limit", "total", "expected"),
    [
        (Limit(0.5, relative=True), 271, 135),
        (Limit(0.29, relative=True), 100, 29),
        (Limit(1.0, relative=True), 7, 7),
        (Limit(130_000, relative=False), 271_000, 130_000),
        (Limit(0.1, relative=True), 5, 0),
    ],
)
def test_limits(limit, total, expected):
    assert limit.of(total) == expected
