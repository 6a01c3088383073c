"""A teacher that remembers what it said of an image that is seen again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from nnslim.network.network import Network

__all__ = ["RememberingTeacher"]

_MOST_BYTES = 2**30


class RememberingTeacher(nn.Module):
    """Returns a network's logits, and remembers them by the image that they belong to.

    Images are equal to the last bit from epoch to epoch where nothing is augmented, and from one
    candidate of a growing round to the next even where it is, because the loader draws by seed and
    epoch. Ten classes cost 40 bytes an image; beyond a gigabyte nothing more is remembered.

    Args:
        network: The teacher, in eval mode.

    Example:
        >>> from nnslim.network import trace_network
        >>> net = trace_network(nn.Flatten(), torch.zeros(2, 3, 1, 1))
        >>> teacher = RememberingTeacher(net)
        >>> images = torch.arange(12.0).reshape(4, 3, 1, 1)
        >>> bool((teacher(images) == teacher(images.flip(0)).flip(0)).all()), teacher.answered
        (True, 1)
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.network = network.eval()
        self.answered = 0
        self._logits: dict[bytes, Tensor] = {}

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K) of images (N, C, H, W)."""
        pixels = images.contiguous().cpu().numpy()
        keys = [hashlib.blake2b(own, digest_size=16).digest() for own in pixels]
        if any(key not in self._logits for key in keys):
            # All of the batch, so that what comes out does not depend on what is remembered.
            self.answered += 1
            logits = cast("Tensor", self.network(images)).float()
            if len(self._logits) * logits[0].nbytes >= _MOST_BYTES:
                return logits
            for key, own in zip(keys, logits, strict=True):
                self._logits.setdefault(key, own.clone())
        return torch.stack([self._logits[key] for key in keys])
