"""Random crop and flip, drawn once per epoch and applied to whole batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nnslim.errors import ConfigError

__all__ = ["Augment", "Draws", "crop_flip", "draw"]


@dataclass(frozen=True)
class Augment:
    """How training images are varied, in this order.

    Attributes:
        pad: The image is shifted by up to this many pixels each way; what comes in is black.
        flip: Whether half of the images are mirrored left to right.
        min_area: The smallest share of the image's area that a random resized crop keeps, as in
            ImageNet training; 1 takes the whole image. Comes before the shift.
        views: So many versions of every image, over and over, so that a teacher's logits can be
            remembered; None draws new ones in every epoch.

    Raises:
        ConfigError: ``pad`` below 0, ``min_area`` not above 0 and at most 1, or no view.

    Example:
        >>> Augment(pad=4, flip=True).min_area
        1.0
    """

    pad: int
    flip: bool
    min_area: float = 1.0
    views: int | None = None

    @property
    def varies(self) -> bool:
        """Whether an image differs from epoch to epoch."""
        return self.pad > 0 or self.flip or self.min_area < 1

    @property
    def repeats(self) -> bool:
        """Whether the versions of an image come again, to the last bit."""
        return self.views is not None or not self.varies

    def __post_init__(self) -> None:
        if self.pad < 0 or not 0 < self.min_area <= 1:
            message = f"augmentation with pad {self.pad} and min_area {self.min_area}"
            raise ConfigError(message, hint="pad is at least 0, min_area above 0 and at most 1")
        if self.views is not None and self.views < 1:
            raise ConfigError(f"{self.views} views of every image", hint="ask for at least 1")

    def describe(self) -> str:
        """Return one line for people: what training does to the images.

        Example:
            >>> Augment(pad=4, flip=True).describe()
            'augmentation: shifted by up to 4 px, mirrored at random'
        """
        cropped = (
            f"random crops from {self.min_area:.0%} of the area, " if self.min_area < 1 else ""
        )
        shifted = f"shifted by up to {self.pad} px, " if self.pad else ""
        mirrored = "mirrored at random" if self.flip else "not mirrored"
        views = "" if self.views is None else f", {self.views} views of each"
        return f"augmentation: {cropped}{shifted}{mirrored}{views}"


@dataclass(frozen=True)
class Draws:
    """The random choices of one epoch, row i for sample i whatever the order.

    Attributes:
        shift: (N, 2) int64, top and left corner of the crop in the padded image, 0 to 2 * pad.
        flip: (N,) bool.
        seed: (N,) int64, for what is drawn per sample (the random resized crop).
    """

    shift: torch.Tensor
    flip: torch.Tensor
    seed: torch.Tensor


def draw(augment: Augment, count: int, *, seed: int, epoch: int) -> Draws:
    """Draw the choices for ``count`` samples: a function of (seed, epoch) alone.

    With ``views``, epoch and seed only say which view comes next, the same in every training.

    Example:
        >>> choices = draw(Augment(pad=1, flip=False), 5, seed=0, epoch=0)
        >>> choices.shift.shape, bool(choices.flip.any())
        (torch.Size([5, 2]), False)
    """
    if augment.views is not None:
        seed, epoch = 0, (seed + epoch) % augment.views
    rng = np.random.default_rng([seed, epoch, 1])
    shift = rng.integers(0, 2 * augment.pad + 1, (count, 2))
    flip = (rng.random(count) < 0.5) & augment.flip
    seeds = rng.integers(0, 2**62, count)
    return Draws(torch.from_numpy(shift), torch.from_numpy(flip), torch.from_numpy(seeds))


def crop_flip(
    images: torch.Tensor, shift: torch.Tensor, flip: torch.Tensor, pad: int
) -> torch.Tensor:
    """Pad with black, crop back to the size at ``shift``, then mirror where ``flip``.

    Args:
        images: (N, H, W, C), any type.
        shift: (N, 2) int64, top and left, 0 to 2 * pad.
        flip: (N,) bool.
        pad: Pixels added on each side.

    Returns:
        (N, H, W, C), a new tensor.
    """
    count, height, width, channels = images.shape
    padded = images.new_zeros(count, height + 2 * pad, width + 2 * pad, channels)
    padded[:, pad : pad + height, pad : pad + width] = images
    column = torch.arange(width)
    rows = shift[:, :1] + torch.arange(height)  # (N, H)
    columns = shift[:, 1:] + torch.where(flip[:, None], width - 1 - column, column)  # (N, W)
    # One gather of whole pixels is 3 times faster here than indexing with three index tensors.
    firsts = torch.arange(count)[:, None] * padded.shape[1] + rows  # (N, H), line in the batch
    pixels = firsts[:, :, None] * padded.shape[2] + columns[:, None, :]  # (N, H, W)
    return padded.view(-1, channels).index_select(0, pixels.view(-1)).view(images.shape)
