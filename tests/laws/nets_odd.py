"""Hand-made nets with unusual parameters, inputs and outputs."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from tests.laws.blocks import IMAGE, Net, Registry, conv, conv_bn

__all__ = ["ODD"]

ODD = Registry()


@ODD.add({"stem.0": 6, "again": 6})
class TiedWeights(Net):
    """One convolution twice in a row, and one parameter under two names."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.again, self.twin = conv_bn(3, 6), conv(6, 6), conv(6, 6)
        self.twin.weight = self.again.weight

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.again(self.again(self.stem(x))))
        return self.classify(self.twin(y))


@ODD.add({"stem.0": 6})
class UnusedParameters(Net):
    """A layer and a buffer that the forward never touches."""

    def __init__(self) -> None:
        super().__init__(6)
        self.stem, self.unused = conv_bn(3, 6), conv(6, 6)
        self.register_buffer("nothing", torch.zeros(6))

    def forward(self, x: Tensor) -> Tensor:
        return self.classify(self.stem(x))


@ODD.add({"stem.0": 6, "last": 4})
class BareParameters(Net):
    """Scales, shifts, a scalar and a map of pixels that belong to no layer."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv_bn(3, 6), conv(6, 4)
        self.gamma = nn.Parameter(torch.randn(6, 1, 1))
        self.shift = nn.Parameter(torch.randn(1, 6, 1, 1))
        self.factor = nn.Parameter(torch.tensor(1.5))
        self.pixels = nn.Parameter(torch.randn(8, 8))

    def forward(self, x: Tensor) -> Tensor:
        y = self.gamma * self.stem(x) + self.shift
        return self.classify(self.last(y * self.factor + self.pixels))


@ODD.add({"stem.0": 6, "last": 4})
class Constants(Net):
    """Tensors made in the forward: a fixed mask over channels freezes, one over pixels does not."""

    def __init__(self) -> None:
        super().__init__(4)
        self.fixed, self.stem, self.last = conv(3, 5), conv_bn(5, 6), conv(6, 4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.fixed(x) * torch.tensor([1.0, 0.5, 2.0, -1.0, 1.0]).view(5, 1, 1)
        y = self.stem(y + torch.linspace(-1, 1, 8))
        y = torch.where(y > 0.4, y, torch.zeros_like(y) - 0.2) * torch.ones(8, 8)
        return self.classify(self.last(y.masked_fill(y > 1e6, float("-inf"))))


@ODD.add({"stem.0": 6, "last": 4})
class ComputedWeight(Net):
    """The weight of a convolution is a product; the convolution cannot be cut, others can."""

    def __init__(self) -> None:
        super().__init__(4)
        self.frozen, self.stem, self.last = conv(3, 5), conv_bn(5, 6), conv(6, 4)
        self.gain = nn.Parameter(torch.randn(5, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        weight = self.frozen.weight * self.gain
        y = nn.functional.conv2d(x, weight, self.frozen.bias, padding=1)
        return self.classify(self.last(self.stem(y)))


@ODD.add({"left.0": 6, "right.0": 4, "last": 5}, IMAGE, (2, 8, 8))
class TwoInputs(Net):
    def __init__(self) -> None:
        super().__init__(5)
        self.left, self.right, self.last = conv_bn(3, 6), conv_bn(2, 4), conv(10, 5)

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        return self.classify(self.last(torch.cat([self.right(z), self.left(x)], 1)))


@ODD.add({"stem.0": 6, "deep.0": 5})
class TwoOutputs(Net):
    """Classes, and a map that shares the features; what is returned itself stays."""

    def __init__(self) -> None:
        super().__init__(5)
        self.stem, self.deep, self.map = conv_bn(3, 6), conv_bn(6, 5), conv(6, 2)

    def forward(self, x: Tensor) -> dict[str, object]:
        y = self.stem(x)
        return {"logits": self.classify(self.deep(y)), "more": (self.map(y),)}


@ODD.add({"last": 4})
class FeaturesOut(Net):
    """The residual stream is an output: it cannot be cut, and the reason says so."""

    def __init__(self) -> None:
        super().__init__(4)
        self.stem, self.last = conv_bn(3, 6), conv(6, 4)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.stem(x)
        return self.classify(self.last(y)), y


@ODD.add({"stem.0": 6, "hidden": 4})
class NoBias(nn.Module):
    """Linear layers without bias, whose weight is used transposed as well."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.hidden = conv_bn(3, 6), nn.Linear(6, 4, bias=False)
        self.head = nn.Linear(6, 5, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x).mean((2, 3))
        y = nn.functional.leaky_relu(self.hidden(y))
        return self.head(nn.functional.linear(y, self.hidden.weight.t()))
