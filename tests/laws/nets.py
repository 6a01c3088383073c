"""Hand-made nets: the building blocks of convolutional networks, one at a time."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.laws.blocks import Net, Registry, conv, conv_bn, shuffle

__all__ = ["PLAIN"]

PLAIN = Registry()


@PLAIN.add({"a.0": 8, "b.0": 6})
class Plain(Net):
    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.b = conv_bn(3, 8), conv_bn(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.b(self.a(x)))


@PLAIN.add({"a": 8, "b": 8})
class Activations(Net):
    """Every activation that has parameters or is no function of zero alone."""

    def __init__(self) -> None:
        super().__init__(8)
        self.a, self.b, self.prelu, self.one = conv(3, 8), conv(8, 8), nn.PReLU(8), nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.one(self.prelu(self.a(x)))
        y = F.silu(F.hardswish(y)) + torch.sigmoid(y)
        return self.classify(F.leaky_relu(self.b(y), 0.1).clamp(-3, 3))


@PLAIN.add({"stem.0": 8, "one.0": 6, "two.0": 5})
class Residual(Net):
    """The stream is on either side of the sum, and one sum is in place."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem = conv_bn(3, 8)
        self.one, self.one_out = conv_bn(8, 6), nn.Sequential(conv(6, 8), nn.BatchNorm2d(8))
        self.two, self.two_out = conv_bn(8, 5), nn.Sequential(conv(5, 8), nn.BatchNorm2d(8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = torch.relu(y + self.one_out(self.one(y)))
        z = self.two_out(self.two(y))
        z += y
        return self.classify(torch.relu_(z))


@PLAIN.add({"stem.0": 6, "one.0": 4, "two.0": 5})
class Dense(Net):
    """Concatenation in both operand orders."""

    def __init__(self) -> None:
        super().__init__(15)
        self.stem, self.one, self.two = conv_bn(3, 6), conv_bn(6, 4), conv_bn(10, 5)
        self.last = nn.BatchNorm2d(15)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = torch.cat([y, self.one(y)], 1)
        y = torch.cat([self.two(y), y], 1)
        return self.classify(torch.relu(self.last(y)))


@PLAIN.add({"stem.0": 8, "deep.0": 8, "point.0": 6, "twice.0": 12})
class Depthwise(Net):
    """A depthwise convolution, and one with two outputs per channel."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.deep = conv_bn(3, 8), conv_bn(8, 8, groups=8)
        self.point, self.twice = conv_bn(8, 6, 1), conv_bn(6, 12, groups=6)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.twice(self.point(self.deep(self.stem(x)))))


@PLAIN.add({"stem.0": 8, "first.0": 12, "grouped.0": 12, "wide.0": 9, "last.0": 6})
class Grouped(Net):
    """Groups of two, chained; then of three with other numbers of inputs and outputs."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.first = conv_bn(3, 8), conv_bn(8, 12, groups=4)
        self.grouped, self.wide = conv_bn(12, 12, 1), conv_bn(12, 9, groups=3)
        self.last = conv_bn(9, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.last(self.wide(self.grouped(self.first(self.stem(x))))))


@PLAIN.add({"stem.0": 8, "squeeze": 3})
class SqueezeExcite(Net):
    """The gate is on either side of the product."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.body = conv_bn(3, 8), conv(8, 8)
        self.squeeze, self.excite = conv(8, 3, 1), conv(3, 8, 1)
        self.down, self.up = nn.Linear(8, 4), nn.Linear(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        gate = torch.sigmoid(self.excite(F.leaky_relu(self.squeeze(y.mean((2, 3), keepdim=True)))))
        y = self.body(gate * y)
        gate = self.up(F.leaky_relu(self.down(y.mean((2, 3)))))
        return self.classify(y * gate[:, :, None, None].sigmoid().expand_as(y))


@PLAIN.add({"stem.0": 8, "left.0": 6, "third.in": 8, "third": 6})
class SharedInput(Net):
    """Two convolutions with batch norms of their own read one tensor (pytorch#166797)."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = conv_bn(3, 8)
        self.left = nn.Sequential(conv(8, 6, bias=False), nn.BatchNorm2d(6))
        self.right = nn.Sequential(conv(8, 6, 1, bias=False), nn.BatchNorm2d(6))
        self.norm = nn.BatchNorm2d(8)
        self.third = conv(8, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.classify(torch.relu(self.left(y) + self.right(y)) * self.third(self.norm(y)))


@PLAIN.add({"stem.0": 8, "gate.0": 4})
class SpatialAttention(Net):
    """One channel multiplies all; it is made by a convolution and by sums over channels."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.gate, self.one = conv_bn(3, 8), conv_bn(8, 4), conv(4, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = y * torch.sigmoid(self.one(self.gate(y)))
        return self.classify(torch.tanh(0.1 * y.sum(1, keepdim=True)) * y)


@PLAIN.add({"b.0": 6})
class SingleChannels(Net):
    """Layers one channel wide broadcast, and stay."""

    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.b, self.c = conv_bn(3, 1), conv_bn(1, 6), conv_bn(1, 6, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        return self.classify(self.b(y) * y + self.c(y))


@PLAIN.add({"stem.0": 8, "a.0": 8, "b.0": 6})
class Shuffled(Net):
    """Channel shuffle, twice in a row and again after a convolution."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.a, self.b = conv_bn(3, 8), conv_bn(8, 8), conv_bn(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = shuffle(shuffle(self.stem(x), 2), 4)
        y = shuffle(self.a(y), 4)
        return self.classify(self.b(y))


@PLAIN.add({"stem.0": 8, "branches.2.1.0": 4})
class ShuffleUnits(Net):
    """ShuffleNetV2: half goes through a branch, then both are joined and shuffled, repeatedly."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem = conv_bn(3, 8)
        self.branches = nn.ModuleList(
            nn.Sequential(conv_bn(4, 4, 1), conv_bn(4, 4, groups=4)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        for branch in self.branches:
            left, right = y.chunk(2, dim=1)
            y = shuffle(torch.cat((left, branch(right)), dim=1), 2)
        return self.classify(y)


@PLAIN.add({"stem.0": 8, "up.0": 6})
class Resampled(Net):
    """Pooling, resampling and strides: sizes of pixels are nobody's channels."""

    def __init__(self) -> None:
        super().__init__(10)
        self.stem, self.up = conv_bn(3, 8, stride=2), conv_bn(8, 6, dilation=1)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.average = nn.AvgPool2d(2, ceil_mode=True)
        self.side = conv(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.stem(x))
        z = F.interpolate(self.average(self.up(y)), scale_factor=2.0)
        s = F.interpolate(self.side(y), size=(4, 4), mode="bilinear")
        return self.classify(torch.cat([z, F.pad(s, (1, 0, 0, 1))[:, :, 1:, :4]], 1))
