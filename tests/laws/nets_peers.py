"""Small networks of the kinds that other pruning tools test themselves on, written afresh."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.laws.blocks import Net, Registry, conv, conv_bn

__all__ = ["PEERS"]

PEERS = Registry()


@PEERS.add({"one.0": 8, "two.0": 6, "three.0": 10, "last.0": 8})
class CascadedConcat(Net):
    """A concatenation of a concatenation, and the first piece once more."""

    def __init__(self) -> None:
        super().__init__(8)
        self.one, self.two, self.three = conv_bn(3, 8), conv_bn(8, 6), conv_bn(14, 10)
        self.last = conv_bn(8 + 6 + 10 + 8, 8)

    def forward(self, x: Tensor) -> Tensor:
        a = self.one(x)
        ab = torch.cat([a, self.two(a)], 1)
        return self.classify(self.last(torch.cat([ab, self.three(ab), a], 1)))


@PEERS.add({"left.0": 8, "right.0": 8, "a.0": 6, "b.0": 6})
class ConcatThenSplit(Net):
    """Pieces that are joined and split again elsewhere, the second read before the first."""

    def __init__(self) -> None:
        super().__init__(6)
        self.left, self.right = conv_bn(3, 8), conv_bn(3, 8, 1)
        self.a, self.b = conv_bn(5, 6), conv_bn(11, 6)

    def forward(self, x: Tensor) -> Tensor:
        u, v = torch.cat([self.left(x), self.right(x)], 1).split([5, 11], 1)
        return self.classify(self.b(v) + self.a(u))


class Scaling(nn.Module):
    """A layer of somebody's own: a scale and a shift per feature, and a table of both."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale + self.shift


@PEERS.add({"one": 16, "custom.scale": 16, "two": 12})
class CustomisedLayer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.custom, self.two = nn.Linear(192, 16), Scaling(16), nn.Linear(16, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(F.gelu(self.two(F.gelu(self.custom(self.one(x.flatten(1)))))))


@PEERS.add({"stem.0": 12, "a.0": 12, "b.0": 12, "c.0": 10})
class WholeResidualGroup(Net):
    """Three layers that write to one stream, and one that only reads it."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.a, self.b = conv_bn(3, 12), conv_bn(12, 12), conv_bn(10, 12)
        self.c = conv_bn(12, 10)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = y + self.a(y)
        return self.classify(y + self.b(self.c(y)))


@PEERS.add({"one.0": 8, "two.0": 8, "both.0": 10}, (3, 8, 8), (2, 8, 8))
class TwoInputsTwoOutputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.both = conv_bn(3, 8), conv_bn(2, 8), conv_bn(8, 10)
        self.first, self.second = nn.Linear(10, 5), nn.Linear(8, 3)

    def forward(self, x: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
        y = self.one(x) * self.two(z)
        return self.first(self.both(y).mean((2, 3))), self.second(y.mean((2, 3)))


@PEERS.add({"a.0": 8, "b.0": 8, "last.0": 6})
class ConcatOverPixels(Net):
    """A concatenation along the height: the channels of both pieces are the same ones."""

    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.b, self.last = conv_bn(3, 8), conv_bn(3, 8, 1), conv_bn(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.last(torch.cat([self.a(x), self.b(x)], 2)))


@PEERS.add({"stem.0": 8, "mix": 12})
class Reshaped(nn.Module):
    """Channels to rows of a matrix and on to one long vector."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.mix = conv_bn(3, 8), nn.Linear(8 * 16, 12)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.max_pool2d(self.stem(x), 2)
        y = y.view(y.shape[0], 8, 16).transpose(1, 2).reshape(-1, 128)
        return self.head(F.gelu(self.mix(y)))


@PEERS.add({"stem.0": 8, "last.0": 6})
class ThroughOneChannel(Net):
    """A bottleneck of a single channel, which must stay and which gates the others."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.one, self.last = conv_bn(3, 8), conv(8, 1), conv_bn(9, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        one = self.one(y)
        return self.classify(self.last(torch.cat([one, y * one.sigmoid()], 1)))


@PEERS.add({"stem.0": 12, "a.0": 7, "b.0": 7, "c.0": 4})
class SplitInThree(Net):
    def __init__(self) -> None:
        super().__init__(7)
        self.stem = conv_bn(3, 12)
        self.a, self.b, self.c = conv_bn(3, 7), conv_bn(4, 7), conv_bn(5, 4)
        self.back = conv(4, 7)

    def forward(self, x: Tensor) -> Tensor:
        u, v, w = self.stem(x).split([3, 4, 5], 1)
        return self.classify(self.back(self.c(w)) + self.b(v) * self.a(u))
