"""Networks for 32 x 32 images: the CIFAR ResNets and batch-normalised VGG.

ResNet: He et al., "Deep Residual Learning for Image Recognition", section 4.2
(https://arxiv.org/abs/1512.03385). VGG: Simonyan & Zisserman, "Very Deep Convolutional Networks
for Large-Scale Image Recognition", configurations D and E (https://arxiv.org/abs/1409.1556), with
batch normalisation and one linear layer in place of the three that 224 pixel images need.

Shapes: N images, C channels, H x W pixels, K classes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nnslim.errors import ConfigError

__all__ = ["CIFAR_DEPTHS", "VGG_PLANS", "CifarResNet", "CifarVGG"]

CIFAR_DEPTHS = (8, 14, 20, 32, 44, 56, 110)
VGG_PLANS = {  # depth -> convolutions before each of the five poolings
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}


class _PaddedShortcut(nn.Module):
    """Option A: every second pixel, and zero channels on both sides; no parameters."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.before = (out_channels - in_channels) // 2
        self.after = out_channels - in_channels - self.before

    def forward(self, x: Tensor) -> Tensor:
        return F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


def _shortcut(in_channels: int, out_channels: int, stride: int, kind: str) -> nn.Sequential:
    if in_channels == out_channels and stride == 1:
        return nn.Sequential()
    if kind == "A":
        return nn.Sequential(_PaddedShortcut(in_channels, out_channels))
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, 1, stride=stride, bias=False),
        nn.BatchNorm2d(out_channels),
    )


class _Block(nn.Module):
    """Two 3 x 3 convolutions and a shortcut past them."""

    def __init__(self, in_channels: int, out_channels: int, stride: int, kind: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut = _shortcut(in_channels, out_channels, stride, kind)

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return torch.relu(y + self.shortcut(x))


class CifarResNet(nn.Module):
    """A ResNet of ``6 n + 2`` layers in three stages of 16, 32 and 64 channels.

    Args:
        depth: Number of weighted layers: 8, 14, 20, 32, 44, 56, 110, or any ``6 n + 2``.
        num_classes: Number of logits K.
        in_channels: Channels C of the images.
        shortcut: What the shortcut does where the width doubles: ``"A"`` takes every second pixel
            and pads zero channels (no parameters), ``"B"`` is a 1 x 1 convolution with batch norm.

    Raises:
        ConfigError: The depth is not ``6 n + 2``, or the shortcut is neither A nor B.

    Example:
        >>> net = CifarResNet(20).eval()
        >>> tuple(net(torch.zeros(2, 3, 32, 32)).shape), sum(p.numel() for p in net.parameters())
        ((2, 10), 269722)
    """

    def __init__(
        self,
        depth: int,
        *,
        num_classes: int = 10,
        in_channels: int = 3,
        shortcut: Literal["A", "B"] = "A",
    ) -> None:
        super().__init__()
        if depth < 8 or depth % 6 != 2:
            raise ConfigError(f"a CIFAR ResNet has 6 n + 2 layers, got {depth}")
        if shortcut not in ("A", "B"):
            raise ConfigError(f"shortcut is A or B, got {shortcut!r}")
        n_blocks = (depth - 2) // 6
        self.conv1 = nn.Conv2d(in_channels, 16, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = _stage(16, 16, n_blocks, shortcut)
        self.layer2 = _stage(16, 32, n_blocks, shortcut)
        self.layer3 = _stage(32, 64, n_blocks, shortcut)
        self.linear = nn.Linear(64, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(N, K)`` of images ``(N, C, H, W)``."""
        x = torch.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))  # (N, 64, H/4, W/4)
        return self.linear(x.mean((2, 3)))


def _stage(in_channels: int, out_channels: int, n_blocks: int, kind: str) -> nn.Sequential:
    stride = 1 if in_channels == out_channels else 2
    first = _Block(in_channels, out_channels, stride, kind)
    rest = (_Block(out_channels, out_channels, 1, kind) for _ in range(n_blocks - 1))
    return nn.Sequential(first, *rest)


class CifarVGG(nn.Module):
    """VGG with batch normalisation and one linear layer after five poolings.

    Args:
        depth: 16 or 19.
        num_classes: Number of logits K.
        in_channels: Channels C of the images.

    Raises:
        ConfigError: Another depth.

    Example:
        >>> tuple(CifarVGG(16, num_classes=100).eval()(torch.zeros(2, 3, 32, 32)).shape)
        (2, 100)
    """

    def __init__(self, depth: int, *, num_classes: int = 10, in_channels: int = 3) -> None:
        super().__init__()
        if depth not in VGG_PLANS:
            raise ConfigError(f"a CIFAR VGG has 16 or 19 layers, got {depth}")
        self.features = nn.Sequential(*_vgg_layers(VGG_PLANS[depth], in_channels))
        self.classifier = nn.Linear(512, num_classes)
        _initialise(self)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits ``(N, K)`` of images ``(N, C, H, W)`` of at least 32 x 32."""
        return self.classifier(self.features(x).mean((2, 3)))


def _vgg_layers(plan: tuple[int, ...], in_channels: int) -> Iterator[nn.Module]:
    for stage, n_convs in enumerate(plan):
        width = min(64 << stage, 512)
        for _ in range(n_convs):
            # A bias before a batch norm does nothing, but published checkpoints have it.
            yield nn.Conv2d(in_channels, width, 3, padding=1)
            yield nn.BatchNorm2d(width)
            yield nn.ReLU()
            in_channels = width
        yield nn.MaxPool2d(2)


def _initialise(module: nn.Module) -> None:
    """He initialisation, as both papers' authors use; biases start at zero."""
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
