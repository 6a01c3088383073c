"""What the cheap estimate of a planting is: the gradient of the loss that is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnslim.channels import channel_groups
from nnslim.distill import LossConfig, classification_loss
from nnslim.growing import plant
from nnslim.growing.screening import Batch, Site, first_order_gain, gradmax_channels
from nnslim.network import trace_network


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_the_gain_is_the_squared_gradient_of_the_loss_that_is_trained(share):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16, 5)
    )
    network = trace_network(model.eval(), torch.zeros(2, 2, 6, 6))
    planted = plant(network, channel_groups(network), {"0": 2}, seed=1)
    images, labels, taught = torch.randn(8, 2, 6, 6), torch.randint(5, (8,)), torch.randn(8, 5)
    batch = Batch(images, labels, taught if share else None, LossConfig(0.1, share, 2.0))
    found = first_order_gain(planted, batch)
    classification_loss(planted.network(images), labels, batch.taught, batch.loss).backward()
    gradients = {name: planted.network.tensor(name).grad for name in planted.fresh}
    wanted = sum(gradients[n][new].double().square().sum() for n, new in planted.fresh.items())
    assert found == pytest.approx(float(wanted), rel=1e-5)
    assert found > 0


@pytest.mark.parametrize("count", [1, 2])
def test_gradmax_finds_the_singular_vectors_where_nothing_lies_between(count):
    """Without an activation, the gradient by what reads a channel w is M w, and M is known."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 3, 1), nn.Conv2d(3, 4, 1), nn.Flatten()).double()
    network = trace_network(model.eval(), torch.zeros(2, 6, 1, 1, dtype=torch.float64))
    images, labels = torch.randn(16, 6, 1, 1, dtype=torch.float64), torch.randint(4, (16,))
    batch = Batch(images, labels, None, LossConfig(0.0, 0.0, 1.0))
    planted = gradmax_channels(Site(network, channel_groups(network), "0", count, 1), batch)
    logits = network(images).detach().requires_grad_()
    nn.functional.cross_entropy(logits, labels).backward()
    _, sizes, vectors = torch.linalg.svd(logits.grad.T @ images.flatten(1))
    found = planted.network.tensor("0.weight")[-count:].flatten(1)
    drawn = plant(network, channel_groups(network), {"0": 8 * count}, seed=1)
    norm = drawn.network.tensor("0.weight")[3:].detach().flatten(1).norm(dim=1).mean()
    cosines = (found @ vectors[:count].T).abs() / norm
    assert torch.allclose(cosines, torch.eye(count, dtype=torch.float64), atol=1e-6)
    gain = first_order_gain(planted, batch)
    assert gain == pytest.approx(float((norm * sizes[:count].detach()).square().sum()), rel=1e-6)


def test_gradmax_takes_the_better_of_a_channel_and_its_negative():
    torch.manual_seed(1)
    layers = [nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(16, 5)]
    network = trace_network(nn.Sequential(*layers).eval(), torch.zeros(2, 2, 6, 6))
    images, labels = torch.randn(8, 2, 6, 6), torch.randint(5, (8,))
    batch = Batch(images, labels, None, LossConfig(0.0, 0.0, 1.0))
    gains = {}
    for seed in range(4):
        planted = gradmax_channels(Site(network, channel_groups(network), "0", 1, seed), batch)
        gain = first_order_gain(planted, batch)
        with torch.no_grad():
            planted.network.tensor("0.weight")[-1] *= -1
        gains[seed] = (gain, first_order_gain(planted, batch))
    assert all(better > worse > 0 for better, worse in gains.values()), gains
