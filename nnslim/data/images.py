"""Read an image file and bring an image to the network's input size, in uint8."""

from __future__ import annotations

from collections.abc import Callable, Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nnslim.data.preprocess import Preprocess
from nnslim.errors import InputError

if TYPE_CHECKING:
    from torchvision.transforms import InterpolationMode

__all__ = ["fit_all", "fit_image", "interpolation_mode", "is_fitted", "open_image", "read_image"]


@contextmanager
def open_image(path: str) -> Generator[Image.Image]:
    """Open an image file; whatever is wrong with it, the error names it.

    Raises:
        InputError: The file is missing or not a readable image.
    """
    try:
        with Image.open(path) as image:
            yield image
    # What Pillow raises for the many ways in which a file can be damaged.
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        reason = str(error).replace(repr(path), "file")
        message = f"{path}: not a readable image ({reason})"
        raise InputError(message, hint="replace the file or remove it") from error


def read_image(path: str, channels: int) -> NDArray[np.uint8]:
    """Decode a file to grayscale (1 channel) or RGB (3), whatever it is stored as.

    16-bit images keep their upper byte; an EXIF orientation is not applied, as in torchvision.

    Returns:
        (H, W, channels).

    Raises:
        InputError: The file is missing or not a readable image; the message names it.
    """
    with open_image(path) as image:
        if image.mode == "F":
            raise ValueError("floating-point pixels have no known range")
        if image.mode.startswith("I"):
            # Pillow would clip 16 bits at 255 and return a white image.
            gray = np.clip(np.asarray(image).astype(np.int64) >> 8, 0, 255).astype(np.uint8)
            return np.repeat(gray[:, :, None], channels, axis=2)
        pixels = np.array(image.convert("L" if channels == 1 else "RGB"))
    return pixels.reshape(*pixels.shape[:2], channels)


def is_fitted(size: tuple[int, int], preprocess: Preprocess) -> bool:
    """Whether resizing and cropping leave an image of this height and width as it is."""
    return size == preprocess.size and preprocess.resize in {None, min(size)}


def fit_image(image: NDArray[np.uint8], preprocess: Preprocess) -> NDArray[np.uint8]:
    """Resize and centre-crop as ``preprocess`` says, with antialiasing.

    Args:
        image: (H, W, C).
        preprocess: Gives the size, the resize and the interpolation.

    Returns:
        (h, w, C) with (h, w) = ``preprocess.size``.

    Example:
        >>> from nnslim.data.preprocess import Preprocess
        >>> small = Preprocess(size=(2, 2), mean=(0.5,), std=(0.5,))
        >>> fit_image(np.full((4, 4, 1), 7, np.uint8), small).tolist()
        [[[7], [7]], [[7], [7]]]
    """
    if is_fitted(image.shape[:2], preprocess):
        return image
    # Lazy: sets that need no resizing are spared torchvision's import.
    from torchvision.transforms.v2 import functional as F  # noqa: PLC0415

    pixels = torch.from_numpy(image).permute(2, 0, 1)  # (C, H, W)
    mode = interpolation_mode(preprocess)
    if preprocess.resize is None:
        pixels = F.resize(pixels, list(preprocess.size), interpolation=mode, antialias=True)
    else:
        pixels = F.resize(pixels, [preprocess.resize], interpolation=mode, antialias=True)
        pixels = F.center_crop(pixels, list(preprocess.size))
    return pixels.permute(1, 2, 0).numpy()


def interpolation_mode(preprocess: Preprocess) -> InterpolationMode:
    """Return torchvision's name for the interpolation; nearest is exact, as Pillow's is."""
    from torchvision import transforms  # noqa: PLC0415 - see fit_image

    name = preprocess.interpolation
    return transforms.InterpolationMode("nearest-exact" if name == "nearest" else name)


def fit_all(
    read: Callable[[int], NDArray[np.uint8]], count: int, preprocess: Preprocess
) -> NDArray[np.uint8]:
    """Read and fit ``count`` images with a pool of threads.

    Args:
        read: Returns image number i as (H, W, C), C being ``preprocess.channels``.
        count: How many images there are.
        preprocess: What they are fitted to.

    Returns:
        (count, h, w, C).
    """
    out = np.empty((count, *preprocess.size, preprocess.channels), np.uint8)

    def fill(start: int) -> None:
        for index in range(start, min(start + 64, count)):
            out[index] = fit_image(read(index), preprocess)

    with ThreadPoolExecutor() as pool:
        for _ in pool.map(fill, range(0, count, 64)):
            pass
    return out
