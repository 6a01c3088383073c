"""A teacher that remembers: candidates of a round see the same images, so it answers once."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from nnslim.network.network import Network

__all__ = ["RememberingTeacher"]


class RememberingTeacher(nn.Module):
    """Returns a network's logits, and remembers them by the images that they belong to.

    The training images of two candidates of a round are equal to the last bit, augmentation
    included, because the loader draws them by seed and epoch. Ten classes cost 40 bytes an image.

    Args:
        network: The teacher, in eval mode.

    Example:
        >>> from nnslim.network import trace_network
        >>> net = trace_network(nn.Flatten(), torch.zeros(2, 3, 1, 1))
        >>> teacher = RememberingTeacher(net)
        >>> logits = [teacher(torch.ones(4, 3, 1, 1)) for _ in range(2)]
        >>> teacher.asked, teacher.answered, bool((logits[0] == logits[1]).all())
        (2, 1, True)
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.eval()
        self.asked = 0
        self._logits: dict[bytes, Tensor] = {}

    @property
    def answered(self) -> int:
        """How often the network ran."""
        return len(self._logits)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, C, H, W)."""
        self.asked += 1
        # Every eighth pixel tells two batches apart as well as all of them do.
        few = images[..., ::8, ::8].contiguous().cpu()
        key = hashlib.blake2b(few.numpy().tobytes(), digest_size=16).digest()
        if key not in self._logits:
            self._logits[key] = cast("Tensor", self.network(images)).float()
        return self._logits[key]
