"""Hand-made nets that reshape, transpose, squeeze and normalise."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.laws.blocks import Net, Registry, conv, conv_bn

__all__ = ["RESHAPING"]

RESHAPING = Registry()


@RESHAPING.add({"stem.0": 7, "hidden": 9})
class FlattenHead(nn.Module):
    """Each channel is a run of 36 pixels in the linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 7, 3), nn.ReLU())
        self.hidden, self.head = nn.Linear(7 * 36, 9), nn.Linear(9, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(torch.flatten(self.stem(x), 1))))


@RESHAPING.add({"stem.0": 7, "hidden": 9})
class ViewHead(FlattenHead):
    """The same with the width written out as a number, and the batch as -1."""

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.hidden(self.stem(x).view(-1, 7 * 36))))


@RESHAPING.add({"stem.0": 7, "hidden": 9})
class ChannelsLastHead(FlattenHead):
    """Each channel is every seventh entry of the linear layer's input."""

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).permute(0, 2, 3, 1).flatten(1)
        return self.head(torch.relu(self.hidden(y)))


@RESHAPING.add({"stem.0": 6, "tokens": 8, "last": 4})
class Unflattened(Net):
    """Channels become pixels of tokens and come back."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.tokens, self.last = conv_bn(3, 6), nn.Linear(6, 8), conv(8, 4)
        self.unflatten = nn.Unflatten(2, (8, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.tokens(self.stem(x).flatten(2).transpose(1, 2))
        return self.classify(self.last(self.unflatten(torch.relu(y).transpose(1, 2))))


@RESHAPING.add({"stem.0": 12, "last": 4})
class UnflattenedChannels(Net):
    """Twelve channels seen as six pairs, scaled pair by pair, and seen as twelve again."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv_bn(3, 12), conv(12, 4)
        self.unflatten = nn.Unflatten(1, (6, 2))
        self.scale = nn.Parameter(torch.randn(6, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.unflatten(self.stem(x)) * self.scale
        return self.classify(self.last(y.reshape(x.shape[0], 12, 8, 8)))


@RESHAPING.add({"stem.0": 12, "each.0": 6})
class GroupsInBatch(Net):
    """Channel groups move into the batch: the same position in every group must go."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.each, self.last = conv_bn(3, 12), conv_bn(6, 6), conv(12, 4)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        y = self.each(self.stem(x).view(n * 2, 6, 8, 8))
        return self.classify(self.last(y.view(n, 12, 8, 8)))


@RESHAPING.add({"stem.0": 6, "hidden": 7})
class SqueezeHead(nn.Module):
    """Sizes of one are squeezed by name, by sign and all at once."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden, self.head = conv_bn(3, 6), nn.Linear(6, 7), nn.Linear(7, 5)
        self.pool = nn.AdaptiveAvgPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pool(self.stem(x)).squeeze(-1).squeeze(2)
        y = torch.relu(self.hidden(y)).unsqueeze(1).unsqueeze(-1)
        return self.head(y.squeeze())


@RESHAPING.add({"stem.0": 8, "conv1d": 6})
class OneDimensional(nn.Module):
    """Rows of pixels as a sequence for a one-dimensional convolution."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.conv1d = conv_bn(3, 8), nn.Conv1d(8, 6, 3, padding=1)
        self.norm, self.head = nn.BatchNorm1d(6), nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm(self.conv1d(self.stem(x).flatten(2))))
        return self.head(nn.functional.adaptive_avg_pool1d(y, 1).flatten(1))


@RESHAPING.add({"stem": 8, "wide": 12})
class ConvNextBlock(nn.Module):
    """Layer norm over channels, linear layers on pixels, layer scale; cut ``approximate``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.deep = conv(3, 8), conv(8, 8, groups=8)
        self.norm, self.wide, self.narrow = nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.scale = nn.Parameter(torch.randn(8, 1, 1))
        self.last_norm, self.head = nn.LayerNorm(8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        z = self.norm(self.deep(y).permute(0, 2, 3, 1))
        z = self.narrow(nn.functional.gelu(self.wide(z))).permute(0, 3, 1, 2)
        y = self.scale * z + y
        return self.head(self.last_norm(y.mean((-2, -1))))


@RESHAPING.add({"stem": 6})
class BareLayerNorm(Net):
    """A layer norm without parameters, between layers that have them."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv(3, 6), conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).permute(0, 2, 3, 1)
        y = nn.functional.layer_norm(y, (6,)).permute(0, 3, 1, 2)
        return self.classify(self.last(y))
