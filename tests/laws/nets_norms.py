"""Networks with norms over groups and pixels, standardised weights, grouped layers."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.laws.blocks import Net, Registry, conv, conv_bn

__all__ = ["NORMS"]

NORMS = Registry()


@NORMS.add({"stem": 12, "inner": 16})
class WholeNormGroups(Net):
    """Group norms in a residual net, with more groups than channels in each."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.first = conv(3, 12), nn.GroupNorm(6, 12)
        self.inner, self.second, self.outer = conv(12, 16), nn.GroupNorm(8, 16), conv(16, 12)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(self.stem(x)), 0.1)
        return self.classify(y + self.outer(F.leaky_relu(self.second(self.inner(y)), 0.1)))


@NORMS.add({"stem": 12, "inner": 15})
class WithinNormGroups(Net):
    """Group norms with few groups: an equal number goes from each."""

    def __init__(self) -> None:
        super().__init__(12)
        self.stem, self.first = conv(3, 12), nn.GroupNorm(2, 12)
        self.inner, self.second, self.outer = conv(12, 15), nn.GroupNorm(3, 15), conv(15, 12)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.first(self.stem(x)), 0.1)
        return self.classify(y + self.outer(F.leaky_relu(self.second(self.inner(y)), 0.1)))


@NORMS.add({"a": 6, "b": 6, "last": 12})
class NormOverConcat(Net):
    """A group norm over a concatenation: its groups lie in one piece each."""

    def __init__(self) -> None:
        super().__init__(12)
        self.a, self.b, self.norm, self.last = (
            conv(3, 6),
            conv(3, 6),
            nn.GroupNorm(2, 12),
            conv(12, 12),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(
            self.last(F.leaky_relu(self.norm(torch.cat([self.a(x), self.b(x)], 1)), 0.1))
        )


@NORMS.add({"stem": 6, "last": 8})
class InstanceNorms(Net):
    """Instance norms with and without weights."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.norm = conv(3, 6), nn.InstanceNorm2d(6, affine=True)
        self.last, self.plain = conv(6, 8), nn.InstanceNorm2d(8, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(F.gelu(self.plain(self.last(F.gelu(self.norm(self.stem(x)))))))


@NORMS.add({"stem.0": 12, "grouped.0": 18, "again.0": 16})
class WithinConvolutionGroups(Net):
    """Grouped convolutions with few groups: an equal number of channels goes from each."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.grouped = conv_bn(3, 12), conv_bn(12, 18, groups=2)
        self.again, self.last = conv_bn(18, 16, groups=2), conv_bn(16, 8)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.last(self.again(self.grouped(self.stem(x)))))


@NORMS.add({"stem.0": 12, "two.0": 8, "three.0": 9})
class CrossingGroups(Net):
    """Two and three groups over the same channels: only positions shared by all can be told."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.two, self.three = (
            conv_bn(3, 12),
            conv_bn(12, 8, groups=2),
            conv_bn(12, 9, groups=3),
        )
        self.last = conv_bn(17, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.classify(self.last(torch.cat([self.two(y), self.three(y)], 1)))


@NORMS.add({"stem.0": 10, "inner": 12})
class Standardised(Net):
    """A convolution whose weight is standardised on the fly, as in normaliser-free networks."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.inner, self.last = (
            conv_bn(3, 10),
            nn.Conv2d(10, 12, 3, padding=1),
            conv_bn(12, 8),
        )
        self.gain = nn.Parameter(torch.ones(12, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        w = self.inner.weight
        flat = F.batch_norm(
            w.reshape(1, 12, -1), None, None, weight=self.gain.view(-1), training=True, momentum=0.0
        )
        y = F.conv2d(self.stem(x), flat.reshape_as(w), self.inner.bias, padding=1)
        return self.classify(self.last(F.leaky_relu(y, 0.1)))


@NORMS.add({"stem.0": 8, "up.in": 10, "grouped": 10})
class Transposed(Net):
    """Down and up again by transposed convolutions, one with groups."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = conv_bn(3, 8)
        self.up = nn.ConvTranspose2d(8, 10, 2, 2)
        self.grouped = nn.ConvTranspose2d(10, 20, 3, padding=1, groups=5)
        self.last = conv_bn(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.up(F.max_pool2d(self.stem(x), 2)), 0.1)
        return self.classify(self.last(F.leaky_relu(self.grouped(y), 0.1)))


@NORMS.add({"stem.0": 24, "middle.0": 5})
class Shuffled(Net):
    """Channels to pixels and back."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.middle, self.last = conv_bn(3, 24), conv_bn(6, 5), conv_bn(20, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pixel_shuffle(self.stem(x), 2)
        return self.classify(self.last(F.pixel_unshuffle(self.middle(y), 2)))


@NORMS.add({"stem.0": 5, "mix.in": 20})
class Im2Col(Net):
    """Windows as runs of channels, read by a linear layer, and put back."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.mix = conv_bn(3, 5), nn.Linear(5 * 4, 7 * 4)

    def forward(self, x: Tensor) -> Tensor:
        windows = F.unfold(self.stem(x), 2, stride=2)
        y = F.fold(self.mix(windows.transpose(1, 2)).transpose(1, 2), x.shape[-2:], 2, stride=2)
        return self.classify(F.leaky_relu(F.pad(y, (0, 0, 0, 0, 0, 0))[:, :6], 0.1))


@NORMS.add({"stem.0": 10, "last.0": 8})
class ChannelStatistics(Net):
    """Mean and maximum over channels make a map that gates the pixels (CBAM)."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.gate, self.last = conv_bn(3, 10), conv(2, 1), conv_bn(10, 8)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        maps = torch.cat([y.mean(1, keepdim=True), y.amax(1, keepdim=True)], 1)
        return self.classify(self.last(y * self.gate(maps).sigmoid()))


@NORMS.add({"stem.0": 10, "middle.0": 6, "picked.0": 12})
class Reordered(Net):
    """Flipped, rolled, repeated and strided channels."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.middle, self.last = conv_bn(3, 10), conv_bn(10, 6), conv_bn(12, 8)
        self.picked = conv_bn(5, 12)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y = y.flip(1) + 0.5 * y.roll(3, 1)
        z = self.middle(y).repeat(1, 2, 1, 1) + self.picked(y[:, ::2])
        return self.classify(self.last(z))


@NORMS.add({"a": 8, "b": 6})
class OneDimension(nn.Module):
    """A classifier of sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv1d(3, 8, 3, padding=1), nn.BatchNorm1d(8)
        self.b, self.head = nn.Conv1d(8, 6, 3), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm(self.a(x.flatten(2))), 0.1)
        return self.head(F.avg_pool1d(F.leaky_relu(self.b(y), 0.1), 3).mean(2))


@NORMS.add({"a": 8, "b": 6})
class ThreeDimensions(nn.Module):
    """A classifier of volumes."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.norm = nn.Conv3d(3, 8, 3, padding=1), nn.BatchNorm3d(8)
        self.b, self.head = nn.Conv3d(8, 6, (3, 1, 3)), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = F.leaky_relu(self.norm(self.a(x.unflatten(2, (4, 2)))), 0.1)
        return self.head(F.leaky_relu(self.b(F.avg_pool3d(y, 1)), 0.1).mean((2, 3, 4)))
