"""Law 6: planting leaves every earlier weight and statistic as it was, bit for bit."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from nnslim.channels import channel_groups
from nnslim.growing import PlantedEntries, growable, plant
from nnslim.growing.planting import obstacle, planting_order
from nnslim.growing.training import calibrate
from nnslim.network import Network, trace_network
from nnslim.surgery import PLANT, Edit, Planted, apply_edit
from nnslim.train import TrainConfig, fit
from tests.laws.strategies import RandomNet, networks
from tests.laws.test_plant import PUBLISHED
from tests.laws.test_sweep import network_of as published_network
from tests.laws.zoo import network_of

TRAININGS = {
    "momentum and decay": TrainConfig(epochs=2, lr=0.1, momentum=0.9, weight_decay=0.1),
    "adamw": TrainConfig(epochs=2, lr=0.05, optimizer="adamw", weight_decay=0.1),
    "bf16": TrainConfig(epochs=2, lr=0.05, optimizer="adamw", precision="bf16"),
    "average": TrainConfig(epochs=2, lr=0.05, ema=0.9, grad_clip=1.0),
}


class Batches(list):
    def set_epoch(self, epoch: int) -> None:
        pass


def batches(network: Network) -> Batches:
    generator = torch.Generator().manual_seed(0)
    shape, classes = network.input_shape, network.n_classes
    return Batches(
        (
            torch.randn((8, *shape), generator=generator),
            torch.randint(classes, (8,), generator=generator),
        )
        for _ in range(3)
    )


def trained(planted: Planted, config: TrainConfig) -> Network:
    entries = PlantedEntries(planted)
    data = batches(planted.network)
    fit(entries, data, config, device=torch.device("cpu"))
    calibrate(entries, data, 2)
    return entries.write_back()


def plant_and_train(
    network: Network, groups: list[str], config: TrainConfig
) -> tuple[Network, Planted]:
    channels = channel_groups(network)
    planted = plant(network, channels, dict.fromkeys(groups, 2), seed=1)
    before = copy.deepcopy(planted.network)
    after = trained(planted, config)
    moved = 0
    for name, tensor in after.state_dict().items():
        fresh = planted.fresh.get(name, torch.zeros(tensor.shape, dtype=torch.bool))
        assert torch.equal(tensor[~fresh], before.state_dict()[name][~fresh]), name
        moved += int((tensor[fresh] != before.state_dict()[name][fresh]).sum())
    assert moved, "nothing was trained"
    orders = {group: planting_order(channels[group], 2) for group in groups}
    earlier = Edit({group: np.flatnonzero(own != PLANT) for group, own in orders.items()})
    back = apply_edit(after, earlier, planted.channels)
    for name, tensor in network.state_dict().items():
        assert torch.equal(back.state_dict()[name], tensor), name
    return after, planted


@pytest.mark.parametrize("training", TRAININGS)
@pytest.mark.parametrize("name", ["Residual", "Dense", "SqueezeExcite", "Grouped", "Depthwise"])
def test_earlier_weights_are_bit_identical(name, training):
    network = network_of(name)
    if network.n_classes is None:
        pytest.skip("no logits")
    groups = [group.name for group in growable(channel_groups(network))]
    for group in groups[:3]:
        plant_and_train(network, [group], TRAININGS[training])
    plant_and_train(network, groups, TRAININGS[training])


@pytest.mark.parametrize("name", PUBLISHED)
def test_earlier_weights_are_bit_identical_in_published_networks(name):
    """Into the first and the last group, and into all where that can be; each trained its way."""
    network = published_network(name)
    channels = channel_groups(network)
    names = [group.name for group in growable(channels)]
    ways = [replace(own, epochs=1) for own in TRAININGS.values()]
    everywhere = obstacle(network, channels, dict.fromkeys(names, 2)) is None
    chosen = [[names[0]], [names[-1]], *([names] if everywhere else [])]
    for number, groups in enumerate(chosen):
        plant_and_train(network, groups, ways[(number + len(name)) % len(ways)])


@given(networks(), st.integers(0, 99), st.sampled_from(sorted(TRAININGS)))
def test_earlier_weights_are_bit_identical_in_random_networks(
    model: RandomNet, seed: int, training: str
):
    network = trace_network(model, torch.zeros(2, 3, 8, 8))
    channels = channel_groups(network)
    names = [group.name for group in growable(channels)]
    assume(names)
    for chosen in ([names[seed % len(names)]], names):
        if obstacle(network, channels, dict.fromkeys(chosen, 2)) is None:
            plant_and_train(network, chosen, TRAININGS[training])


@pytest.mark.parametrize("affine", [True, False])
def test_batch_norms_with_and_without_scale_and_shift(affine):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, affine=affine), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(4, 5, 6), nn.Flatten())
    network = trace_network(model.eval(), torch.zeros(2, 3, 8, 8))
    plant_and_train(network, ["0"], TRAININGS["adamw"])


def test_what_trains_is_what_ships():
    """In eval mode the training module and the network that it writes give the same logits."""
    network = network_of("Residual")
    group = growable(channel_groups(network))[0]
    planted = plant(network, channel_groups(network), {group.name: 2}, seed=1)
    entries, data = PlantedEntries(planted), batches(planted.network)
    fit(entries, data, TRAININGS["adamw"], device=torch.device("cpu"))
    calibrate(entries, data, 2)
    with torch.no_grad():
        images = data[0][0]
        trained_logits = entries.eval()(images)
        assert torch.equal(trained_logits, entries.write_back()(images))


@pytest.mark.parametrize("name", ["Residual", "Dense", "Depthwise"])
def test_onward_wiring_leaves_what_earlier_channels_compute_as_it_was(name):
    """Without what the last layers read of new channels, the grown network is the one before."""
    network = network_of(name)
    channels = channel_groups(network)
    planted = plant(network, channels, {own.name: 2 for own in growable(channels)}, seed=1)
    data = batches(network)
    differences: dict[bool, float] = {}
    for onward in (True, False):
        entries = PlantedEntries(copy.deepcopy(planted), onward=onward)
        fit(entries, data, TRAININGS["momentum and decay"], device=torch.device("cpu"))
        calibrate(entries, data, 2)
        grown = entries.write_back()
        weights = {n: new for n, new in planted.fresh.items() if new.dim() > 1}
        last = [n for n, new in weights.items() if not new.flatten(1).all(dim=1).any()]
        assert last
        with torch.no_grad():
            assert all(grown.tensor(n)[planted.fresh[n]].abs().sum() > 0 for n in last)
            for own in last:
                grown.tensor(own)[planted.fresh[own]] = 0.0
            found, wanted = grown.eval()(data[0][0]), network.eval()(data[0][0])
        differences[onward] = float((found - wanted).abs().max())
    assert differences[True] < 1e-5, differences
    assert differences[False] > 1e-3, differences


def test_new_batch_norm_channels_use_the_batch_and_earlier_ones_their_own():
    network = network_of("Residual")
    group = next(
        g
        for g in growable(channel_groups(network))
        if any("running_mean" in m.tensor for m in g.members)
    )
    planted = plant(network, channel_groups(network), {group.name: 2}, seed=1)
    entries, data = PlantedEntries(planted), batches(planted.network)
    calibrate(entries, data, 3)
    wanted = copy.deepcopy(planted.network).train()
    means = {n: f for n, f in planted.fresh.items() if n.endswith("running_mean")}
    first = next(iter(means))
    written = entries.write_back()
    assert written.tensor(first)[means[first]].abs().sum() > 0
    # An oracle: torch's own batch norm, whose new channels see the same activations, because
    # nothing before the first of them is new.
    sums = torch.zeros_like(wanted.tensor(first))
    for images, _ in data:
        wanted.tensor(first).zero_()
        _eval_but(wanted, first, images)
        sums += wanted.tensor(first) / 0.1 / len(data)
    fresh = means[first]
    assert torch.allclose(sums[fresh], written.tensor(first)[fresh], rtol=1e-4, atol=1e-5)


def _eval_but(network: Network, mean: str, images: torch.Tensor) -> None:
    """Run with every batch norm but one on its statistics."""

    def call(step, args, kwargs):
        own = step.node.op == "aten.batch_norm.default" and step.node.args[3].name == mean
        if step.node.op == "aten.batch_norm.default":
            args[5], args[6] = own, 0.1
        return step.function(*args, **kwargs)

    env = {network.graph.inputs[0].name: images}
    with torch.no_grad():
        network.program.run(network.eval(), env, images.device, call=call)
