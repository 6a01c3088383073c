"""Small networks and batches that the tests of training share."""

from __future__ import annotations

import torch
from torch import nn

CPU = torch.device("cpu")


class Batches(list):
    """A loader over fixed batches that remembers the epochs it was asked for."""

    def __init__(self, batches):
        super().__init__(batches)
        self.epochs = []

    def set_epoch(self, epoch):
        self.epochs.append(epoch)


def toy_net(seed=0, dropout=0.2):
    """Convolution, batch norm, dropout and a linear layer: everything that has state."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, padding=1, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Dropout(dropout),
        nn.Conv2d(6, 4, 3, stride=2, bias=True),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def separable_batches(n_batches=4, size=16, seed=7):
    """Three classes that differ in the mean of their channels."""
    generator = torch.Generator().manual_seed(seed)
    centres = torch.tensor([[2.0, 0.0], [-2.0, 1.0], [0.0, -2.0]])
    batches = []
    for _ in range(n_batches):
        labels = torch.randint(3, (size,), generator=generator)
        noise = torch.randn(size, 2, 6, 6, generator=generator)
        batches.append((centres[labels][:, :, None, None] + noise, labels))
    return Batches(batches)


def state_of(module):
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def assert_same_bits(left, right):
    assert left.keys() == right.keys()
    for name, tensor in left.items():
        assert torch.equal(tensor, right[name]), name


class Ridge:
    """A gradient penalty: ``weight`` times the first layer's weights, relative to a memory.

    Its effect depends on everything that it may depend on: weights, gradients, step, epoch, state.
    """

    def __init__(self, weight, memory=0.0):
        self.weight, self.memory, self.scale = weight, memory, 0.0
        self.average, self.norm, self.seen = 0.0, 0.0, []

    def start_epoch(self, network, epoch, epochs):
        self.seen.append(("epoch", epoch, epochs))
        self.scale = 1 + self.memory * network[0].weight.detach().abs().mean().item()

    def add_(self, network, step, steps):
        self.seen.append((step, steps))
        weight = network[0].weight
        self.norm = weight.grad.norm().item()
        self.average += self.memory * (self.norm - self.average)
        weight.grad.add_(weight.detach(), alpha=self.weight * self.scale * (1 + self.average))

    def state(self):
        return {"average": self.average}

    def restore(self, state):
        self.average = state["average"]

    def identity(self):
        return {"name": "ridge", "weight": self.weight, "memory": self.memory}
