"""Images and labels as arrays: a MedMNIST-style `.npz` file, or the same keys in a dict."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from nnslim.data.augment import Augment
from nnslim.data.dataset import Data
from nnslim.data.preprocess import Preprocess
from nnslim.data.split import Split
from nnslim.data.statistics import channel_statistics
from nnslim.errors import InputError

__all__ = ["Defaults", "data_from_arrays", "data_from_splits", "read_npz"]

_KEYS = "train_images (N,H,W[,C]) uint8, train_labels (N,), the same for val and test, and classes"


@dataclass(frozen=True)
class Defaults:
    """What is known about a set beyond its arrays; None is computed from the images.

    Attributes:
        mean: Per channel, on the 0 to 1 scale; given together with ``std``.
        std: Per channel, on the 0 to 1 scale.
        flip: Whether mirroring an image keeps its class.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    flip: bool | None = None


def read_npz(path: Path) -> Data:
    """Read a MedMNIST-style archive without ever unpickling.

    Raises:
        InputError: A damaged file, pickled arrays, missing keys, or arrays that are not images.
    """
    if not zipfile.is_zipfile(path):
        message = f"{path}: not an .npz archive, or cut off"
        raise InputError(message, hint="copy or download it again")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
    except ValueError as error:
        message = f"{path}: an array cannot be read ({error})"
        hint = "save numbers and strings as plain arrays; pickled objects are never loaded"
        raise InputError(message, hint=hint) from error
    except (OSError, EOFError, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error) as error:
        message = f"{path}: the archive is damaged ({error})"
        raise InputError(message, hint="copy or download it again") from error
    return data_from_arrays(path.name, arrays)


def data_from_arrays(name: str, arrays: Mapping[str, ArrayLike]) -> Data:
    """Make a data set of ``train_images``, ``train_labels``, ..., and ``classes`` where given.

    Args:
        name: For messages.
        arrays: Images are (N, H, W[, C]) uint8, labels (N,) or (N, 1) whole numbers.

    Raises:
        InputError: Missing keys, or arrays that are not images and labels.

    Example:
        >>> zeros = np.zeros((2, 8, 8), np.uint8)
        >>> data = data_from_arrays("mine", {"test_images": zeros, "test_labels": [0, 1]})
        >>> data.classes, data.preprocess.size
        (('0', '1'), (8, 8))
    """
    splits: dict[str, Split] = {}
    for key in ("train", "val", "test"):
        images, labels = arrays.get(f"{key}_images"), arrays.get(f"{key}_labels")
        if images is None and labels is None:
            continue
        if images is None or labels is None:
            missing = f"{key}_images" if images is None else f"{key}_labels"
            raise InputError(f"{name}: {missing} is missing", hint=f"expected are {_KEYS}")
        splits[key] = Split(np.asarray(labels), np.asarray(images), name=f"{name} {key}")
    if not splits:
        message = f"{name}: no images among the keys {', '.join(arrays) or '(none)'}"
        raise InputError(message, hint=f"expected are {_KEYS}")
    named = arrays.get("classes")
    classes = None if named is None else tuple(str(c) for c in np.asarray(named).ravel())
    known = {f"{k}_{part}" for k in splits for part in ("images", "labels")} | {"classes"}
    unused = sorted(set(arrays) - known)
    notes = (f"not used: {', '.join(unused)}",) if unused else ()
    return data_from_splits(name, splits, classes=classes, notes=notes)


def data_from_splits(
    name: str,
    splits: Mapping[str, Split],
    *,
    classes: tuple[str, ...] | None = None,
    defaults: Defaults | None = None,
    notes: tuple[str, ...] = (),
) -> Data:
    """Put in-memory splits together; what ``defaults`` leaves open comes from the images.

    Mean and standard deviation are computed from the training images, the size is theirs, and
    images with one channel are not mirrored, because they are often digits or letters.

    Raises:
        InputError: Splits with different numbers of channels, or labels without a class.
    """
    defaults = defaults or Defaults()
    decided = list(notes)
    # A set without training images is described by those that it has.
    key = next(k for k in ("train", "val", "test") if k in splits)
    images = splits[key].images
    assert images is not None
    if len(images) == 0:
        raise InputError(f"{name}: {key} holds no images")
    for split in splits.values():
        split.require_channels(images.shape[3])
    if classes is None:
        count = 1 + max(int(split.labels.max(initial=0)) for split in splits.values())
        classes = tuple(str(label) for label in range(count))
        decided.append(f"classes: no names given, numbered 0 to {count - 1}")
    mean, std = defaults.mean, defaults.std
    if mean is None or std is None:
        mean, std = channel_statistics(images)
        decided.append(f"preprocessing: mean {mean} and std {std} computed from the {key} images")
    flip = images.shape[3] > 1 if defaults.flip is None else defaults.flip
    height, width = images.shape[1:3]
    augment = Augment(pad=min(height, width) // 8, flip=flip)
    decided.append(augment.describe())
    preprocess = Preprocess(size=(height, width), mean=mean, std=std)
    return Data(name, classes, preprocess, splits, augment, tuple(decided))
