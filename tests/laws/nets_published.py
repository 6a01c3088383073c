"""Hand-made nets: blocks of published networks that move channels about in ways of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.laws.blocks import Net, Registry, conv, conv_bn

__all__ = ["PUBLISHED"]

PUBLISHED = Registry()


@PUBLISHED.add({"stem.0": 6, "last.0.in": 18})
class PyramidPooling(Net):
    """SPPF of YOLOv5: one tensor and its poolings side by side; three columns per channel."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv_bn(3, 6), conv_bn(18, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        z = F.max_pool2d(y, 3, 1, 1)
        return self.classify(self.last(torch.cat([F.max_pool2d(z, 3, 1, 1), y, z], 1)))


@PUBLISHED.add({"stem.0": 6, "last.0.in": 24})
class Focus(Net):
    """Space to depth by strided slices of pixels, four columns per channel."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv_bn(3, 6), conv_bn(24, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        parts = [y[..., i::2, j::2] for i in (0, 1) for j in (0, 1)]
        return self.classify(self.last(torch.cat(parts, 1)))


@PUBLISHED.add({"stem.0": 8, "blocks.0.0": 4, "last.0.in": 16})
class CrossStage(Net):
    """C2f of YOLOv8: the second half goes on, every stage is joined."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv_bn(3, 8), conv_bn(16, 4)
        self.blocks = nn.ModuleList(conv_bn(4, 4) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.stem(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]) + parts[-1])
        return self.classify(self.last(torch.cat(parts, 1)))


@PUBLISHED.add({"stem.0": 12, "a.0": 3, "last.0.in": 12})
class Res2Net(Net):
    """Four chunks, each convolution also gets the one before it; the last chunk is pooled."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv_bn(3, 12), conv_bn(12, 4)
        self.a, self.b, self.c = conv_bn(3, 3), conv_bn(3, 3), conv_bn(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        one, two, three, four = torch.split(self.stem(x), 3, 1)
        one = self.a(one)
        two = self.b(two + one)
        three = self.c(two + three)
        return self.classify(
            self.last(torch.cat([one, two, three, F.avg_pool2d(four, 3, 1, 1)], 1))
        )


@PUBLISHED.add({"stem.0": 8, "down": 6})
class SplitAttention(Net):
    """ResNeSt: two copies of eight channels are weighed by a softmax over the copies."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.wide = conv_bn(3, 8), conv_bn(8, 16, groups=2)
        self.down, self.up, self.last = conv(8, 6, 1), conv(6, 16, 1), conv_bn(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.wide(self.stem(x))
        n, c, h, w = y.shape
        y = y.reshape(n, 2, c // 2, h, w)
        gate = y.sum(1).mean((2, 3), keepdim=True)
        gate = self.up(F.leaky_relu(self.down(gate)))
        gate = F.softmax(gate.view(n, 1, 2, -1).transpose(1, 2), dim=1).reshape(n, -1)
        return self.classify(self.last((y * gate.view(n, 2, c // 2, 1, 1)).sum(1)))


@PUBLISHED.add({"stem.0": 8, "mix.0": 4, "rows": 8})
class CoordinateAttention(Net):
    """Rows and columns are joined along the pixels, mixed, and split again."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.mix = conv_bn(3, 8), conv_bn(8, 4, 1)
        self.rows, self.columns = conv(4, 8, 1), conv(4, 8, 1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        rows, columns = y.mean(3, keepdim=True), y.mean(2, keepdim=True).permute(0, 1, 3, 2)
        mixed = self.mix(torch.cat([rows, columns], 2))
        rows, columns = torch.split(mixed, [8, 8], 2)
        gate = self.columns(columns.permute(0, 1, 3, 2)).sigmoid()
        return self.classify(self.rows(rows).sigmoid() * y * gate)


@PUBLISHED.add({"a.0": 6, "b.0": 6})
class WeightedFusion(Net):
    """BiFPN: learned weights of whole branches, picked by number."""

    def __init__(self) -> None:
        super().__init__(4)
        self.a, self.b, self.last = conv_bn(3, 6), conv_bn(6, 6, stride=2), conv_bn(6, 4)
        self.weights = nn.Parameter(torch.tensor([0.7, 1.3]))

    def forward(self, x: Tensor) -> Tensor:
        weights = F.relu(self.weights)
        weights = weights / (weights.sum() + 1e-4)
        y = self.a(x)
        z = F.interpolate(self.b(y), scale_factor=2.0, mode="nearest")
        return self.classify(self.last(weights[1] * z + weights[0] * y))


@PUBLISHED.add({"stem.0": 12, "last.0.in": 6})
class Maxout(Net):
    """The larger of two neighbours, and of two halves."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.other, self.last = conv_bn(3, 12), conv_bn(3, 12), conv_bn(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        y = self.stem(x).view(n, 6, 2, 8, 8).amax(2)
        z = self.other(x).view(n, 2, 6, 8, 8).amax(1)
        return self.classify(self.last(y + z))


@PUBLISHED.add({"stem.0": 6, "deep": 6, "last.0": 4})
class Ghost(Net):
    """GhostNet: cheap copies of channels, of which the last are cut off again."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.deep, self.last = conv_bn(3, 6), conv(6, 6, groups=6), conv_bn(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.classify(self.last(torch.cat([y, self.deep(y)], 1)[:, :9]))


@PUBLISHED.add({"a.0": 4, "b.0": 6, "hidden": 7})
class MixedFlatten(nn.Module):
    """Runs of pixels, single pixels and strides side by side in one linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = conv_bn(3, 4), conv_bn(3, 6)
        self.hidden, self.head = nn.Linear(4 * 16 + 6 + 6 * 16, 7), nn.Linear(7, 5)

    def forward(self, x: Tensor) -> Tensor:
        a, b = F.avg_pool2d(self.a(x), 2), F.avg_pool2d(self.b(x), 2)
        flat = [a.flatten(1), b.mean((2, 3)), b.permute(0, 2, 3, 1).flatten(1)]
        return self.head(F.leaky_relu(self.hidden(torch.cat(flat, 1))))


@PUBLISHED.add({"stem.0": 6, "latent": 24, "last.0": 4})
class Generator(Net):
    """A linear layer makes pixels; each of its channels is a run of four rows."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.latent, self.last = conv_bn(3, 6), nn.Linear(6, 24), conv_bn(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.latent(self.stem(x).mean((2, 3))).view(-1, 6, 2, 2)
        return self.classify(self.last(F.leaky_relu(y.flatten(1)).reshape(-1, 6, 2, 2)))


@PUBLISHED.add({"stem": 6, "gamma": 6, "last": 4})
class ViewedParameters(Net):
    """Vectors of parameters and buffers are given their shape in the forward."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv(3, 6), conv(6, 4)
        self.gamma, self.beta = nn.Parameter(torch.randn(6)), nn.Parameter(torch.randn(6))
        self.register_buffer("scale", torch.rand(6) + 0.5)
        self.norm = nn.BatchNorm2d(6, affine=False)
        self.live = nn.BatchNorm2d(6, track_running_stats=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x) * self.gamma.view(1, 6, 1, 1) + self.beta[None, :, None, None]
        y = self.live(self.norm(y)) * self.scale.reshape(-1, 1, 1)
        return self.classify(self.last(y.permute(0, 2, 3, 1).mul(self.gamma).permute(0, 3, 1, 2)))
