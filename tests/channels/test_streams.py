"""Residual streams: channels in which different layers' results are summed, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from nnslim.channels import channel_groups, residual_streams
from nnslim.network import trace_network
from nnslim.network.network import Network


def streams(network: Network) -> set[str]:
    return set(residual_streams(channel_groups(network)))


class Block(nn.Module):
    """A stem, a hidden layer of 12 channels, a head; what happens in between differs."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.up, self.down = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 12, 1), nn.Conv2d(12, 8, 1)
        self.other, self.gate = nn.Conv2d(8, 12, 1), nn.Conv2d(12, 12, 1)
        self.depthwise = nn.Conv2d(12, 12, 3, padding=1, groups=12)
        self.norm, self.head = nn.BatchNorm2d(8), nn.Conv2d(8, 2, 1)

    def hidden(self, x: Tensor) -> Tensor:
        return self.up(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.down(self.hidden(self.stem(x))))


class Residual(Block):
    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).relu()
        return self.head(y + self.norm(self.down(self.hidden(y).relu())))


class InPlace(Block):
    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        z = self.down(self.hidden(y))
        z -= y
        return self.head(z)


class Gated(Block):
    def hidden(self, x: Tensor) -> Tensor:
        y = self.depthwise(self.up(x))
        return y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()


class WrittenOut(Block):
    def hidden(self, x: Tensor) -> Tensor:
        y = self.up(x)
        return y * (1 + torch.tanh(0.8 * (y + 0.04 * y**3))) + 0.1 * y


class GatedByItself(Block):
    def hidden(self, x: Tensor) -> Tensor:
        y = self.up(x)
        return y + y * self.gate(y.mean((2, 3), keepdim=True)).sigmoid()


class GateAndOne(Block):
    def hidden(self, x: Tensor) -> Tensor:
        return self.up(x) * self.other(x).sigmoid() + 1


class AfterASize(Block):
    def hidden(self, x: Tensor) -> Tensor:
        y = self.up(x).relu()
        return y + y.flatten(1).view(x.shape[0], 12, *x.shape[2:]).sigmoid()


class Standardised(Block):
    """The weights of the last layer of the block are computed, not stored."""

    def forward(self, x: Tensor) -> Tensor:
        y, w = self.stem(x).relu(), self.down.weight
        w = w / (w.square().mean((1, 2, 3), keepdim=True) + 1e-5).sqrt()
        return self.head(y + torch.conv2d(self.hidden(y).relu(), w))


class Product(Block):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Parameter(torch.ones(8, 12)), nn.Parameter(torch.ones(12, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).relu().permute(0, 2, 3, 1)
        return self.head((y + (y @ self.one).relu() @ self.two).permute(0, 3, 1, 2))


class Weighted(Block):
    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.head(torch.lerp(y, self.down(self.hidden(y).relu()), 0.3))


class Joined(Block):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(24, 8, 1)

    def hidden(self, x: Tensor) -> Tensor:
        return torch.cat([self.up(x), self.other(x)], 1) + 1


class Branches(Block):
    def hidden(self, x: Tensor) -> Tensor:
        return self.up(x) + self.other(x)


class AroundTheInput(Block):
    def __init__(self) -> None:
        super().__init__()
        self.down = nn.Conv2d(12, 3, 1)
        self.stem, self.head = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x + self.down(self.hidden(self.stem(x))))


@pytest.mark.parametrize(
    ("block", "found"),
    [
        (Block, set()),
        (Residual, {"stem"}),
        (InPlace, {"stem"}),
        (Gated, set()),
        (GatedByItself, set()),
        (GateAndOne, set()),
        (AfterASize, set()),
        (Standardised, {"stem"}),
        (Product, {"stem"}),
        (Weighted, {"stem"}),
        (WrittenOut, set()),
        (Joined, set()),
        (Branches, {"up"}),
        (AroundTheInput, set()),
    ],
)
def test_a_stream_is_a_sum_of_what_different_layers_make(block, found):
    assert streams(trace_network(block().eval(), torch.zeros(2, 3, 8, 8))) == found


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("resnet18", {f"layer{i}.0.conv2" for i in (2, 3, 4)} | {"conv1"}),
        ("resnet50", {f"layer{i}.0.conv3" for i in (1, 2, 3, 4)}),
        ("mobilenet_v2", {f"features.{i}.conv.2" for i in (2, 4, 7, 11, 14)}),
        ("densenet121", set()),
        ("vgg11_bn", set()),
    ],
)
def test_published_networks_have_the_streams_that_their_plans_draw(name, found):
    from torchvision import models

    network = trace_network(getattr(models, name)(weights=None).eval(), torch.zeros(2, 3, 64, 64))
    assert streams(network) == found
