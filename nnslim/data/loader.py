"""Batches of network inputs: vectorised for sets in memory, a DataLoader for files."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset

from nnslim.data.augment import Augment, Draws, crop_flip, draw
from nnslim.data.images import fit_image, interpolation_mode
from nnslim.data.preprocess import Preprocess
from nnslim.data.split import Split
from nnslim.errors import ConfigError, InputError

__all__ = ["Loader", "Sampling"]

_CACHE_SIDE = 64  # pixels
_CACHE_BYTES = 1_500_000_000


@dataclass(frozen=True)
class Sampling:
    """Which images an epoch takes, in which order.

    Attributes:
        shuffle: Draw a new order every epoch.
        seed: Of order and augmentation.
        drop_last: Leave out a last batch that is smaller, unless it is the only one.
    """

    shuffle: bool = False
    seed: int = 0
    drop_last: bool = False


class Loader:
    """Iterate over a split in batches, one epoch at a time.

    Order and augmentation are a function of (seed, epoch) alone: neither the number of workers
    nor whether the images are in memory changes a batch. Images that come to at most 64 px and
    1.5 GB are decoded once and kept; the rest goes through a torch DataLoader.

    Args:
        split: The labelled images.
        preprocess: Size, mean and std of the network's input.
        batch_size: Images per batch; the last one may be smaller.
        sampling: The order of the images; None takes all, as they come.
        augment: How to vary the images, usually ``data.augment``; None leaves them as they are.
        workers: Processes that decode files; sets in memory need none.
        keep: Decode while iterating, and keep what comes to at most 1.5 GB, of whatever size, for
            the loaders of this split that come after the first whole epoch; not with ``augment``.

    Raises:
        ConfigError: ``batch_size`` below 1, or ``keep`` with ``augment``.
        InputError: The images have other channels than ``preprocess``; when iterating or
            caching, an image that cannot be read.

    Example:
        >>> from nnslim.data import Preprocess, Split
        >>> split = Split(np.arange(3), np.full((3, 4, 4), 255, np.uint8))
        >>> loader = Loader(split, Preprocess(size=(4, 4), mean=(0.5,), std=(0.5,)), 2)
        >>> [(tuple(images.shape), labels.tolist()) for images, labels in loader]
        [((2, 1, 4, 4), [0, 1]), ((1, 1, 4, 4), [2])]
    """

    def __init__(  # noqa: PLR0913 - as torch's DataLoader
        self,
        split: Split,
        preprocess: Preprocess,
        batch_size: int,
        *,
        sampling: Sampling | None = None,
        augment: Augment | None = None,
        workers: int = 0,
        keep: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ConfigError(f"a batch of {batch_size} images", hint="ask for at least 1")
        if keep and augment is not None:
            raise ConfigError("augmented images differ each epoch: they are not kept")
        split.require_channels(preprocess.channels)
        self.split = split
        self.preprocess = preprocess
        self.batch_size = batch_size
        self.sampling = sampling or Sampling()
        self.augment = augment or Augment(pad=0, flip=False)
        self.workers = workers
        self.epoch = 0
        self._keeps = keep and _n_bytes(split, preprocess) <= _CACHE_BYTES
        self._images = _resident(split, preprocess, self.augment, decode=not keep)
        self._labels = torch.from_numpy(split.labels)

    def __len__(self) -> int:
        """Return the number of batches."""
        whole, rest = divmod(len(self.split), self.batch_size)
        return whole + (1 if rest and not (self.sampling.drop_last and whole) else 0)

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch whose order and augmentation the next iteration takes."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images (N, C, H, W) float32, labels (N,) int64)."""
        count = len(self.split)
        order = np.arange(count)
        seed = self.sampling.seed
        if self.sampling.shuffle:
            order = np.random.default_rng([seed, self.epoch, 0]).permutation(count)
        draws = draw(self.augment, count, seed=seed, epoch=self.epoch)
        starts = range(0, len(self) * self.batch_size, self.batch_size)
        batches = (torch.from_numpy(order[s : s + self.batch_size]) for s in starts)
        if self._images is None:
            decoded = self._decoded(batches, draws)
            for images, chosen in self._kept(decoded) if self._keeps else decoded:
                yield _normalised(images, self.preprocess), self._labels[chosen]
            return
        for chosen in batches:
            images = self._images[chosen]
            if self.augment.pad or self.augment.flip:
                shift, flip = draws.shift[chosen], draws.flip[chosen]
                images = crop_flip(images, shift, flip, self.augment.pad)
            yield _normalised(images, self.preprocess), self._labels[chosen]

    def _decoded(
        self, batches: Iterator[torch.Tensor], draws: Draws
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield (images (N, H, W, C) uint8, their numbers (N,))."""
        tickets = (_tickets(chosen, draws) for chosen in batches)
        loader = DataLoader(
            _Items(self.split, self.preprocess, self.augment),
            batch_sampler=tickets,
            num_workers=self.workers,
            collate_fn=_collated,
            generator=torch.Generator(),  # or it would draw from torch's global state
        )
        for batch in loader:
            if isinstance(batch, InputError):
                raise batch
            yield batch

    def _kept(
        self, decoded: Iterator[tuple[torch.Tensor, torch.Tensor]]
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Pass the batches on; after a whole epoch the split has all images in memory."""
        height, width = self.preprocess.size
        count = len(self.split)
        whole = torch.empty((count, height, width, self.preprocess.channels), dtype=torch.uint8)
        seen = 0
        for images, chosen in decoded:
            whole[chosen] = images
            seen += len(chosen)
            yield images, chosen
        if seen == count:
            self.split.keep(self.preprocess, whole.numpy())


class _Ticket(NamedTuple):
    """What a worker needs to know to make one training image."""

    number: int
    top: int
    left: int
    flip: bool
    seed: int


def _tickets(chosen: torch.Tensor, draws: Draws) -> list[_Ticket]:
    top, left = draws.shift[chosen].T.tolist()
    columns = (chosen.tolist(), top, left, draws.flip[chosen].tolist(), draws.seed[chosen].tolist())
    return [_Ticket(*row) for row in zip(*columns, strict=True)]


class _Items(Dataset[object]):
    """Makes the uint8 image (H, W, C) of a ticket, or the error that it met."""

    def __init__(self, split: Split, preprocess: Preprocess, augment: Augment) -> None:
        self.split = split
        self.preprocess = preprocess
        self.augment = augment

    def __getitem__(self, ticket: _Ticket) -> tuple[int, torch.Tensor] | InputError:
        try:
            image = self.split.read(ticket.number, self.preprocess.channels)
        except InputError as error:
            return error  # raised in a worker, it would come out wrapped in a traceback
        if self.augment.min_area < 1:
            pixels = _random_crop(image, ticket.seed, self.preprocess, self.augment.min_area)
        else:
            pixels = torch.from_numpy(fit_image(image, self.preprocess))
        if not (self.augment.pad or ticket.flip):
            return ticket.number, pixels
        shift = torch.tensor([[ticket.top, ticket.left]])
        flip = torch.tensor([ticket.flip])
        return ticket.number, crop_flip(pixels[None], shift, flip, self.augment.pad)[0]


def _collated(
    items: list[tuple[int, torch.Tensor] | InputError],
) -> tuple[torch.Tensor, torch.Tensor] | InputError:
    """Return (images (N, H, W, C) uint8, indices (N,)), or the first error among the items."""
    good: list[tuple[int, torch.Tensor]] = []
    for item in items:
        if isinstance(item, InputError):
            return item
        good.append(item)
    return torch.stack([image for _, image in good]), torch.tensor([index for index, _ in good])


def _random_crop(
    image: NDArray[np.uint8], seed: int, preprocess: Preprocess, min_area: float
) -> torch.Tensor:
    """Crop a random part of (H, W, C) and resize it to (h, w, C), as in ImageNet training."""
    # Lazy: sets in memory are spared torchvision's import.
    from torchvision.transforms import v2  # noqa: PLC0415

    crop = v2.RandomResizedCrop(
        preprocess.size, scale=(min_area, 1), interpolation=interpolation_mode(preprocess)
    )
    # torchvision draws from torch's global state: lend it one that belongs to this image.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return crop(torch.from_numpy(image).permute(2, 0, 1)).permute(1, 2, 0)


def _resident(
    split: Split, preprocess: Preprocess, augment: Augment, *, decode: bool
) -> torch.Tensor | None:
    """Return the images (N, h, w, C) uint8 if they are in memory or small enough to be."""
    if augment.min_area < 1:
        return None
    fitted = split.kept(preprocess)
    small = max(preprocess.size) <= _CACHE_SIDE and _n_bytes(split, preprocess) <= _CACHE_BYTES
    if fitted is None and small and decode:
        fitted = split.fitted(preprocess)
    if fitted is None or fitted.images is None:
        return None
    return torch.from_numpy(fitted.images)


def _n_bytes(split: Split, preprocess: Preprocess) -> int:
    """What the images take as uint8, at the size of the network's input."""
    return len(split) * preprocess.channels * preprocess.size[0] * preprocess.size[1]


def _normalised(images: torch.Tensor, preprocess: Preprocess) -> torch.Tensor:
    """Turn (N, H, W, C) uint8 into (N, C, H, W) float32, ``(pixel / 255 - mean) / std``."""
    mean = torch.tensor(preprocess.mean).view(-1, 1, 1)
    std = torch.tensor(preprocess.std).view(-1, 1, 1)
    floats = images.permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return floats.div_(255).sub_(mean).div_(std)
