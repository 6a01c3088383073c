"""Tiny networks, with BatchNorm statistics that a wrong folding cannot hide behind."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnslim.data.preprocess import Preprocess


def randomise_norms(net: nn.Module, seed: int = 0) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            n = module.num_features
            module.running_mean.copy_(torch.randn(n, generator=generator))
            module.running_var.copy_(torch.rand(n, generator=generator) * 2 + 0.2)
            module.weight.data.copy_(torch.randn(n, generator=generator))
            module.bias.data.copy_(torch.randn(n, generator=generator))
    return net


class TwoBranches(nn.Module):
    """Two convolutions with BatchNorm that read the same tensor: pytorch#166797 mixed them up."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.left_norm = nn.BatchNorm2d(8)
        self.right = nn.Conv2d(3, 8, 1, bias=False)
        self.right_norm = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 10)
        self.input_shape = (3, 8, 8)
        self.preprocess = Preprocess(size=(8, 8), mean=(0.4, 0.5, 0.6), std=(0.2, 0.25, 0.3))
        self.classes = tuple(f"klasse-ä{i}" for i in range(10))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.left_norm(self.left(x)) + self.right_norm(self.right(x)))
        return self.head(y.mean((2, 3)))


class Head(nn.Module):
    """A linear layer on pixels; ``how`` chooses a way to mistreat the batch, or digits."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.head = nn.Linear(12, 6)
        self.input_shape = (3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        match self.how:
            case "view":  # exports as "dynamic" without complaint
                return self.head(x.flatten(1)).view(2, -1)
            case "branch":
                flat = x.flatten(1)
                return self.head(flat) if len(x) == 2 else flat[:, :6]
            case "literal":
                return self.head(x.view(2, 12))
            case "noisy":  # float32 has no digits left for what 1e4 takes
                return self.head(x.flatten(1)) + 1e4 - 1e4
            case _:
                return self.head(x.flatten(1))


class Clamped(nn.Module):
    """One value between two pairs of bounds, each of them a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(12, 6) for _ in range(2))
        self.register_buffer("bounds", torch.tensor([-0.5, 0.25, -0.125, 1.0]))
        self.input_shape = (3, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        low, high, lower, higher = self.bounds.unbind()
        y = x.flatten(1)
        return self.heads[0](y.clamp(low, high)) + self.heads[1](y.clamp(lower, higher))


def two_branches() -> TwoBranches:
    torch.manual_seed(0)
    net = TwoBranches()
    randomise_norms(net)
    return net
