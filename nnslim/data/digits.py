"""The handwritten digits that come with scikit-learn: 1797 gray images of 8x8 pixels."""

from __future__ import annotations

import numpy as np

from nnslim.data.arrays import Defaults, data_from_splits
from nnslim.data.dataset import Data, split_off
from nnslim.data.selection import stratified_indices
from nnslim.data.split import Split

__all__ = ["load_digits"]


def load_digits() -> Data:
    """Split the digits 1257 / 180 / 360, the same way every time, so that results compare.

    Example:
        >>> data = load_digits()
        >>> len(data.train), len(data.val), len(data.test), data.preprocess.size
        (1257, 180, 360, (8, 8))
    """
    # Lazy: scikit-learn takes a second to import and nothing else needs it.
    from sklearn import datasets  # noqa: PLC0415

    flat, labels = datasets.load_digits(return_X_y=True)  # (1797, 64), (1797,)
    pixels = np.rint(flat * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)  # 0..16 -> 0..255
    every = Split(labels, pixels, name="digits")
    test, rest = split_off(every, stratified_indices(every.labels, 360, seed=0))
    val, train = split_off(rest, stratified_indices(rest.labels, 180, seed=0))
    return data_from_splits(
        "digits",
        {"train": train, "val": val, "test": test},
        classes=tuple("0123456789"),
        # Computed once from the training images; one value per set, whatever the platform.
        defaults=Defaults(mean=(0.3058,), std=(0.3764,), flip=False),
        notes=("splits: 1257 train, 180 val, 360 test, fixed and stratified",),
    )
