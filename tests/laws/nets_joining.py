"""Hand-made nets that join, split, pad and pick channels."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.laws.blocks import Net, Registry, conv, conv_bn

__all__ = ["JOINING"]

JOINING = Registry()


class _Halves(Net):
    """Splits 32 channels into 12 and 20 and sends each through a convolution of its own."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.a, self.b = conv_bn(3, 32), conv(12, 6, 1), conv(20, 6, 1)

    def halves(self, x: Tensor) -> tuple[Tensor, Tensor]:
        u, v = self.stem(x).split([12, 20], dim=1)
        return u, v


@JOINING.add({"stem.0": 32, "a.in": 12, "b.in": 20})
class SplitInOrder(_Halves):
    def forward(self, x: Tensor) -> Tensor:
        u, v = self.halves(x)
        return self.classify(torch.relu(self.a(u) + self.b(v)))


@JOINING.add({"stem.0": 32, "a.in": 12, "b.in": 20})
class SplitReversed(_Halves):
    """A peer that follows autograd edges is silently wrong in one of these two orders."""

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.halves(x)
        return self.classify(torch.relu(self.b(v) + self.a(u)))


@JOINING.add({"stem.0": 32})
class SplitSwapped(Net):
    """The halves change places and are joined again."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.last = conv_bn(3, 32), conv_bn(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.stem(x).split([12, 20], dim=1)
        return self.classify(self.last(torch.cat([v, torch.tanh(u)], 1)))


@JOINING.add({"stem.0": 16, "last.0.in": 8, "last.0": 6})
class SplitEqual(Net):
    """Halves that are multiplied must shrink together."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.last = conv_bn(3, 16), conv_bn(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        u, v = self.stem(x).chunk(2, dim=1)
        return self.classify(self.last(torch.sigmoid(v) * u))


@JOINING.add({"stem.0": 10, "c.in": 2, "b": 4})
class ChunkThree(Net):
    """Three unequal pieces, 4 + 4 + 2, used in another order than they are made."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem = conv_bn(3, 10)
        self.a, self.b, self.c = conv(4, 6), conv(4, 4), conv(2, 6)
        self.d = conv(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        u, v, w = self.stem(x).chunk(3, dim=1)
        return self.classify(self.c(w) + self.d(torch.relu(self.b(v))) + self.a(u))


@JOINING.add({"stem.0": 16})
class ChunkFour(Net):
    """Four pieces by number, negative dimension; one piece is not used, one twice."""

    def __init__(self) -> None:
        super().__init__(8)
        self.stem, self.a, self.b = conv_bn(3, 16), conv(4, 8), conv(4, 8)

    def forward(self, x: Tensor) -> Tensor:
        pieces = torch.chunk(self.stem(x), 4, dim=-3)
        return self.classify(self.a(pieces[3]) * self.b(pieces[0]) + self.a(pieces[3] + pieces[2]))


@JOINING.add({"left.0": 5, "right.0": 12, "a.in": 7, "b.in": 10})
class ConcatThenSlice(Net):
    """The cut between the slices is inside the second branch."""

    def __init__(self) -> None:
        super().__init__(6)
        self.left, self.right = conv_bn(3, 5), conv_bn(3, 12)
        self.a, self.b = conv(7, 6), conv(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([self.left(x), self.right(x)], 1)
        return self.classify(self.b(y[:, -10:]) - self.a(y[:, :7]))


class _Padded(Net):
    before, after, value = 3, 3, 0.0

    def __init__(self) -> None:
        wide = 6 + self.before + self.after
        super().__init__(wide)
        self.stem, self.wide = conv_bn(3, 6), conv_bn(6, wide, stride=2)
        self.next = conv_bn(wide, wide)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        pads = (0, 0, 0, 0, self.before, self.after)
        y = torch.relu(F.pad(y[:, :, ::2, ::2], pads, value=self.value) + self.wide(y))
        return self.classify(y + self.next(y))


@JOINING.add({"stem.0": 6, "wide.0": 12})
class PaddedShortcut(_Padded):
    """Option A of the CIFAR ResNets: zeros on both sides."""


@JOINING.add({"stem.0": 6, "wide.0": 12})
class PaddedUnevenly(_Padded):
    before, after = 5, 1


@JOINING.add({"stem.0": 6, "wide.0": 12})
class PaddedWithOnes(_Padded):
    before, after, value = 0, 6, 1.0


@JOINING.add({"stem.0": 6, "last.0.in": 11})
class PaddedDirectly(Net):
    """What is padded meets a convolution, and nothing else says which of it stays."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.last = conv_bn(3, 6), conv_bn(11, 6)

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.last(F.pad(self.stem(x), (0, 0, 0, 0, 2, 3), value=0.5)))


@JOINING.add({"stem.0": 6, "a.0.in": 9, "a.0": 9})
class PaddedTwice(Net):
    """Two paddings of one tensor, of other sizes on each side, are added."""

    def __init__(self) -> None:
        super().__init__(9)
        self.stem, self.a = conv_bn(3, 6), conv_bn(9, 9)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        left, right = (0, 0, 0, 0, 1, 2), (0, 0, 0, 0, 3, 0)
        return self.classify(self.a(F.pad(y, left, value=0.3) + F.pad(y, right)))


@JOINING.add({"stem.0": 6})
class PaddedPixels(Net):
    """Padding and cropping of pixels, constant and reflected."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.last = conv_bn(3, 6), nn.Conv2d(6, 6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = F.pad(self.stem(x), (1, 2, 0, 1), value=0.5)
        return self.classify(self.last(F.pad(y, (-1, 1, -2, 0))))


@JOINING.add({"stem.0": 6, "mix.0": 4})
class WithImage(Net):
    """The image itself, which stays, is joined to channels on both sides."""

    def __init__(self) -> None:
        super().__init__(7)
        self.stem, self.mix = conv_bn(3, 6), conv_bn(9, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.cat([x, self.stem(x)], 1)
        return self.classify(torch.cat([self.mix(y), x], 1))


@JOINING.add({"stem.0": 8, "last": 6})
class Permuted(Net):
    """A constant list of channels in a buffer; the first convolution's own list stays frozen."""

    def __init__(self) -> None:
        super().__init__(6)
        self.listed, self.stem, self.last = conv(3, 4), conv_bn(4, 8), conv(8, 6)
        self.register_buffer("order", torch.tensor([7, 0, 3, 1, 2, 6, 5, 4]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(torch.relu(self.listed(x))[:, [2, 0, 3, 1]])
        return self.classify(self.last(y.index_select(1, self.order)))


@JOINING.add({"stem.0": 8})
class PickedTwice(Net):
    """An index that repeats and leaves out channels."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.last, self.all = conv_bn(3, 8), conv(6, 6), conv(8, 6)
        self.register_buffer("order", torch.tensor([5, 1, 1, 6, 0, 5]))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.classify(self.last(y.index_select(1, self.order)) + self.all(y))


@JOINING.add({"stem.0": 8, "last": 6})
class InPlaceViews(Net):
    """In-place activations on slices of a tensor that is read again as a whole."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.last = nn.Sequential(conv(3, 8), nn.BatchNorm2d(8)), conv(8, 6)
        self.scale = nn.Parameter(torch.randn(3, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        y[:, :3].relu_()
        y[:, 5:].mul_(self.scale)
        return self.classify(self.last(y))


@JOINING.add({"a.0": 6, "b.0": 6})
class Stacked(Net):
    """Branches stacked on a new dimension and summed, as selective kernels do."""

    def __init__(self) -> None:
        super().__init__(6)
        self.a, self.b, self.out = conv_bn(3, 6), conv_bn(6, 6), conv(6, 6)
        self.weights = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        y = self.a(x)
        z = torch.stack([y, self.b(y)], 1)
        gate = torch.softmax(self.weights(y.mean((2, 3))), 1)
        return self.classify(self.out((z * gate[:, :, None, None, None]).sum(1)))
