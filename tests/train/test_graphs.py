"""Steps replayed as CUDA graphs: the same training, whatever happens to the network around them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from nnslim.growing.training import PlantedEntries
from nnslim.network import trace_network
from nnslim.surgery import PLANT, Edit, plant_channels
from nnslim.train import Callbacks, TrainConfig, fit
from nnslim.train.graphs import GraphReplay
from tests.train.toys import CPU, Batches, assert_same_bits, separable_batches, state_of, toy_net

CUDA = torch.device("cuda")


def trained(*, network=None, loader=None, teacher=None, device=CUDA, **settings):
    network = toy_net(dropout=0.0) if network is None else network
    loader = separable_batches() if loader is None else loader
    config = TrainConfig(**{"epochs": 3, "lr": 0.05, **settings})
    told = []
    result = fit(
        network,
        loader,
        config,
        device=device,
        teacher=teacher,
        callbacks=Callbacks(on_event=told.append),
    )
    return result, network.cpu(), [event.note for event in told if event.kind == "warning"]


def test_on_the_cpu_nothing_is_captured():
    result, _, warnings = trained(device=CPU)
    assert not result.graphed
    assert not warnings


def test_a_replay_on_the_cpu_leaves_the_gradients_of_one_call_alone():
    layer = nn.Linear(1, 1, bias=False)

    def passes(x):
        loss = layer(x).sum()
        loss.backward()
        return (loss.detach(),)

    call = GraphReplay(passes, layer)
    for _ in range(2):
        call(torch.full((1, 1), 3.0))
    assert layer.weight.grad.item() == 3.0


@pytest.mark.gpu
@pytest.mark.parametrize("taught", [False, True])
@pytest.mark.parametrize("settings", [{}, {"precision": "bf16"}, {"optimizer": "adamw"}])
def test_graphs_train_as_eager_steps_do(taught, settings):
    ends = []
    for graph in (False, True):
        teacher = toy_net(seed=1) if taught else None
        result, network, warnings = trained(teacher=teacher, cuda_graph=graph, **settings)
        assert result.graphed is graph
        assert not warnings
        ends.append((result, state_of(network)))
    (eager, before), (replayed, after) = ends
    assert [r.loss for r in replayed.history] == pytest.approx([r.loss for r in eager.history])
    for name, value in before.items():
        torch.testing.assert_close(after[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_batches_of_another_size_and_networks_that_move():
    loader = Batches([*separable_batches(3), *separable_batches(1, size=5)])

    def elsewhere(network):
        for parameter in network.parameters():
            parameter.data = parameter.data.clone()  # as moving to another layout does
        return 0.0

    ends = []
    for graph in (False, True):
        network = toy_net(dropout=0.0)
        config = TrainConfig(epochs=3, lr=0.05, cuda_graph=graph)
        result = fit(
            network,
            loader,
            config,
            device=CUDA,
            callbacks=Callbacks(elsewhere),
        )
        assert result.graphed is graph
        ends.append(state_of(network.cpu()))
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-3, atol=1e-4)


class Looking(nn.Module):
    """Looks at a value, which a capture does not allow."""

    def __init__(self):
        super().__init__()
        self.net = toy_net(dropout=0.0)

    def forward(self, images):
        scale = 1.0 if images.abs().max().item() > 0 else 0.5
        return self.net(images) * scale


@pytest.mark.gpu
def test_what_cannot_be_captured_runs_as_it_is_and_says_so():
    result, network, (warning,) = trained(network=Looking())
    assert not result.graphed
    assert warning.startswith("the training step is not a CUDA graph: ")
    eager, other, _ = trained(network=Looking(), cuda_graph=False)
    assert [r.loss for r in result.history] == pytest.approx([r.loss for r in eager.history])
    for name, value in state_of(other).items():
        torch.testing.assert_close(state_of(network)[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.gpu
def test_dropout_draws_anew_at_every_replay():
    images = torch.ones(64, 2, 6, 6)
    loader = Batches([(images, torch.zeros(64, dtype=torch.int64))] * 4)
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(72, 3))
    losses = []
    fit(
        network,
        loader,
        TrainConfig(epochs=3, lr=1e-12, weight_decay=0.0),
        device=CUDA,
        callbacks=Callbacks(
            on_event=lambda event: losses.append(event.loss) if event.kind == "epoch" else None
        ),
    )
    assert len(set(losses)) == 3


@pytest.mark.gpu
def test_planted_entries_train_as_graphs_and_the_rest_stays():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3, padding=1, bias=False),
        nn.BatchNorm2d(3),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )
    seed = trace_network(model.eval(), torch.zeros(2, 2, 6, 6))
    ends = []
    for graph in (False, True):
        planted = plant_channels(seed, Edit({"0": np.array([0, 1, 2, PLANT, PLANT])}))
        entries = PlantedEntries(planted)
        result, _, _ = trained(
            network=entries, cuda_graph=graph, compile=False, optimizer="adamw", weight_decay=0.1
        )
        assert result.graphed is graph
        ends.append((planted.fresh, state_of(entries.write_back())))
    (fresh, eager), (_, replayed) = ends
    old = {name: value for name, value in seed.state_dict().items() if name not in fresh}
    assert_same_bits(old, {name: replayed[name] for name in old})
    assert (replayed["0.weight"][:3] == seed.tensor("0.weight")).all()
    for name, value in eager.items():
        torch.testing.assert_close(replayed[name], value, rtol=1e-3, atol=1e-4)
