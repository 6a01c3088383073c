"""Modules that wrap a network for its export: half precision, or normalisation of pixels."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nnslim.data.preprocess import Preprocess
from nnslim.errors import UnsupportedModelError

__all__ = ["HalfInside", "PixelsIn", "images_for"]


class HalfInside(nn.Module):
    """Computes in float16 between a float32 input and float32 logits.

    Args:
        network: In eval mode; it is converted in place.
        input_shape: (C, H, W) of its images.

    Raises:
        UnsupportedModelError: A weight is larger than float16 can hold; names it.

    Example:
        >>> half = HalfInside(nn.Linear(2, 3), (1, 1, 2))
        >>> half(torch.zeros(1, 2)).dtype, half.network.weight.dtype
        (torch.float32, torch.float16)
    """

    def __init__(self, network: nn.Module, input_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.input_shape = input_shape
        most = torch.finfo(torch.float16).max
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point() and tensor.numel() and float(tensor.abs().max()) > most:
                largest = float(tensor.abs().max())
                message = f"{name} holds {largest:.3g}, more than float16's {most:.0f}"
                raise UnsupportedModelError(message, hint="export it without [[half]]")
        self.network = network.half()

    def forward(self, x: Tensor) -> Tensor:
        """Return float32 logits (N, K) of float32 images (N, C, H, W)."""
        return self.network(x.half()).float()


class PixelsIn(nn.Module):
    """Takes pixels as a camera or decoder gives them: uint8, (N, H, W, C).

    Args:
        network: Takes normalised float32 images (N, C, H, W).
        preprocess: Its mean and standard deviation; size and crop stay outside.
        input_shape: (C, H, W) of its images.

    Example:
        >>> from nnslim.data.preprocess import Preprocess
        >>> net = PixelsIn(nn.Identity(), Preprocess((1, 1), (0.5,), (0.5,)), (1, 1, 1))
        >>> net(torch.tensor([[[[255]]]], dtype=torch.uint8)).flatten().tolist()
        [1.0]
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, network: nn.Module, preprocess: Preprocess, input_shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        self.input_shape = input_shape
        self.network = network
        self.register_buffer("mean", torch.tensor(preprocess.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).view(-1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return the network's logits (N, K) of pixels (N, H, W, C)."""
        floats = x.permute(0, 3, 1, 2).to(torch.float32)
        return self.network((floats / 255 - self.mean) / self.std)


def images_for(network: nn.Module, batch: int, generator: torch.Generator | None = None) -> Tensor:
    """Draw random inputs: pixels for a ``PixelsIn``, else normalised images.

    Args:
        network: Has ``input_shape`` (C, H, W).
        batch: Images.
        generator: Of the random numbers; None draws none and returns zeros.
    """
    channels, height, width = (int(size) for size in network.input_shape)  # pyright: ignore
    if isinstance(network, PixelsIn):
        shape = (batch, height, width, channels)
        if generator is None:
            return torch.zeros(shape, dtype=torch.uint8)
        return torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
    shape = (batch, channels, height, width)
    return torch.zeros(shape) if generator is None else torch.randn(shape, generator=generator)
