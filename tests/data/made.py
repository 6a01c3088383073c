"""Tiny image sets, made on the spot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from nnslim.data import Preprocess, Split


def random_images(count: int, side: int = 8, channels: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, channels), np.uint8)


def random_split(count: int, n_classes: int = 3, **shape: int) -> Split:
    return Split(np.arange(count) % n_classes, random_images(count, **shape), name="random")


def write_png(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels[:, :, 0] if pixels.shape[-1] == 1 else pixels).save(path)


def write_folder(root: Path, images: np.ndarray, labels: np.ndarray) -> None:
    """Write class folders; the files' names sort in the order of ``images``."""
    for number, (pixels, label) in enumerate(zip(images, labels, strict=True)):
        write_png(root / f"class{label}" / f"{number:04d}.png", pixels)


def preprocess_for(channels: int, side: int = 8, **how: object) -> Preprocess:
    mean, std = (0.4, 0.5, 0.6, 0.7)[:channels], (0.2, 0.25, 0.3, 0.35)[:channels]
    return Preprocess(size=(side, side), mean=mean, std=std, **how)
