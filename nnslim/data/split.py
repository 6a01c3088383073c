"""One part of a data set: labels with images in memory, or with the files that hold them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnslim.data.images import fit_all, is_fitted, read_image
from nnslim.data.preprocess import Preprocess
from nnslim.errors import InputError

__all__ = ["Split"]


@dataclass(frozen=True, eq=False)
class Split:
    """Labelled images, either in memory (``images``) or on disk (``files``).

    Attributes:
        labels: (N,) int64; given as (N, 1) they are flattened.
        images: (N, H, W, C) uint8 with 1 to 4 channels, or None; (N, H, W) gets one channel.
        files: N paths, when the images are not in memory.
        name: Where it comes from, for messages.

    Raises:
        InputError: Images that are not uint8 or not (N, H, W[, C]), labels that are not whole
            numbers from 0 on, or numbers of images and labels that differ.

    Example:
        >>> split = Split(np.array([0, 1, 1]), np.zeros((3, 8, 8), np.uint8))
        >>> len(split), split.subset([2, 0]).labels.tolist(), split.channels
        (3, [1, 0], 1)
    """

    labels: NDArray[np.int64]
    images: NDArray[np.uint8] | None = None
    files: Sequence[str] = ()
    name: str = "images"
    _fitted: dict[object, Split] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "labels", _checked_labels(self.labels, self.name))
        if self.images is not None:
            object.__setattr__(self, "images", _checked_images(self.images, self.name))
        count = len(self.files) if self.images is None else len(self.images)
        if count != len(self.labels):
            message = f"{self.name} has {count} images but {len(self.labels)} labels"
            raise InputError(message, hint="give one label per image")

    def __len__(self) -> int:
        return len(self.labels)

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the labels and of every pixel; of files, of their paths and sizes."""
        digest = hashlib.sha256(np.ascontiguousarray(self.labels).data)
        if self.images is not None:
            digest.update(f"{self.images.shape}".encode())
            digest.update(self.images.data)
        for file in map(Path, self.files):
            digest.update(f"{file} {file.stat().st_size if file.is_file() else None}\n".encode())
        return digest.hexdigest()

    @property
    def channels(self) -> int | None:
        """Channels of the images in memory; None for files, which convert to gray or RGB."""
        return None if self.images is None else int(self.images.shape[3])

    def subset(self, indices: ArrayLike) -> Self:
        """Return the samples at ``indices`` (whole numbers), in that order."""
        chosen = np.asarray(indices, dtype=np.int64)
        return type(self)(
            labels=self.labels[chosen],
            images=None if self.images is None else self.images[chosen],
            files=[self.files[int(i)] for i in chosen] if self.files else (),
            name=self.name,
        )

    def joined(self, other: Self) -> Self:
        """Return these samples and then those of ``other``.

        Raises:
            InputError: Images in memory whose shapes differ, or that are in memory and on disk.
        """
        shape, added = (None if s.images is None else s.images.shape[1:] for s in (self, other))
        if shape != added:
            kinds = ["files" if shape is None else f"of shape {shape}" for shape in (shape, added)]
            message = f"{self.name} is {kinds[0]} and {other.name} is {kinds[1]}"
            raise InputError(message, hint="bring them into one form to train on both")
        pixels = [s.images for s in (self, other) if s.images is not None]
        return type(self)(
            labels=np.concatenate([self.labels, other.labels]),
            images=np.concatenate(pixels) if pixels else None,
            files=[*self.files, *other.files],
            name=self.name,
        )

    def read(self, index: int, channels: int) -> NDArray[np.uint8]:
        """Return one image as (H, W, channels); a file is decoded anew each time."""
        if self.images is not None:
            return self.images[index]
        return read_image(self.files[index], channels)

    def require_channels(self, channels: int) -> None:
        """Raise an ``InputError`` unless the images can be had with this many channels."""
        if self.channels is None and channels not in {1, 3}:
            message = f"{self.name}: image files give 1 (gray) or 3 (RGB) channels, not {channels}"
            raise InputError(message, hint="give the images as arrays (.npz)")
        if self.channels not in {None, channels}:
            message = (
                f"{self.name}: the images have {self.channels} channels but the network's"
                f" preprocessing expects {channels}"
            )
            raise InputError(message, hint="convert the images, or give one mean per channel")

    def fitted(self, preprocess: Preprocess) -> Split:
        """Return the same samples in memory, resized and cropped; decoded once, then kept.

        Returns:
            A split whose ``images`` are (N, h, w, C), (h, w) being ``preprocess.size``.

        Raises:
            InputError: An unreadable file, or a wrong number of channels.
        """
        self.require_channels(preprocess.channels)
        if (kept := self.kept(preprocess)) is not None:
            return kept
        images = fit_all(lambda i: self.read(i, preprocess.channels), len(self), preprocess)
        return self.keep(preprocess, images)

    def kept(self, preprocess: Preprocess) -> Split | None:
        """Return what ``fitted`` would, where no image needs to be decoded or resized for it."""
        if self.images is not None and is_fitted(self.images.shape[1:3], preprocess):
            return self
        return self._fitted.get(_fitting(preprocess))

    def keep(self, preprocess: Preprocess, images: NDArray[np.uint8]) -> Split:
        """Take the images (N, h, w, C) that ``fitted`` would make, from who has made them."""
        fitted = Split(self.labels, images, name=self.name)
        return self._fitted.setdefault(_fitting(preprocess), fitted)


def _fitting(preprocess: Preprocess) -> tuple[object, ...]:
    """What of a preprocessing decides the uint8 image."""
    return preprocess.size, preprocess.resize, preprocess.interpolation, preprocess.channels


def _checked_labels(labels: ArrayLike, name: str) -> NDArray[np.int64]:
    values = np.asarray(labels)
    if values.ndim == 2 and values.shape[1] == 1:
        values = values[:, 0]
    if values.ndim != 1 or values.dtype.kind not in "biu":
        message = f"{name}: labels are {values.dtype} of shape {values.shape}"
        raise InputError(message, hint="give one whole number per image, shape (N,) or (N, 1)")
    if len(values) and values.min() < 0:
        message = f"{name}: the lowest label is {values.min()}"
        raise InputError(message, hint="number the classes from 0")
    return values.astype(np.int64)


def _checked_images(images: ArrayLike, name: str) -> NDArray[np.uint8]:
    values = np.asarray(images)
    if values.dtype != np.uint8:
        message = f"{name}: images are {values.dtype}, not uint8"
        raise InputError(message, hint="give pixels from 0 to 255 as uint8")
    if values.ndim == 3:
        values = values[..., None]
    if values.ndim != 4 or 0 in values.shape[1:]:
        message = f"{name}: images have shape {values.shape}"
        raise InputError(message, hint="give (N, H, W) or (N, H, W, C)")
    if values.shape[3] > 4:
        turned = " (channels first?)" if values.shape[1] <= 4 else ""
        message = f"{name}: images of shape {values.shape} have {values.shape[3]} channels{turned}"
        raise InputError(message, hint="give (N, H, W, C) with 1 to 4 channels")
    # torch reads the memory as it is: it has to be dense and writable.
    return np.require(values, requirements=["C", "W"])
