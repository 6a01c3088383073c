from __future__ import annotations

import torch
from torch import nn

from nnslim.train import TrainConfig, fit, split_by_decay
from tests.train.toys import CPU, Batches, toy_net


def test_only_weights_of_convolutions_and_linear_layers_decay():
    decayed, plain = split_by_decay(toy_net())
    assert list(decayed) == ["0.weight", "4.weight", "9.weight"]
    assert list(plain) == ["1.weight", "1.bias", "4.bias", "5.weight", "5.bias", "9.bias"]


def test_frozen_parameters_are_in_neither_list():
    network = toy_net()
    network[0].weight.requires_grad_(requires_grad=False)
    decayed, plain = split_by_decay(network)
    assert "0.weight" not in decayed | plain


class Detached(nn.Module):
    """Its logits do not depend on its parameters, so that decay is all that moves them."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(2, 3, 1)
        self.norm = nn.BatchNorm2d(3)

    def forward(self, images):
        return self.norm(self.conv(images)).mean((2, 3)) * 0


def test_decay_moves_weights_and_leaves_norms_and_biases():
    network = Detached()
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    config = TrainConfig(epochs=1, lr=0.5, momentum=0, nesterov=False, weight_decay=0.1)
    config = TrainConfig(**(config.to_json() | {"warmup_fraction": 0.0}))
    fit(network, Batches([(torch.randn(8, 2, 3, 3), torch.zeros(8).long())]), config, device=CPU)
    torch.testing.assert_close(network.conv.weight.data, before["conv.weight"] * (1 - 0.5 * 0.1))
    for name in ("conv.bias", "norm.weight", "norm.bias"):
        assert torch.equal(network.get_parameter(name), before[name]), name
