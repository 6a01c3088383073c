"""Small networks that between them use every way in which channels travel."""

from __future__ import annotations

import copy
from functools import cache

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nnslim.network import Network, trace_network

SHAPE = (3, 8, 8)


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Draw every parameter and statistic anew: default BatchNorm values hide bugs."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if name.endswith("running_var"):
                tensor.copy_(torch.rand(tensor.shape, generator=generator) * 2 + 0.2)
            elif tensor.is_floating_point() and tensor.dim() > 1:
                fan_in = tensor[0].numel()
                tensor.copy_(torch.randn(tensor.shape, generator=generator) / fan_in**0.5)
            elif tensor.is_floating_point():
                tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.5 + 0.5)
    return module


class Plain(nn.Module):
    """Convolution, norm, in-place ReLU, dropout; every pixel of a channel into the classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 6, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 5, 3, stride=2, bias=False)
        self.bn2 = nn.BatchNorm2d(5)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(5 * 9, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.relu(self.bn2(self.conv2(x)), inplace=True)
        return self.head(self.drop(x.flatten(1)))


class Residual(nn.Module):
    """In-place sums, and an option-A shortcut whose padding is a literal of the graph."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.stem_bn = nn.BatchNorm2d(4)
        self.a1 = nn.Conv2d(4, 6, 3, padding=1, bias=False)
        self.a1_bn = nn.BatchNorm2d(6)
        self.a2 = nn.Conv2d(6, 4, 3, padding=1, bias=False)
        self.a2_bn = nn.BatchNorm2d(4)
        self.b1 = nn.Conv2d(4, 5, 3, stride=2, padding=1, bias=False)
        self.b1_bn = nn.BatchNorm2d(5)
        self.b2 = nn.Conv2d(5, 8, 3, padding=1, bias=False)
        self.b2_bn = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.stem_bn(self.stem(x)), inplace=True)
        y = self.a2_bn(self.a2(F.relu(self.a1_bn(self.a1(x)))))
        y += x
        x = F.relu(y, inplace=True)
        y = self.b2_bn(self.b2(F.relu(self.b1_bn(self.b1(x)))))
        y += F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        return self.head(F.relu(y, inplace=True).mean((2, 3)))


class Concat(nn.Module):
    """Dense connections, and a squeeze-and-excitation gate."""

    def __init__(self) -> None:
        super().__init__()
        self.c1 = nn.Conv2d(3, 5, 3, padding=1)
        self.c2 = nn.Conv2d(5, 3, 3, padding=1)
        self.bn = nn.BatchNorm2d(8)
        self.squeeze = nn.Conv2d(8, 3, 1)
        self.excite = nn.Conv2d(3, 8, 1)
        self.c3 = nn.Conv2d(8, 4, 1)
        self.head = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.c1(x))
        x = self.bn(torch.cat([self.c2(x), x], 1))
        gate = F.hardsigmoid(self.excite(F.relu(self.squeeze(F.adaptive_avg_pool2d(x, 1)))))
        x = F.hardswish(x * gate, inplace=True)
        return self.head(F.avg_pool2d(F.relu(self.c3(x)), 8).flatten(1))


class Shuffle(nn.Module):
    """Halves used in the wrong order, a channel shuffle, grouped and depthwise convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.branch = nn.Conv2d(4, 4, 1)
        self.depthwise = nn.Conv2d(4, 4, 3, padding=1, groups=4)
        self.grouped = nn.Conv2d(8, 12, 3, padding=1, groups=4)
        self.bn = nn.BatchNorm2d(12)
        self.head = nn.Linear(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        low, high = F.relu(self.stem(x)).chunk(2, dim=1)
        x = torch.cat([high, self.depthwise(self.branch(low))], 1)
        n, c, h, w = x.shape
        x = x.view(n, 2, c // 2, h, w).transpose(1, 2).contiguous().view(n, c, h, w)
        return self.head(F.relu(self.bn(self.grouped(x))).mean((2, 3)))


class Normed(nn.Module):
    """Channels last, a norm over them, layer scale: a ConvNeXt block."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 2, stride=2)
        self.norm = nn.LayerNorm(6)
        self.up = nn.Linear(6, 10)
        self.down = nn.Linear(10, 6)
        self.scale = nn.Parameter(torch.ones(6))
        self.head = nn.Linear(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.norm(x.permute(0, 2, 3, 1))
        y = (self.scale * self.down(F.gelu(self.up(y)))).permute(0, 3, 1, 2)
        return self.head((x + y).mean((2, 3)))


NETS = {kind.__name__: kind for kind in (Plain, Residual, Concat, Shuffle, Normed)}


def make(name: str) -> nn.Module:
    """A new source module, in eval mode, with random statistics."""
    return randomise(NETS[name]()).eval()


@cache
def _traced(name: str) -> Network:
    return trace_network(make(name), torch.zeros(2, *SHAPE))


def traced(name: str) -> Network:
    """A network of its own, traced once per process."""
    return copy.deepcopy(_traced(name))


def images(n: int = 4, seed: int = 1) -> Tensor:
    return torch.randn(n, *SHAPE, generator=torch.Generator().manual_seed(seed))


def assert_same(left: object, right: object) -> None:
    """Bit for bit, whatever the structure."""
    if isinstance(left, Tensor):
        assert isinstance(right, Tensor)
        assert left.dtype == right.dtype
        assert torch.equal(left, right)
    elif isinstance(left, dict):
        assert list(left) == list(right)
        for key, value in left.items():
            assert_same(value, right[key])
    elif isinstance(left, (tuple, list)):
        assert len(left) == len(right)
        for a, b in zip(left, right, strict=True):
            assert_same(a, b)
    else:
        assert left == right


def network_of(*layers: nn.Module, shape: tuple[int, ...] = SHAPE) -> Network:
    """Trace a sequence of layers."""
    return trace_network(nn.Sequential(*layers).eval(), torch.zeros(2, *shape))
