"""What the cheap estimate of a planting is: the gradient of the loss that is trained."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnslim.channels import channel_groups
from nnslim.distill import classification_loss
from nnslim.growing import plant
from nnslim.growing.screening import Batch, first_order_gain
from nnslim.network import trace_network
from nnslim.settings.train import LossConfig


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
    classification_loss(
        planted.network(images), labels, batch.teacher_logits, batch.loss
    ).backward()
    gradients = {name: planted.network.tensor(name).grad for name in planted.fresh}
    wanted = sum(gradients[n][new].double().square().sum() for n, new in planted.fresh.items())
    assert found == pytest.approx(float(wanted), rel=1e-5)
    assert found > 0
